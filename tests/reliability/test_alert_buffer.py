"""The alert buffer under SIGKILL, on a full disk, and beside readers that are in nobody's control."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from eguard.agent.buffer import AlertBuffer
from eguard.agent.buffer_reader import read_buffer
from eguard.detection.alert import Alert
from eguard.errors import AlertBufferError

#: Appends batches of seven, acknowledges some, and says what has returned.
WRITER = """
import os, sys
from pathlib import Path
from eguard.agent.buffer import AlertBuffer
from eguard.detection.alert import Alert
start, batches = int(sys.argv[2]), int(sys.argv[3])
buffer = AlertBuffer(Path(sys.argv[1]), 600_000)
for number in range(start, start + batches):
    batch = [Alert(alert_id=f"{number:06d}-{part}", host_id="h", observed_at_unix=1.0, event_class="process_exec",
        process_key="sh:cron", confidence="high", response="alert_only", reasons=("rule",), command_line="x" * 700)
        for part in range(7)]
    os.write(1, f"START {number}\\n".encode())
    buffer.append(batch)
    os.write(1, f"ACK {number}\\n".encode())
"""


def alert(name, size=0):
    facts = {"host_id": "h", "observed_at_unix": 1.0, "event_class": "process_exec", "process_key": "sh:cron"}
    facts |= {"confidence": "high", "response": "alert_only", "reasons": ("rule",), "command_line": "x" * size}
    return Alert(alert_id=str(name), **facts)


def last(lines, word):
    return max([-1, *(int(line.split()[1]) for line in lines if line.startswith(word))])


def test_killed_at_any_moment_nothing_acknowledged_is_lost_and_no_batch_is_torn(tmp_path):
    path, start = tmp_path / "alerts.db", 0
    for delay_seconds in (0.0, 0.013, 0.05, 0.11, 0.2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, path, str(start), "100000"], stdout=subprocess.PIPE
        ) as writer:
            head = writer.stdout.readline()  # it is at work
            time.sleep(delay_seconds)
            writer.kill()
            lines = (head + writer.stdout.read()).decode().split("\n")[:-1]
        assert writer.returncode == -signal.SIGKILL
        acknowledged, started = last(lines, "ACK"), last(lines, "START")
        seen = [waiting.alert_id for waiting in reversed(read_buffer(path, 100_000).newest)] if started > 0 else None
        buffer = AlertBuffer(path, 600_000)
        kept = [waiting.alert_id for waiting in buffer.oldest(100_000)]
        assert buffer.counts().set_aside_total == 0
        buffer.close()
        assert seen in (None, kept)
        newest = int(kept[-1][:6]) if kept else -1
        assert max(acknowledged, start - 1) <= newest <= max(started, start - 1)
        expected = [f"{number:06d}-{part}" for number in range(newest + 1) for part in range(7)]
        assert kept == expected[len(expected) - len(kept) :]
        start = newest + 1


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed: apt-get install strace")
def test_pages_and_then_the_emptied_journal_are_synced_before_append_returns(tmp_path):
    if subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine does not let strace attach")
    calls = "trace=write,pwrite64,fsync,fdatasync,ftruncate"
    strace = ["strace", "-f", "-y", "-o", tmp_path / "trace", "-e", calls]
    command = [*strace, sys.executable, "-c", WRITER, tmp_path / "alerts.db", "0", "3"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})
    lines = (tmp_path / "trace").read_text().split("\n")
    begins = [index for index, line in enumerate(lines) if "START 2" in line]
    ends = [index for index, line in enumerate(lines) if "ACK 2" in line]
    commit = [line.split(None, 1)[1] for line in lines[begins[0] + 1 : ends[0]] if "alerts.db" in line]
    kinds = [(line.split("(")[0].replace("fdatasync", "fsync"), "-journal>" in line) for line in commit]
    written = max(index for index, kind in enumerate(kinds) if kind == ("pwrite64", False))
    assert kinds[written + 1 :] == [("fsync", False), ("ftruncate", True), ("fsync", True)]
    first = min(index for index, kind in enumerate(kinds) if kind == ("pwrite64", False))
    assert ("fsync", True) in kinds[:first], "the journal is on the disk before a page of the file changes"


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mount.returncode:
        pytest.skip(f"cannot mount a small disk: {mount.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_refuses_and_the_next_append_after_it_works(small_disk):
    buffer = AlertBuffer(small_disk / "alerts.db")
    buffer.append([alert("first", 1000)])
    (small_disk / "ballast").write_bytes(b"x" * 500_000)
    kept = ["first"]

    def fill():
        for number in range(100):
            buffer.append([alert(number, 9000)])
            kept.append(str(number))

    with pytest.raises(AlertBufferError) as refusal:
        fill()
    assert refusal.value.reason == "disk_full"
    assert [waiting.alert_id for waiting in buffer.oldest(999)] == kept
    (small_disk / "ballast").unlink()
    buffer.append([alert("after", 9000)])
    assert [waiting.alert_id for waiting in buffer.oldest(999)] == [*kept, "after"]
    assert buffer.counts().set_aside_total == 0
    buffer.close()


def test_a_disk_that_is_full_from_the_start_is_no_damage(small_disk):
    (small_disk / "ballast").write_bytes(b"x" * (600 * 1024 - 4096 * 2))
    buffer = AlertBuffer(small_disk / "alerts.db")
    with pytest.raises(AlertBufferError):
        buffer.append([alert("a", 9000)])
    (small_disk / "ballast").unlink()
    buffer.append([alert("a", 9000)])
    assert buffer.counts().waiting == 1
    assert buffer.counts().set_aside_total == 0
    buffer.close()


def test_a_read_only_folder_is_told(small_disk):
    buffer = AlertBuffer(small_disk / "alerts.db")
    buffer.append([alert("a")])
    buffer.close()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for _ in range(2):
        with pytest.raises(AlertBufferError) as refusal:
            buffer.append([alert("b")])
        assert refusal.value.reason in ("unusable_file", "read_only")
    subprocess.run(["mount", "-o", "remount,rw", small_disk], check=True)
    buffer.append([alert("b")])
    assert [waiting.alert_id for waiting in buffer.oldest(9)] == ["a", "b"]
    buffer.close()


def test_readers_all_the_time_cost_the_writer_no_alert_and_no_stall(tmp_path):
    path = tmp_path / "alerts.db"
    with AlertBufferAt(path) as buffer:
        buffer.append([alert("first")])
        reader = "import sys; from pathlib import Path; from eguard.agent.buffer_reader import read_buffer\n"
        reader += "while True: print(read_buffer(Path(sys.argv[1]), 50).waiting, flush=True)"
        with subprocess.Popen([sys.executable, "-c", reader, path], stdout=subprocess.PIPE) as process:
            process.stdout.readline()
            for number in range(150):
                buffer.append([alert(f"{number}-{part}", 500) for part in range(20)])  # raises after a second's wait
            assert process.poll() is None, "the reader never gave up either"
            process.kill()
            answers = [int(line) for line in process.stdout.read().split(b"\n")[:-1] if line]
        assert buffer.counts().waiting == 3001
        assert answers
        assert answers == sorted(answers)
        assert all(answer % 20 == 1 for answer in answers), "a reader sees whole batches"


class AlertBufferAt:
    """A buffer that is closed at the end."""

    def __init__(self, path):
        self.buffer = AlertBuffer(path)

    def __enter__(self):
        return self.buffer

    def __exit__(self, *_):
        self.buffer.close()


def test_a_commit_broken_off_by_a_kill_is_read_as_if_it_had_not_begun(tmp_path):
    path = tmp_path / "alerts.db"
    with AlertBufferAt(path) as buffer:
        buffer.append([alert(number, 2000) for number in range(2000)])
        before = path.read_bytes()
        # A transaction that spills its pages, copied from under it: the state that SIGKILL leaves.
        connection = buffer._open()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE alert SET body = zeroblob(2000)")
        (tmp_path / "left").mkdir()
        left = tmp_path / "left" / "alerts.db"
        shutil.copy(path, left)
        shutil.copy(tmp_path / "alerts.db-journal", left.with_name("alerts.db-journal"))
        connection.execute("ROLLBACK")
    assert left.read_bytes() != before
    torn = left.read_bytes()
    found = read_buffer(left, 3000)
    assert [each.alert_id for each in reversed(found.newest)] == [str(number) for number in range(2000)]
    assert all(each.body.startswith(b"{") for each in found.newest)
    assert left.read_bytes() == torn, "a reader changes nothing"
    with AlertBufferAt(left) as buffer:
        assert [each.body for each in buffer.oldest(3000)] == [each.body for each in reversed(found.newest)]


def test_the_journal_of_a_damaged_file_is_not_played_into_the_new_one(tmp_path):
    path, left = tmp_path / "alerts.db", tmp_path / "left" / "alerts.db"
    with AlertBufferAt(path) as buffer:
        buffer.append([alert(number, 2000) for number in range(2000)])
        connection = buffer._open()
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE alert SET body = zeroblob(2000)")
        left.parent.mkdir()
        shutil.copy(tmp_path / "alerts.db-journal", left.with_name("alerts.db-journal"))
        connection.execute("ROLLBACK")
    # The first page was not in the journal, or was not written back: what is played back is no database.
    left.write_bytes(b"\xff" * path.stat().st_size)
    with AlertBufferAt(left) as buffer:
        buffer.append([alert("new")])
        assert [waiting.alert_id for waiting in buffer.oldest(9)] == ["new"]
        assert buffer.counts().set_aside_total == 1


def test_no_buffer_and_no_database_are_told(tmp_path):
    with pytest.raises(AlertBufferError, match="there is no alert buffer"):
        read_buffer(tmp_path / "alerts.db", 5)
    (tmp_path / "alerts.db").write_bytes(b"text" * 2000)
    with pytest.raises(AlertBufferError, match="cannot be read"):
        read_buffer(tmp_path / "alerts.db", 5)
    sqlite3.connect(tmp_path / "empty.db").close()
    (tmp_path / "empty.db").touch()
    with pytest.raises(AlertBufferError, match="cannot be read"):
        read_buffer(tmp_path / "empty.db", 5)
