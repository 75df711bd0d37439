"""A store that is killed at any statement of a transaction keeps what it had; one that answered keeps what it said."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).with_name("crashing_store.py")


def outcomes(tmp_path, operation):
    run = subprocess.run(
        [sys.executable, str(SCRIPT), str(tmp_path), operation],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    found = [json.loads(line) for line in run.stdout.splitlines()]
    assert [seen["killed"] for seen in found] == [True] * (len(found) - 1) + [False]
    return found


@pytest.mark.parametrize("operation", ["aggregate", "rollback"])
def test_a_publication_killed_anywhere_leaves_the_old_generation_whole(tmp_path, operation):
    *killed, finished = outcomes(tmp_path, operation)
    assert len(killed) >= 8
    for seen in killed:
        assert (seen["generation"], seen["rows"], seen["values"], seen["health"]) == (1, 5, [["process_exec"]], 0)
    expected = [["alert", "process_exec"]] if operation == "aggregate" else [["process_exec"]]
    assert (finished["generation"], finished["rows"], finished["values"]) == (2, 5, expected)
    assert finished["health"] == 2


def test_an_upload_killed_anywhere_is_stored_whole_or_not_at_all(tmp_path):
    *killed, finished = outcomes(tmp_path, "upsert")
    assert len(killed) >= 4
    assert [seen["stale"] for seen in killed] == [0] * len(killed)
    assert finished["stale"] == 5
