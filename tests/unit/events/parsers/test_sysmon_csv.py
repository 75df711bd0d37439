import csv
import gzip
from datetime import UTC, datetime
from itertools import islice

import numpy as np
import pytest

from eguard.errors import CorruptFileError, UnknownFormatError
from eguard.events import UNCOUNTED, EventBatch, EventClass
from eguard.events.parsers import ParseReport, read_batches, read_events

HEADER = "capture,host,ts,src,eid,event_type,image,parent,target,cmdline"
CLASSES = {
    "exec": EventClass.PROCESS_EXEC,
    "exit": EventClass.PROCESS_EXIT,
    "net": EventClass.NETWORK_CONNECT,
    "dns": EventClass.DNS_QUERY,
    "module_load": EventClass.MODULE_LOAD,
    "driver_load": EventClass.MODULE_LOAD,
    **dict.fromkeys(("logon", "logon_explicit", "logon_fail", "logoff"), EventClass.LOGIN),
    **dict.fromkeys(
        ("file_create", "file_delete", "file_stream", "file_time", "file_block", "file_exec"), EventClass.FILE_OPEN
    ),
}


def test_columns_equal_a_plain_reading_row_by_row(raw):
    path = raw / "endpoint-events" / "events.csv.gz"
    batch = next(read_batches(path, "sysmon-csv", batch_size=40_000))
    with gzip.open(path, "rt", newline="") as file:
        rows = list(islice(csv.DictReader(file), len(batch)))
    assert len(batch) > 39_000
    moments = [datetime.fromisoformat(row["ts"].removesuffix("Z")).replace(tzinfo=UTC) for row in rows]
    ends = [row["target"].rsplit("/", 1)[0].rsplit(":", 1) if row["event_type"] == "net" else ("", 0) for row in rows]
    assert batch.time_unix.tolist() == [moment.timestamp() for moment in moments]
    assert batch.event_code.tolist() == [int(row["eid"]) for row in rows]
    assert batch.event_class.tolist() == [CLASSES.get(row["event_type"], UNCOUNTED) for row in rows]
    assert batch.destination_address == [address for address, _ in ends]
    assert batch.destination_port.tolist() == [int(port) for _, port in ends]
    assert batch.target == ["" if row["event_type"] == "net" else row["target"] for row in rows]
    same = {"host_id": "host", "group": "capture", "source": "src", "event_type": "event_type", "comm": "image"}
    for column, name in (same | {"parent_comm": "parent", "command_line": "cmdline"}).items():
        assert getattr(batch, column) == [row[name] for row in rows]
    assert set(batch.fields) == {None}


@pytest.mark.slow
def test_every_row_of_the_shipped_table_is_read(raw):
    report = ParseReport()
    batches = list(read_batches(raw / "endpoint-events" / "events.csv.gz", report=report))
    assert report.to_dict() | {"skipped": {}, "rejected": {}} == report.to_dict()
    assert report.accepted == sum(map(len, batches)) == 483_543
    assert max(map(len, batches)) <= 65_536
    hosts = {host for batch in batches for host in batch.host_id}
    captures = {group for batch in batches for group in batch.group}
    assert (len(hosts), len(captures)) == (23, 88)


def test_batches_and_events_are_the_same(raw, tmp_path):
    with gzip.open(raw / "endpoint-events" / "events.csv.gz", "rt") as file:
        text = "".join(islice(file, 1_500))
    path = tmp_path / "events.csv"
    path.write_text(text.replace("2021", "20x1", 40))
    for size in (1, 7, 512, 10_000):
        report, again = ParseReport(), ParseReport()
        joined = EventBatch.concatenate(list(read_batches(path, "sysmon-csv", report, "g", batch_size=size)))
        assert list(joined.rows()) == list(read_events(path, "sysmon-csv", again, "g"))
        assert report == again
        assert set(joined.group) == {"g"}
        assert max(map(len, read_batches(path, batch_size=size))) <= size


def test_bad_rows_are_counted_by_reason(parse):
    good = "c,HOST,2020-08-01T05:52:11,sysmon,3,net,a.exe,,0:0:0:0:0:0:0:1:53/udp,"
    rows = [
        HEADER,
        good,
        "c,h,yesterday,sysmon,3,net,a.exe,,,",
        "c,,2020-08-01T05:52:11,sysmon,3,net,a.exe,,,",
        "c,h,2020-08-01T05:52:11,sysmon,x,net,a.exe,,,",
        "c,h,2020-08-01T05:52:11,sysmon,99999999999,net,a.exe,,,",
        "c,h,2020-08-01T05:52:11,sysmon,3,net",
        "c,h",
        'c,h,2020-08-01T05:52:11,sysmon,1,exec,a.exe,,,"open',
        '"c,h",h,2020-08-01T05:52:11,sysmon,1,exec,a.exe,,,',
        HEADER,
        "",
        'c,h,2020-08-01T05:52:11Z,sysmon,1,exec,a.exe,b.exe,,"say ""x, y"""',
        "c,h,2020-08-01T05:52:11.5Z,sysmon,3,net,a.exe,,no address,\r",
    ]
    events, report = parse("\n".join(rows), "sysmon-csv")
    assert dict(report.rejected) == {
        "bad_time": 1,
        "no_host": 1,
        "bad_number": 2,
        "wrong_column_count": 3,
        "bad_csv": 1,
    }
    assert dict(report.skipped) == {"repeated_header": 1}
    first, second, third = events
    assert (first.host_id, first.destination_address, first.destination_port) == ("host", "0:0:0:0:0:0:0:1", 53)
    assert first.event_bytes == len(good)
    assert second.command_line == 'say "x, y"'
    assert (third.target, third.destination_address, third.destination_port) == ("no address", "", 0)
    assert third.time_unix == second.time_unix + 0.5


def test_text_that_is_not_utf8_costs_its_row(parse):
    row = b"c,h,2020-08-01T05:52:11,sysmon,1,exec,%s,,,"
    data = b"\n".join([HEADER.encode(), row % b"a.exe", row % b"\xff.exe", row % "ä.exe".encode()])
    events, report = parse(data, "sysmon-csv")
    assert [event.comm for event in events] == ["a.exe", "ä.exe"]
    assert dict(report.rejected) == {"not_utf8": 1}


def test_another_header_is_another_format(tmp_path):
    path = tmp_path / "log"
    path.write_text("capture,host\n1,2\n")
    with pytest.raises(UnknownFormatError, match="does not begin with the header"):
        list(read_batches(path, "sysmon-csv"))


def test_batches_before_damage_are_delivered(raw, tmp_path):
    data = (raw / "endpoint-events" / "events.csv.gz").read_bytes()
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(data[:100_000])
    first = next(read_batches(raw / "endpoint-events" / "events.csv.gz", "sysmon-csv"))
    batches, report = [], ParseReport()
    with pytest.raises(CorruptFileError):
        batches.extend(read_batches(path, "sysmon-csv", report, batch_size=1_000))
    times = np.concatenate([batch.time_unix for batch in batches])
    assert len(times) == report.accepted > 5_000
    assert np.array_equal(times, first.time_unix[: len(times)])
    assert report.damage
