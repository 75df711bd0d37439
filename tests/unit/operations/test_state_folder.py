import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER_CHECKS = ("state_folder", "durable_writes", "disk_space")


@pytest.fixture
def state(settings):
    folder = settings().state_path
    folder.mkdir(mode=0o700)
    return folder


@pytest.mark.parametrize("name", FOLDER_CHECKS)
def test_a_folder_as_the_agent_makes_it_is_fine_and_stays_as_it_was(examine, state, name):
    assert examine(name).state == "ok"
    assert list(state.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "expected"), [("state_folder", "skipped"), ("durable_writes", "skipped"), ("disk_space", "ok")]
)
def test_no_folder_is_no_failure(examine, name, expected):
    assert examine(name).state == expected


@pytest.mark.parametrize(("mode", "expected"), [(0o755, "warning"), (0o770, "failed"), (0o702, "failed")])
def test_a_folder_that_others_can_reach_is_told(examine, state, mode, expected):
    state.chmod(mode)
    found = examine("state_folder")
    assert (found.state, found.remedy) == (expected, f"sudo chmod 700 {state}")


def test_a_link_and_a_file_are_no_folder(examine, settings, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    settings().state_path.symlink_to(tmp_path / "elsewhere")
    assert "symbolic link" in examine("state_folder").cause
    settings().state_path.unlink()
    settings().state_path.write_text("")
    found = examine("state_folder")
    assert (found.state, "is not a folder" in found.cause) == ("failed", True)


def test_somebody_elses_folder_is_not_judged(examine, state, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: state.stat().st_uid + 1)
    found = examine("state_folder")
    assert found.state == "skipped"
    assert "run it as the agent's user" in found.cause


@pytest.mark.parametrize(
    ("free_mebibytes", "inodes", "expected", "says"),
    [
        (15, 10**6, "failed", "15 MiB free"),
        (200, 10**6, "warning", "may need 351 MiB"),
        (400, 999, "warning", "few inodes"),
        (400, 31, "failed", "31 inodes"),
        (400, None, "ok", "400 MiB free"),
    ],
    ids=["full", "tight", "few inodes", "no inodes", "no such number"],
)
def test_room_is_measured_against_what_the_agent_may_keep(
    examine, state, monkeypatch, free_mebibytes, inodes, expected, says
):
    files = 0 if inodes is None else 10**7
    found = SimpleNamespace(f_bavail=free_mebibytes << 8, f_frsize=4096, f_files=files, f_favail=inodes or 0)
    monkeypatch.setattr(os, "statvfs", lambda _: found)
    answer = examine("disk_space")
    assert (answer.state, says in answer.cause) == (expected, True), answer


@pytest.fixture
def full_disk(state):
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", state], check=False)
    if mounted.returncode != 0:
        pytest.skip("this user cannot mount a small disk")
    yield state
    subprocess.run(["umount", state], check=True)


def test_a_disk_that_is_really_full(examine, full_disk):
    Path(full_disk, "fill").write_bytes(bytes(1 << 16))
    found = examine("durable_writes")
    assert found.state == "failed"
    assert "No space left on device" in found.cause
    assert [path.name for path in full_disk.iterdir()] == ["fill"]
    assert examine("disk_space").state == "failed"


@pytest.mark.parametrize("call", [1, 2], ids=["file", "folder"])
def test_a_sync_that_fails_is_told(examine, state, monkeypatch, call):
    calls = []

    def sync(_handle):
        calls.append(1)
        if len(calls) == call:
            raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", sync)
    found = examine("durable_writes")
    assert (found.state, "Input/output error" in found.cause) == ("failed", True)
    assert list(state.iterdir()) == []


def test_a_slow_disk_is_told(examine, state, monkeypatch):
    times = iter([0.0, 0.75])
    monkeypatch.setattr("eguard.operations.state_folder.time.perf_counter", lambda: next(times))
    found = examine("durable_writes")
    assert (found.state, "0.75 s" in found.cause) == ("warning", True)
