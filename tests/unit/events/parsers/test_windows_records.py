import pytest

from eguard.errors import ParseError
from eguard.events import EventBatch, EventClass
from eguard.events.parsers.windows_records import ProcessParents, WindowsRecord, carry_parents, windows_event

GUID = "{39E4A257-15EF-5F8D-E704-000000000700}"


def event_of(source, code, data, parents=None):
    record = WindowsRecord(source, code, "h", 5.0, "C", "P", data)
    return windows_event(record, "g", parents or ProcessParents())


def test_sysmon_process_creation():
    event = event_of(
        "sysmon",
        1,
        {
            "Image": "C:\\Windows\\System32\\ESENTUTL.exe",
            "ParentImage": "C:\\Windows\\System32\\Cmd.exe",
            "CommandLine": "esentutl /y",
            "ProcessId": "5136",
            "ParentProcessId": "5884",
            "ProcessGuid": GUID,
            "ParentProcessGuid": "{39e4a257-15ba-5f8d-e204-000000000700}",
            "User": "WORKSTATION5\\wardog",
            "IntegrityLevel": "High",
            "Hashes": f"SHA1=00,SHA256={'AB' * 32},IMPHASH=1",
        },
    )
    assert (event.event_class, event.event_type, event.event_code) == (EventClass.PROCESS_EXEC, "exec", 1)
    assert (event.comm, event.parent_comm, event.image_path) == (
        *("esentutl.exe", "cmd.exe", "C:\\Windows\\System32\\ESENTUTL.exe"),
    )
    assert (event.pid, event.parent_pid) == (5136, 5884)
    assert event.process_guid == "39e4a257-15ef-5f8d-e704-000000000700"
    assert event.parent_guid == "39e4a257-15ba-5f8d-e204-000000000700"
    assert event.file_sha256 == "ab" * 32
    assert event.is_elevated
    assert (event.host_id, event.group, event.time_unix, event.source) == ("h", "g", 5.0, "sysmon")
    assert event.fields["Image"] == "C:\\Windows\\System32\\ESENTUTL.exe"
    assert [event.fields[name] for name in ("EventID", "Channel", "Provider_Name", "Computer")] == ["1", "C", "P", "h"]


def test_security_process_creation_has_its_own_names_and_sigmas():
    event = event_of(
        "security",
        4688,
        {
            "NewProcessName": "C:\\Windows\\System32\\esentutl.exe",
            "ParentProcessName": "C:\\Windows\\System32\\cmd.exe",
            "NewProcessId": "0x1410",
            "ProcessId": "0x16fc",
            "CommandLine": "esentutl.exe /y",
            "SubjectUserName": "wardog",
            "SubjectDomainName": "WORKSTATION5",
            "SubjectLogonId": "0xc61d9",
            "MandatoryLabel": "S-1-16-12288",
            "TokenElevationType": "%%1936",
        },
    )
    assert (event.pid, event.parent_pid, event.comm, event.parent_comm) == (5136, 5884, "esentutl.exe", "cmd.exe")
    assert event.user == "WORKSTATION5\\wardog"
    assert event.is_elevated  # by the mandatory label "high"
    fields = event.fields
    assert fields["NewProcessName"] == fields["Image"] == "C:\\Windows\\System32\\esentutl.exe"
    assert fields["ParentProcessName"] == fields["ParentImage"] == "C:\\Windows\\System32\\cmd.exe"
    assert (fields["IntegrityLevel"], fields["LogonId"], fields["User"]) == ("High", "0xc61d9", "WORKSTATION5\\wardog")
    assert fields["ProcessId"] == "0x16fc"


@pytest.mark.parametrize(
    ("source", "code", "data", "is_elevated"),
    [
        ("sysmon", 1, {"IntegrityLevel": "System"}, True),
        ("sysmon", 1, {"IntegrityLevel": "Medium"}, False),
        ("security", 4688, {"TokenElevationType": "%%1937"}, True),
        ("security", 4688, {"TokenElevationType": "%%1936"}, False),
        ("security", 4688, {"TokenElevationType": "%%1938", "MandatoryLabel": "S-1-16-8192"}, False),
        ("security", 4689, {"SubjectUserSid": "S-1-5-18", "SubjectUserName": "DC$"}, True),
        ("security", 4624, {"SubjectUserSid": "S-1-5-18", "TargetUserSid": "S-1-5-21-1"}, False),
        ("security", 4624, {"TargetUserName": "x", "ElevatedToken": "%%1842"}, True),
        ("security", 4672, {"SubjectUserName": "admin"}, True),
        ("sysmon", 3, {"User": "NT AUTHORITY\\SYSTEM"}, True),
        ("sysmon", 3, {"User": "NT AUTHORITY\\NETWORK SERVICE"}, False),
        ("linux-sysmon", 3, {"User": "root"}, True),
        ("linux-sysmon", 3, {"User": "tomcat"}, False),
    ],
)
def test_elevation(source, code, data, is_elevated):
    assert event_of(source, code, data).is_elevated is is_elevated


@pytest.mark.parametrize(
    ("source", "code", "data", "target"),
    [
        ("sysmon", 7, {"Image": "a.exe", "ImageLoaded": "C:\\W\\x.dll"}, "C:\\W\\x.dll"),
        ("sysmon", 10, {"SourceImage": "C:\\a.exe", "TargetImage": "C:\\lsass.exe"}, "C:\\lsass.exe"),
        ("sysmon", 11, {"TargetFilename": "C:\\t.tmp"}, "C:\\t.tmp"),
        ("sysmon", 28, {"TargetFilename": "C:\\t.log"}, "C:\\t.log"),
        ("sysmon", 13, {"TargetObject": "HKLM\\X"}, "HKLM\\X"),
        ("sysmon", 17, {"PipeName": "\\lsass"}, "\\lsass"),
        ("sysmon", 22, {"QueryName": "WWW.Example.ORG"}, "www.example.org"),
        ("sysmon", 3, {"DestinationHostname": "host.internal"}, "host.internal"),
        ("sysmon", 3, {"DestinationHostname": "-"}, ""),
        ("security", 4663, {"ObjectName": "\\REGISTRY\\X"}, "\\REGISTRY\\X"),
        ("security", 5145, {"ShareName": "\\\\*\\IPC$", "RelativeTargetName": "svcctl"}, "\\\\*\\IPC$\\svcctl"),
        ("security", 4697, {"ServiceName": "evil"}, "evil"),
        ("security", 4624, {"TargetUserName": "x"}, ""),
    ],
)
def test_what_an_event_is_about(source, code, data, target):
    assert event_of(source, code, data).target == target


def test_destinations_of_both_logs():
    sysmon = event_of("sysmon", 3, {"DestinationIp": "10.0.0.1", "DestinationPort": "5985"})
    security = event_of(
        "security", 5156, {"DestAddress": "::1", "DestPort": "53", "Application": "\\device\\x\\DNS.exe"}
    )
    assert (sysmon.destination_address, sysmon.destination_port) == ("10.0.0.1", 5985)
    assert (security.destination_address, security.destination_port, security.comm) == ("::1", 53, "dns.exe")


def test_parents_are_carried_to_later_events_of_the_same_process_and_host():
    parents = ProcessParents()
    start = {"Image": "a.exe", "ParentImage": "C:\\P.exe", "ProcessGuid": GUID}
    assert event_of("sysmon", 7, {"Image": "a.exe", "ProcessGuid": GUID}, parents).parent_comm == ""
    event_of("sysmon", 1, start, parents)
    assert event_of("sysmon", 7, {"Image": "a.exe", "ProcessGuid": GUID.lower()}, parents).parent_comm == "p.exe"
    assert event_of("sysmon", 10, {"SourceImage": "a.exe", "SourceProcessGUID": GUID}, parents).parent_comm == "p.exe"
    other_host = WindowsRecord("sysmon", 7, "other", 5.0, "C", "P", {"ProcessGuid": GUID})
    assert windows_event(other_host, "g", parents).parent_comm == ""


def test_parents_forget_the_oldest_start():
    parents = ProcessParents(capacity=2)
    for guid in ("a", "b", "a", "c"):
        parents.started("h", guid, f"parent of {guid}")
    assert [parents.parent_of("h", guid) for guid in "abc"] == ["parent of a", "", "parent of c"]


def test_null_guid_and_unknown_process():
    event = event_of(
        "linux-sysmon",
        5,
        {"ProcessGuid": "{00000000-0000-0000-0000-000000000000}", "Image": "< unknown process> ", "ProcessId": "7"},
    )
    assert (event.process_guid, event.comm, event.pid) == ("", "<unknown process>", 7)


def test_linux_keeps_the_case_of_names():
    assert event_of("linux-sysmon", 1, {"Image": "/opt/Tool"}).comm == "Tool"


@pytest.mark.parametrize("data", [{"ProcessId": "-4"}, {"DestinationPort": "65536"}, {"ProcessId": "0xZZ"}])
def test_numbers_out_of_range_are_refused(data):
    with pytest.raises(ParseError) as caught:
        event_of("sysmon", 3, data)
    assert caught.value.context["reason"] == "bad_number"


def test_parents_are_carried_in_time_order_even_if_the_log_is_not():
    batch = EventBatch(
        time_unix=[3.0, 2.0, 1.0, 4.0],
        host_id=["h"] * 4,
        process_guid=["g", "g", "g", ""],
        event_type=["net", "exec", "net", "net"],
        parent_comm=["", "p.exe", "", "own.exe"],
    )
    ordered = carry_parents(batch)
    assert ordered.time_unix.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert ordered.parent_comm == ["", "p.exe", "p.exe", "own.exe"]
