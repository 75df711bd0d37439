from eguard.events.parsers import ParseReport, detect_format, read_events
from eguard.events.parsers.security_csv import COLUMNS

HEADER = ",".join(COLUMNS)
ROW = "4688,2019-01-15 05:24:24.010,PC1,S-1-5-21-1,ann,CORP,0x1610,C:\\W\\ASMHost.exe,%%1937,0x888,asm x,C:\\W\\Mon.exe"


def test_a_process_creation(parse):
    (event,), _ = parse(f"{HEADER}\n{ROW}", "security-csv")
    assert (event.host_id, event.source, event.event_code, event.event_type) == ("pc1", "security", 4688, "exec")
    assert (event.comm, event.parent_comm, event.pid, event.parent_pid) == ("asmhost.exe", "mon.exe", 0x1610, 0x888)
    assert (event.user, event.is_elevated, event.command_line) == ("CORP\\ann", True, "asm x")
    assert event.time_unix == 1547529864.01
    assert event.fields["Image"] == event.fields["NewProcessName"] == "C:\\W\\ASMHost.exe"
    assert event.fields["Channel"] == "Security"


def test_bad_rows_are_counted_by_reason(parse):
    bad = [ROW.replace(",PC1,", ",,"), ROW.replace("2019-01-15", "15.1.19"), ROW.replace("0x1610", "many"), "4688"]
    events, report = parse("\n".join([HEADER, ROW, *bad]), "security-csv")
    assert len(events) == 1
    assert dict(report.rejected) == {"no_host": 1, "bad_time": 1, "bad_number": 1, "wrong_column_count": 1}


def test_the_shipped_export(raw):
    path = raw / "endpoint-other-formats" / "processes_on_host.csv"
    assert detect_format(path) == "security-csv"
    report = ParseReport()
    events = list(read_events(path, report=report))
    assert len(events) == report.rows_read == 363
    assert {event.host_id for event in events} == {"msticalertswin1"}
    assert sum(event.is_elevated for event in events) == 203  # those of SYSTEM
    assert sum(event.comm == "cscript.exe" for event in events) == 72
    assert "TenantId" not in events[0].fields
