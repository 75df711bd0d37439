import csv
import gzip
import io

import pytest

from eguard.errors import UnknownFormatError
from eguard.events import EventClass
from eguard.events.parsers import ParseReport, detect_format, read_events
from eguard.events.parsers.defender import COLUMNS

ROW = dict.fromkeys(COLUMNS, "") | {
    "ComputerDnsName": "PC1.example",
    "CreatedProcessCreationTime": "2021-06-23 03:08:14.159814200+00:00",
    "CreatedProcessName": "Conhost.exe",
    "CreatedProcessFilePath": "C:\\Windows\\System32\\conhost.exe",
    "CreatedProcessCommandLine": "conhost.exe 0xffffffff -ForceV1",
    "CreatedProcessId": "17132",
    "CreatedProcessParentId": "6844",
    "CreatedProcessParentName": "\\Device\\HarddiskVolume3\\Windows\\System32\\CMD.exe",
    "CreatedProcessStartKey": "11540474045172976",
    "InitiatingProcessStartKey": "11540474045172975",
    "CreatedProcessAccountDomainName": "CORP",
    "CreatedProcessAccountName": "ann",
    "CreatedProcessIsElevated": "False",
    "CreatedProcessIntegrityLevel": "Medium",
    "CreatedProcessFileSha256": "AB" * 32,
    "CreatedProcessFileMd5": "cd" * 16,
    "Process_CommandLine": '"cmd.exe" /c x',
}


def table(*rows):
    target = io.StringIO()
    writer = csv.DictWriter(target, COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return target.getvalue()


def test_a_process_creation(parse):
    (event,), _ = parse(table(ROW), "defender", group="g")
    assert (event.event_class, event.event_type, event.source) == (EventClass.PROCESS_EXEC, "exec", "defender")
    assert (event.host_id, event.comm, event.parent_comm) == ("pc1.example", "conhost.exe", "cmd.exe")
    assert (event.pid, event.parent_pid) == (17132, 6844)
    assert (event.process_guid, event.parent_guid) == ("11540474045172976", "11540474045172975")
    assert event.time_unix == 1624417694.159814
    assert (event.user, event.is_elevated, event.file_sha256) == ("CORP\\ann", False, "ab" * 32)
    fields = event.fields
    assert fields["Image"] == event.image_path == "C:\\Windows\\System32\\conhost.exe"
    assert fields["CommandLine"] == event.command_line
    assert (fields["ParentCommandLine"], fields["User"]) == ('"cmd.exe" /c x', "CORP\\ann")
    assert fields["Hashes"] == f"MD5={'CD' * 16},SHA256={'AB' * 32}"


@pytest.mark.parametrize(
    "changes",
    [
        {"CreatedProcessIsElevated": "True"},
        {"CreatedProcessIntegrityLevel": "System"},
        {"CreatedProcessTokenElevationType": "TokenElevationTypeFull"},
    ],
)
def test_elevation(parse, changes):
    assert parse(table(ROW | changes), "defender")[0][0].is_elevated


def test_bad_rows_are_counted_by_reason(parse):
    bad = [{"ComputerDnsName": ""}, {"CreatedProcessCreationTime": "soon"}, {"CreatedProcessId": "x"}]
    events, report = parse(table(ROW, *(ROW | change for change in bad)), "defender")
    assert len(events) == 1
    assert dict(report.rejected) == {"no_host": 1, "bad_time": 1, "bad_number": 1}


def test_a_missing_column_is_named(parse):
    with pytest.raises(UnknownFormatError, match="'CreatedProcessFilePath' is missing"):
        parse(table(ROW).replace("CreatedProcessFilePath", "Other"), "defender")


def test_the_shipped_export_agrees_with_a_plain_reading(raw):
    path = raw / "endpoint-other-formats" / "mde_proc_cs1.csv.gz"
    assert detect_format(path) == "defender"
    report = ParseReport()
    events = list(read_events(path, report=report))
    with gzip.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(events) == len(rows) == 1_564
    assert not report.rejected
    assert [event.command_line for event in events] == [row["CreatedProcessCommandLine"] for row in rows]
    assert [event.pid for event in events] == [int(row["CreatedProcessId"]) for row in rows]
    # The account "SYSTEM" (511 rows) is not all that runs elevated: services and full tokens are too.
    assert sum(event.is_elevated for event in events) == 724
    assert max(e.time_unix for e in events) - min(e.time_unix for e in events) == pytest.approx(63.45 * 3600, abs=60)
