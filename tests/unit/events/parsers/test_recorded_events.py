"""Recordings: what was watched comes back as it was, on the fast way and on the slow one; what is bad is counted."""

import gzip
import json
import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eguard.errors import CorruptFileError
from eguard.events import BATCH_EVENTS, UNCOUNTED, Event, EventClass
from eguard.events.columns import LIST_COLUMNS, NUMERIC_COLUMNS
from eguard.events.parsers import ParseReport, detect_format, read_batches, read_events
from eguard.events.parsers.recorded_events import encode_event

GOLDEN = Path(__file__).parents[3] / "golden" / "recorded_events.jsonl"
NAME = "eguard-events"
BASE = {"time_unix": 5.0, "host_id": "web", "event_class": "login"}
CODES = {each.name.lower(): int(each) for each in EventClass} | {"uncounted": UNCOUNTED}


def parse(path, group=""):
    report = ParseReport()
    events = [event for batch in read_batches(path, NAME, report, group) for event in batch.rows()]
    assert report.accepted == len(events)
    return events, report


def write(path, *lines):
    path.write_bytes(
        b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)
    )
    return path


def row_by_row(line):
    """Peer: what one line says, by the standard library and rules written out; None if it is no event."""
    try:
        record = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not {"time_unix", "host_id", "event_class"} <= record.keys():
        return None
    values = {}
    for name in Event.__struct_fields__:
        if name not in record:
            continue
        value = record[name]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if name in ("time_unix", "duration_seconds"):
            sound = is_number and 0 <= value < (253_402_300_800 if name == "time_unix" else math.inf)
            value = float(value) if sound else value
        elif name == "event_class":
            sound = isinstance(value, str) and value in CODES
            value = CODES[value] if sound else value
        elif name == "is_elevated":
            sound = isinstance(value, bool)
        elif name == "fields":
            sound = value is None or (isinstance(value, dict) and all(isinstance(v, str) for v in value.values()))
        elif name in NUMERIC_COLUMNS:
            most = {"destination_port": 65_535, "event_code": 2**31 - 1}.get(name, 2**63 - 1)
            sound = is_number and isinstance(value, int) and 0 <= value <= most
        else:
            sound = isinstance(value, str) and (value != "" or name != "host_id")
        if not sound:
            return None
        values[name] = value
    return Event(**values)


def test_an_old_recording_opens_for_ever():
    assert detect_format(GOLDEN) == NAME
    events, report = parse(GOLDEN)
    assert (report.accepted, dict(report.skipped), report.rejected.total()) == (48, {"watch_counters": 1}, 0)
    assert events[2] == Event(
        time_unix=1772366400.02,
        host_id="web-1",
        event_class=EventClass.NETWORK_CONNECT,
        comm="backup.sh",
        parent_comm="cron",
        source="ebpf",
        event_type="tcp_connect",
        pid=4103,
        parent_pid=900,
        user="root",
        is_elevated=True,
        image_path="/usr/bin/backup.sh",
        command_line="backup.sh --quiet /srv/data/0",
        destination_address="2001:db8::7",
        destination_port=443,
        sent_bytes=517,
        received_bytes=3120,
        duration_seconds=0.125,
    )
    assert events[43].comm == "l\udcffs\x1b[2J"
    assert events[45].fields == {"Image": "C:\\Windows\\cmd.exe", "CommandLine": "cmd /c whoami"}
    # Lines of the first release: the same fields in alphabetical order, with blanks.
    assert events[46:48] == events[:2]
    assert {event.event_class for event in events} == {*EventClass, UNCOUNTED}


def test_the_lines_that_are_written_do_not_change():
    events = parse(GOLDEN)[0][:46]
    assert [encode_event(event) for event in events] == GOLDEN.read_text().splitlines()[:46]


def test_a_name_that_quotes_another_format_does_not_make_it_one(tmp_path):
    hostile = 'audit( "Channel" "hostIdentifier" "id" orig_h "rule_id" "event_data" <Event AuditdMessage #fields'
    line = encode_event(Event(time_unix=1.0, host_id="h", event_class=0, comm=hostile, command_line=hostile))
    assert detect_format(write(tmp_path / "a", line.encode())) == NAME


def test_a_recording_of_a_quiet_minute_has_no_events_and_is_one(tmp_path):
    path = write(tmp_path / "quiet.jsonl", {"counters": {}, "sensor": "ebpf"})
    assert detect_format(path) == NAME
    assert parse(path)[0] == []


TEXT = st.text(st.characters(codec=None, exclude_categories=()), max_size=12) | st.sampled_from(
    ["\udcff", "\ud800x", "\x00", '"},{"pid":1', "\\", "\n", "\u2028", "é😀", "event_class"]
)
WHOLE = st.integers(0, 2**63 - 1) | st.integers(0, 70_000)
VALUES = (
    dict.fromkeys(LIST_COLUMNS, TEXT)
    | dict.fromkeys(NUMERIC_COLUMNS, WHOLE)
    | {
        "time_unix": st.floats(0.0, 253_402_300_799.0),
        "host_id": TEXT.filter(bool),
        "event_class": st.sampled_from(sorted(CODES.values())),
        "event_code": st.integers(0, 2**31 - 1),
        "destination_port": st.integers(0, 65_535),
        "is_elevated": st.booleans(),
        "duration_seconds": st.floats(0.0, 1e9),
        "fields": st.none() | st.dictionaries(TEXT, TEXT, min_size=1, max_size=3),
    }
)
EVENTS = st.fixed_dictionaries(
    {name: VALUES[name] for name in BASE},
    optional={name: VALUES[name] for name in VALUES if name not in BASE},
).map(lambda values: Event(**values))
FILES = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FILES
@given(events=st.lists(EVENTS, max_size=6))
def test_what_is_written_is_read_back_whatever_the_names(tmp_path, events):
    path = tmp_path / "day.jsonl"
    path.write_text("".join(encode_event(event) + "\n" for event in events), "ascii")
    assert parse(path)[0] == events
    assert list(read_events(path, NAME)) == events


SOUND = b'{"time_unix":1,"host_id":"h","event_class":"login"}'
RAW_LINES = st.sampled_from(
    [
        *(b"", b" \t\r", b"{", b"[]", b"7", b"null", b"\xff", b'{"a":' * 3_000),
        *(b'{"time_unix":1,', b'"host_id":"h","event_class":"login"}', b'{"counters":{}}'),
        *(SOUND + b"\r", SOUND + b" " + SOUND, SOUND + SOUND, b"  " + SOUND, b"[" + SOUND + b"]"),
        *(SOUND.replace(b"1", number) for number in (b"01", b"1e999", b"NaN", b"-0.0", b"1 ", b'1,"time_unix":2')),
        *(SOUND.replace(b'"h"', text) for text in (b'"\xff"', b'"\xed\xa0\x80"', b'"h\x01"', b'"\\ud800"', b'"\\x"')),
        *(SOUND.replace(b"login", name) for name in (b"log\\ud800", b"log\\u0069n", b"Login", b'login","counters":"')),
        SOUND.replace(b"}", b',"pid":' + b"9" * 5_000 + b"}"),
    ]
)
ODD = (
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | TEXT | st.lists(st.integers(), max_size=2)
)
NAMED = VALUES | {"event_class": st.sampled_from([*CODES, "exec"])}
RECORDS = st.tuples(
    st.fixed_dictionaries(
        {name: NAMED[name] for name in BASE}, optional={name: NAMED[name] for name in NAMED if name not in BASE}
    ),
    st.dictionaries(st.sampled_from([*NAMED, "later"]), ODD, max_size=2),
).map(lambda parts: json.dumps(parts[0] | parts[1]).encode())


@FILES
@given(lines=st.lists(RAW_LINES | RECORDS | EVENTS.map(lambda event: encode_event(event).encode()), max_size=8))
def test_the_columns_hold_what_a_reader_of_single_lines_finds(tmp_path, lines):
    path = tmp_path / "any.jsonl"
    # A sound row first, lest a file of bad rows be named another format.
    lines = [json.dumps(BASE).encode(), *lines]
    path.write_bytes(b"\n".join(lines) + b"\n")
    events, report = parse(path)
    assert events == [event for event in map(row_by_row, lines) if event is not None]
    assert report.rows_read == sum(bool(line.strip()) for line in lines)


BAD = {
    "bad_time": [{"time_unix": -1}, {"time_unix": "1"}, {"time_unix": None}, {"time_unix": 1e15}, {"time_unix": True}],
    "no_host": [{"host_id": ""}, {"host_id": 7}],
    "unknown_class": [{"event_class": "exec"}, {"event_class": 3}, {"event_class": "log\ud800"}],
    "bad_number": [{"pid": -1}, {"pid": 2**63}, {"pid": "7"}, {"pid": 1.5}, {"destination_port": 65_536},
                   {"event_code": 2**31}, {"sent_bytes": True}, {"duration_seconds": -0.5},
                   {"duration_seconds": math.inf}],
    "wrong_type": [{"comm": 7}, {"comm": None}, {"is_elevated": 1}, {"fields": {"a": 1}}, {"fields": []}],
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_value_costs_its_row_and_says_why(tmp_path, reason):
    rows = [line for change in BAD[reason] for line in (BASE, BASE | change)]
    events, report = parse(write(tmp_path / "bad.jsonl", *rows))
    assert events == [Event(time_unix=5.0, host_id="web", event_class=EventClass.LOGIN)] * len(BAD[reason])
    assert dict(report.rejected) == {reason: len(BAD[reason])}


@pytest.mark.parametrize("name", sorted(BASE))
def test_a_row_without_time_host_or_class_is_none(tmp_path, name):
    short = {field: value for field, value in BASE.items() if field != name}
    report = parse(write(tmp_path / "short.jsonl", BASE, short))[1]
    assert dict(report.rejected) == {"missing_field": 1}


def test_fields_of_a_later_version_are_left_out_and_told(tmp_path):
    events, report = parse(write(tmp_path / "later.jsonl", BASE | {"mood": [1], "pid": 4}, BASE))
    assert [event.pid for event in events] == [4, 0]
    assert dict(report.repaired) == {"unknown_field": 1}


def test_a_group_that_is_given_replaces_the_recorded_one(tmp_path):
    path = write(tmp_path / "a.jsonl", BASE | {"group": "lab"}, BASE)
    assert [event.group for event in parse(path)[0]] == ["lab", ""]
    assert [event.group for event in parse(path, "site")[0]] == ["site", "site"]


@pytest.mark.parametrize("size", [1, 1_000, BATCH_EVENTS, 65_536])
def test_many_rows_come_in_order_and_in_batches_of_the_size_asked_for(tmp_path, size):
    n_rows = 2 * BATCH_EVENTS + 7
    path = tmp_path / "day.jsonl.gz"
    lines = [
        json.dumps(BASE | {"time_unix": row} | ({"comm": "\ud800"} if row % 999 == 0 else {})) for row in range(n_rows)
    ]
    path.write_bytes(gzip.compress("\n".join(["{", *lines, "{"]).encode()))
    report = ParseReport()
    batches = list(read_batches(path, NAME, report, batch_size=size))
    assert [time for batch in batches for time in batch.time_unix.tolist()] == list(range(n_rows))
    assert [comm for batch in batches for comm in batch.comm].count("\ud800") == 9
    assert max(map(len, batches)) <= size
    assert (report.accepted, dict(report.rejected)) == (n_rows, {"bad_json": 2})


def test_the_rows_before_damage_are_delivered(tmp_path):
    path = tmp_path / "cut.gz"
    lines = [json.dumps(BASE | {"time_unix": row, "comm": f"{row * 7_919 % 10_007:x}"}) for row in range(9_000)]
    packed = gzip.compress("\n".join(lines).encode())
    path.write_bytes(packed[: len(packed) // 2])
    batches, report = [], ParseReport()
    with pytest.raises(CorruptFileError):
        batches.extend(read_batches(path, NAME, report))
    times = [time for batch in batches for time in batch.time_unix.tolist()]
    assert times == list(range(len(times)))
    assert BATCH_EVENTS < len(times) == report.accepted


def test_a_file_of_bad_lines_takes_no_quadratic_time(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_bytes(b"{\n" * 60_000 + json.dumps(BASE).encode())
    events, report = parse(path)
    assert (len(events), dict(report.rejected)) == (1, {"bad_json": 60_000})


def test_classes_can_be_changed_in_place(tmp_path):
    (batch,) = read_batches(write(tmp_path / "a.jsonl", BASE), NAME)
    batch.event_class[0] = 2
    assert batch.row(0).event_class == EventClass.FILE_OPEN
