"""The commands as a user runs them: help, exit codes, messages with remedies, JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


def eguard(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-c", "from eguard.cli.app import main; main()", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_help_teaches():
    answer = eguard("--help")
    assert answer.returncode == 0
    for word in ("bundle", "ml", "make demo"):
        assert word in answer.stdout


def test_version_is_one_line():
    assert eguard("--version").stdout.strip().count(".") == 2


def test_unknown_command_is_wrong_usage():
    assert eguard("nonsense").returncode == 2


def test_formats_are_listed_as_json():
    formats = json.loads(eguard("ml", "formats", "--json").stdout)
    assert {"sysmon", "sysmon-csv", "defender", "osquery", "auditd", "zeek", "ait"} <= formats.keys()


def test_verify_without_repository_is_a_clear_error(tmp_path):
    answer = eguard("bundle", "verify", cwd=tmp_path)
    assert answer.returncode == 2
    assert "1.root.json" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_init_is_idempotent(tmp_path):
    first = json.loads(eguard("bundle", "init", "--json", cwd=tmp_path).stdout)
    again = json.loads(eguard("bundle", "init", "--json", cwd=tmp_path).stdout)
    assert first == again
    assert first["versions"]["targets"] == 1


def test_publish_without_a_bundle_says_what_to_do(tmp_path):
    eguard("bundle", "init", cwd=tmp_path)
    answer = eguard("bundle", "publish", cwd=tmp_path)
    assert answer.returncode == 1
    assert "holds no models/manifest.json" in answer.stderr
    assert "remedy" in answer.stderr


def test_indicator_lists_are_checked_before_they_are_taken(tmp_path):
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("kind,value,source\ndomain,evil.example,report 7\n")
    bad.write_text("kind,value,source\nsha256,not-a-hash,report 7\n")
    answer = eguard("bundle", "add-indicators", good, "--into", tmp_path / "lists", "--json")
    assert json.loads(answer.stdout)["by_kind"] == {"domain": 1}
    refused = eguard("bundle", "add-indicators", bad, "--into", tmp_path / "lists")
    assert refused.returncode == 2
    assert "not-a-hash" in refused.stderr
    assert [path.name for path in (tmp_path / "lists").iterdir()] == ["good.csv"]


@pytest.mark.parametrize("content", [b"", b"\x00\x01garbage\xff" * 50, b"{}\n" * 5])
def test_garbage_input_is_refused_without_a_traceback(tmp_path, content):
    path = tmp_path / "garbage.bin"
    path.write_bytes(content)
    answer = eguard("ml", "replay", "--source", "sysmon", "--input", path, "--out", tmp_path / "out")
    assert answer.returncode in (1, 2)
    assert "error:" in answer.stderr
    assert "Traceback" not in answer.stderr
