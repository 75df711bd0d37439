"""The shipped command, killed by the kernel at a system call of its own, and what a reader then finds."""

import os
import shutil
import subprocess
import sys

import pytest

from eguard.baseline.exercise import EXERCISE_CAPACITY, exercise
from eguard.baseline.store import BaselineStore

OPERATIONS = 18
COMMAND = [sys.executable, "-c", "from eguard.cli.app import main; main()", "store", "exercise"]
#: System call and which of them is the last one of this process. Sampled over the start, a compaction and the end.
KILLS = [("write", 22), ("fsync", 7), ("fdatasync", 9), ("rename", 5), ("unlink", 4), ("ftruncate", 1)]
#: The C library calls them by several names.
SYSCALLS = {"rename": "/rename", "unlink": "/unlink", "write": "write,pwrite64"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace"),
]


def strace_works():
    return subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True).returncode == 0


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


@pytest.mark.parametrize(("syscall", "number"), KILLS, ids=[f"{name}-{number}" for name, number in KILLS])
def test_killed_at_a_system_call(tmp_path, judge, expected_states, state_in, syscall, number):
    if not strace_works():
        pytest.skip("this machine does not let strace attach")
    folder = tmp_path / "state"
    first = 0
    if syscall == "ftruncate":
        with BaselineStore.open(folder, EXERCISE_CAPACITY) as store:
            exercise(store, 3, seed=0)
        with (folder / "baselines.journal").open("ab") as journal:
            journal.write(b"eGjr, and no more")
        first = 3
    calls = SYSCALLS.get(syscall, syscall)
    inject = f"inject={calls}:signal=KILL:when={number}"
    strace = ["strace", "-f", "-o", tmp_path / "trace"]
    answer = subprocess.run(
        [*strace, "-e", f"trace={calls}", "-e", inject, *COMMAND, folder, "--ops", str(OPERATIONS)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},  # so that all these calls are the store's, or ACKs
    )
    trace = (tmp_path / "trace").read_text()
    assert "+++ killed by SIGKILL +++" in trace, (answer.stdout, answer.stderr, trace)
    lines = [line.split() for line in answer.stdout.splitlines()]
    acknowledged = max([first, *(int(number) for what, number in lines if what == "ACK")])
    started = max([first, *(int(number) for what, number in lines if what == "START")])

    judged = judge(files_in(folder))
    if judged is None or "status" not in judged:
        assert started == 0
        return
    assert acknowledged <= judged["operation"] <= started
    assert judged["damage"] == []
    state = {name: value for name, value in judged.items() if name not in ("generation", "damage")}
    assert state == expected_states[judged["operation"]]
    with BaselineStore.open(folder, EXERCISE_CAPACITY) as store:
        assert state_in(store) == state
        store.set_policy_revision(1)
        assert judge(files_in(folder))["operation"] == state["operation"] + 1
