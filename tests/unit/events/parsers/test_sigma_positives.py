import json

from eguard.events import EventClass
from eguard.events.parsers import ParseReport, detect_format, read_events

ROW = {
    "rule_id": "271de298-cc0e-4842-acd8-079a0a99ea65",
    "channel": "Microsoft-Windows-Sysmon/Operational",
    "event_id": 1,
    "computer": "PC",
    "time": "2025-12-06T21:11:02.649150Z",
    "event_data": {"Image": "C:\\W\\cmd.exe", "ParentImage": "C:\\n\\node.exe", "ProcessId": 3412, "User": "PC\\x"},
}


def test_a_positive_names_its_rule_and_keeps_its_fields(parse):
    (event,), _ = parse(json.dumps(ROW), "sigma-positives", group="sigma")
    assert (event.source, event.label, event.rule_id) == ("sigma", "attack", ROW["rule_id"])
    assert (event.host_id, event.event_type, event.event_class) == ("pc", "exec", EventClass.PROCESS_EXEC)
    assert (event.comm, event.parent_comm, event.pid) == ("cmd.exe", "node.exe", 3412)
    assert event.fields["ProcessId"] == "3412"
    assert (event.fields["EventID"], event.fields["Provider_Name"]) == ("1", "Microsoft-Windows-Sysmon")


def test_events_without_data_and_of_other_logs_are_kept(parse):
    channel = "Microsoft-Windows-WMI-Activity/Operational"
    (event,), _ = parse(json.dumps(ROW | {"channel": channel, "event_data": None, "event_id": 5858}), "sigma-positives")
    assert (event.event_type, event.event_class, event.comm) == ("other", -1, "")
    assert event.fields == {
        "EventID": "5858",
        "Channel": channel,
        "Provider_Name": "Microsoft-Windows-WMI-Activity",
        "Computer": "pc",
    }


def test_bad_rows_are_counted_by_reason(parse):
    bad = [{"rule_id": None}, {"channel": 5}, {"computer": ""}, {"time": "soon"}, {"event_id": -1}, {"event_data": [1]}]
    events, report = parse("\n".join(json.dumps(ROW | change) for change in [{}, *bad]), "sigma-positives")
    assert len(events) == 1
    assert dict(report.rejected) == {"no_rule": 1, "missing_field": 3, "bad_time": 1, "bad_number": 1}


def test_the_shipped_positives(raw):
    path = raw / "sigma-positives" / "events.ndjson.gz"
    assert detect_format(path) == "sigma-positives"
    report = ParseReport()
    events = list(read_events(path, report=report))
    assert len(events) == report.rows_read == 153
    assert len({event.rule_id for event in events}) == 138
    kinds = [event.event_type for event in events]
    assert (kinds.count("exec"), kinds.count("file_create"), kinds.count("reg_set")) == (104, 21, 15)
