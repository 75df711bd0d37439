"""The alert buffer keeps what it took, in order, within its bound, and answers trouble with one kind of error."""

import os
import sqlite3
import stat
import time
from collections import OrderedDict

import msgspec
import numpy as np
import pytest
import structlog

from eguard.agent.alert_file import PAGE_BYTES, files_bytes
from eguard.agent.buffer import MIN_MAX_BYTES, AlertBuffer
from eguard.clock import SimulatedClock
from eguard.detection.alert import Alert
from eguard.errors import AlertBufferError, ConfigError


def alert(name, size=0, **facts):
    base = {"host_id": "h", "observed_at_unix": 1.0, "event_class": "process_exec", "process_key": "sh:cron"}
    facts = {**base, "confidence": "high", "response": "alert_only", "reasons": ("rule",), **facts}
    return Alert(alert_id=str(name), command_line="x" * size, **facts)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "alerts.db"


@pytest.fixture
def opened(path):
    buffers = []

    def open_buffer(**options):
        buffers.append(AlertBuffer(path, **options))
        return buffers[-1]

    yield open_buffer
    for buffer in buffers:
        buffer.close()


def ids(buffer, limit=100_000):
    return [waiting.alert_id for waiting in buffer.oldest(limit)]


def test_first_in_first_out_and_whole(opened):
    buffer = opened()
    buffer.append([alert("a"), alert("b", reasons=("one", "two"))])
    buffer.append([alert("c")])
    assert ids(buffer) == ["a", "b", "c"]
    assert ids(buffer, 2) == ["a", "b"]
    assert msgspec.json.decode(buffer.oldest(2)[1].body, type=Alert) == alert("b", reasons=("one", "two"))
    buffer.acknowledge([waiting.sequence for waiting in buffer.oldest(2)])
    assert ids(buffer) == ["c"]
    counts = buffer.counts()
    assert (counts.waiting, counts.appended_total, counts.dropped_total) == (1, 3, 0)


def test_the_same_alert_again_changes_nothing(opened):
    buffer = opened()
    buffer.append([alert("a"), alert("a", reasons=("other",))])
    first = buffer.oldest(9)
    buffer.append([alert("a", reasons=("third",))])
    assert buffer.oldest(9) == first
    assert (buffer.counts().waiting, buffer.counts().appended_total) == (1, 1)


def test_a_number_is_never_used_for_another_alert(opened, path):
    buffer = opened()
    buffer.append([alert("a"), alert("b")])
    numbers = [waiting.sequence for waiting in buffer.oldest(9)]
    buffer.acknowledge(numbers)
    buffer.close()
    buffer.append([alert("c")])
    buffer.acknowledge(numbers)
    assert ids(buffer) == ["c"]
    buffer.close()
    path.write_bytes(b"no database at all, but of some length" * 200)
    buffer.append([alert("d")])
    buffer.acknowledge([*numbers, 3])
    assert ids(buffer) == ["d"]


def test_everything_is_there_after_reopening(opened, path):
    opened().append([alert(number, 300) for number in range(50)])
    again = opened()
    assert ids(again) == [str(number) for number in range(50)]
    assert again.counts().appended_total == 50
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_journal_is_as_private_as_the_file(opened, path):
    opened().append([alert("a")])
    assert stat.S_IMODE(path.with_name("alerts.db-journal").stat().st_mode) == 0o600


def test_hostile_names_travel_as_text(opened):
    buffer = opened()
    buffer.append([alert("\udcff", process_key="\udce9\x1b[2J:\x00"), alert("\\udcff")])
    # The first alert's id is written out as the text of the second one's.
    (waiting,) = buffer.oldest(9)
    assert msgspec.json.decode(waiting.body, type=Alert).process_key == "\\udce9\x1b[2J:\x00"


@pytest.mark.parametrize("seed", range(3))
def test_the_file_stays_within_its_bound_and_drops_the_oldest(opened, path, seed):
    """Against a model of what fits: a suffix of what was appended and not acknowledged, at least half the bound."""
    rng = np.random.default_rng(seed)
    buffer, model, dropped, number = opened(max_bytes=MIN_MAX_BYTES), OrderedDict(), 0, 0
    for _ in range(60):
        sizes = rng.integers(0, 12_000, rng.integers(1, 12)).tolist()
        batch = [alert(f"{number + index:032x}", size) for index, size in enumerate(sizes)]
        number += len(batch)
        buffer.append(batch)
        assert files_bytes(path) <= MIN_MAX_BYTES
        model.update((each.alert_id, len(each.to_json())) for each in batch)
        kept = ids(buffer)
        while model and next(iter(model)) != kept[0]:
            model.popitem(last=False)
            dropped += 1
        assert list(model) == kept
        if rng.random() < 0.2:
            gone = [waiting.sequence for waiting in buffer.oldest(int(rng.integers(1, 10)))]
            buffer.acknowledge(gone)
            for _ in gone:
                model.popitem(last=False)
    counts = buffer.counts()
    assert (counts.waiting, counts.dropped_total, counts.appended_total) == (len(model), dropped, number)
    assert dropped > 100
    # Full means full: what is used and what one more alert could need leave no half-empty file behind.
    buffer.append([alert(f"last{index}", 1000) for index in range(300)])
    assert sum(len(waiting.body) for waiting in buffer.oldest(999)) > MIN_MAX_BYTES / 2


def test_the_bound_holds_at_every_moment_of_a_commit(opened, path):
    """The journal's allowance: twice the batch and 64 KiB; at rest nothing."""
    buffer = opened(max_bytes=1_000_000)
    batch_bytes, largest = 0, 0
    buffer.append([alert("first")])

    def look(_):
        nonlocal largest
        largest = max(largest, files_bytes(path))

    buffer._connection.set_trace_callback(look)
    for number in range(60):
        batch = [alert(f"{number}-{index}", 3000) for index in range(40)]
        batch_bytes = sum(len(each.to_json()) for each in batch)
        buffer.append(batch)
        assert path.stat().st_size <= 1_000_000
        assert files_bytes(path) == path.stat().st_size
    assert buffer.counts().dropped_total > 1000
    assert largest <= 1_000_000 + 2 * batch_bytes + 65_536


def test_a_batch_larger_than_the_buffer_leaves_its_newest(opened, path):
    buffer = opened(max_bytes=MIN_MAX_BYTES)
    buffer.append([alert(number, 2000) for number in range(500)])
    kept = ids(buffer)
    assert kept == [str(number) for number in range(500 - len(kept), 500)]
    assert 30 < len(kept) < 130
    assert buffer.counts().dropped_total == 500 - len(kept)
    assert path.stat().st_size <= MIN_MAX_BYTES


def test_an_alert_larger_than_the_buffer_is_dropped_alone(opened):
    buffer = opened(max_bytes=MIN_MAX_BYTES)
    buffer.append([alert("small"), alert("huge", MIN_MAX_BYTES), alert("after")])
    assert ids(buffer) == ["small", "after"]
    assert (buffer.counts().appended_total, buffer.counts().dropped_total) == (3, 1)


def test_a_lowered_bound_is_obeyed_at_once(opened, path):
    opened(max_bytes=3_000_000).append([alert(number, 2000) for number in range(1000)])
    assert path.stat().st_size > 2_000_000
    buffer = opened(max_bytes=500_000)
    kept = ids(buffer)
    assert path.stat().st_size <= 500_000
    assert kept == [str(number) for number in range(1000 - len(kept), 1000)]
    assert buffer.counts().dropped_total == 1000 - len(kept)


def test_the_disk_gets_back_what_was_acknowledged(opened, path):
    buffer = opened()
    buffer.append([alert(number, 2000) for number in range(3000)])
    before = path.stat().st_size
    buffer.acknowledge([waiting.sequence for waiting in buffer.oldest(3000)])
    assert before > 6_000_000
    assert path.stat().st_size < 300 * PAGE_BYTES


def test_a_commit_is_as_durable_as_the_disk(opened):
    buffer = opened()
    buffer.append([alert("a")])
    assert buffer._connection.execute("PRAGMA journal_mode").fetchone() == ("truncate",)
    assert buffer._connection.execute("PRAGMA synchronous").fetchone() == (2,)


def test_sqlite_itself_is_told_the_bound(opened):
    buffer = opened(max_bytes=1_000_000)
    buffer.counts()
    assert buffer._connection.execute("PRAGMA max_page_count").fetchone() == (1_000_000 // PAGE_BYTES,)


def overwrite(path, at, data):
    with path.open("r+b") as stream:
        stream.seek(at)
        stream.write(data)


DAMAGE = {
    "garbage": lambda path: path.write_bytes(os.urandom(50_000)),
    "cut": lambda path: os.truncate(path, 5000),
    "middle": lambda path: overwrite(path, 2 * PAGE_BYTES, b"\xff" * 3 * PAGE_BYTES),
    "header": lambda path: overwrite(path, 0, b"PK\x03\x04"),
}


@pytest.mark.parametrize("kind", sorted(DAMAGE))
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(opened, path, kind):
    first = opened()
    first.append([alert(number, 500) for number in range(100)])
    first.close()
    DAMAGE[kind](path)
    damaged = path.read_bytes()
    buffer = opened()
    buffer.append([alert("new")])
    assert ids(buffer) == ["new"]
    assert buffer.counts().set_aside_total == 1
    (aside,) = [found for found in path.parent.iterdir() if ".damaged-" in found.name]
    assert aside.read_bytes() == damaged


@pytest.mark.parametrize("statement", ["CREATE TABLE x (y)", "PRAGMA user_version = 9"])
def test_a_database_of_something_else_is_set_aside(opened, path, statement):
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    buffer = opened()
    buffer.append([alert("a")])
    assert ids(buffer) == ["a"]
    assert [found.name for found in path.parent.glob("*.damaged-*")] == ["alerts.db.damaged-foreign-format"]


def test_damage_under_an_open_buffer_is_found_and_survived(opened, path):
    buffer = opened()
    buffer.append([alert(number, 3000) for number in range(900)])  # more than the page cache holds
    DAMAGE["garbage"](path)
    buffer.append([alert("new")])
    assert ids(buffer) == ["new"]
    assert buffer.counts().set_aside_total == 1


def test_only_the_last_damaged_file_is_kept(opened, path):
    buffer = opened()
    for content in (b"one" * 3000, b"two" * 3000):
        buffer.close()
        path.write_bytes(content)
        buffer.append([alert("a")])
    assert [found.read_bytes()[:3] for found in path.parent.glob("*.damaged-*")] == [b"two"]


def test_a_link_in_its_place_is_refused_and_not_followed(opened, path, tmp_path):
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(AlertBufferError, match="cannot open") as refusal:
        opened().append([alert("a")])
    assert refusal.value.reason == "unusable_file"
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_folder_is_told_and_works_once_it_is_there(tmp_path):
    buffer = AlertBuffer(tmp_path / "later" / "alerts.db")
    with pytest.raises(AlertBufferError, match="No such file"):
        buffer.append([alert("a")])
    (tmp_path / "later").mkdir()
    buffer.append([alert("a")])
    assert ids(buffer) == ["a"]
    buffer.close()


def test_somebody_who_holds_the_lock_costs_a_second_and_no_alert(opened, path):
    buffer = opened()
    buffer.append([alert("a")])
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    waited = []
    for _ in range(5):
        begin = time.monotonic()
        with pytest.raises(AlertBufferError, match="locked") as refusal:
            buffer.append([alert("b")])
        waited.append(time.monotonic() - begin)
        assert refusal.value.reason == "busy"
    assert waited[0] >= 0.9
    assert min(waited[1:]) < 0.5, "who holds it for longer costs the others nothing"
    holder.execute("ROLLBACK")
    holder.close()
    buffer.append([alert("b")])
    assert ids(buffer) == ["a", "b"]
    assert buffer._connection.execute("PRAGMA busy_timeout").fetchone() == (1000,)


def test_drops_are_logged_once_a_minute_with_their_number(opened):
    clock = SimulatedClock(0.0)
    buffer = opened(max_bytes=MIN_MAX_BYTES, clock=clock)
    with structlog.testing.capture_logs() as logs:
        for second in range(100):
            clock.advance_to(second)
            buffer.append([alert(f"{second}-{number}", 2000) for number in range(50)])
        clock.advance_to(200)
        buffer.append([alert("last", 50_000)])
    assert [line["event"] for line in logs] == ["dropped buffered alerts"] * 3
    assert sum(line["dropped"] for line in logs) == buffer.counts().dropped_total


def test_too_small_a_bound_is_refused(path):
    with pytest.raises(ConfigError, match="holds nothing"):
        AlertBuffer(path, max_bytes=1000)


def test_empty_calls_touch_nothing(opened, path):
    buffer = opened()
    buffer.append([])
    buffer.acknowledge([])
    assert not path.exists()
