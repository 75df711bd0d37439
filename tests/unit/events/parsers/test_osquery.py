import json

import pytest

from eguard.events import UNCOUNTED, EventClass
from eguard.events.parsers import ParseReport, read_events

PROCESS = {
    "cmdline": "/bin/bash -c x",
    "euid": "0",
    "name": "bash",
    "parent": "41",
    "path": "/usr/bin/bash",
    "pcmdline": "/usr/sbin/anacron -s",
    "pid": "42",
    "uid": "1000",
    "username": "ann",
}


def one(parse, columns, action="added", **changes):
    row = {"name": "pack_x", "hostIdentifier": "JumpVM", "unixTime": 1678936138, "columns": columns, "action": action}
    events, report = parse(json.dumps(row | changes), "osquery")
    assert not report.rejected
    return events[0] if events else None


def test_a_process_that_appears_and_goes(parse):
    start, end = one(parse, PROCESS), one(parse, PROCESS, "removed")
    assert (start.event_class, start.event_type) == (EventClass.PROCESS_EXEC, "exec")
    assert (end.event_class, end.event_type) == (EventClass.PROCESS_EXIT, "exit")
    assert (start.comm, start.parent_comm, start.pid, start.parent_pid) == ("bash", "anacron", 42, 41)
    assert (start.host_id, start.user, start.is_elevated, start.time_unix) == ("jumpvm", "ann", True, 1678936138.0)
    assert start.fields["Image"] == "/usr/bin/bash"
    assert start.fields["CommandLine"] == start.command_line == "/bin/bash -c x"
    assert start.fields["ParentCommandLine"] == "/usr/sbin/anacron -s"
    assert not one(parse, PROCESS | {"euid": "7"}).is_elevated


def test_file_changes_carry_their_own_time_and_digest(parse):
    columns = {"action": "DELETED", "target_path": "/etc/x", "sha256": "ab" * 32, "time": "1678942771", "uid": "0"}
    event = one(parse, columns)
    assert (event.event_class, event.event_type, event.target) == (EventClass.FILE_OPEN, "file_delete", "/etc/x")
    assert (event.time_unix, event.file_sha256) == (1678942771.0, "ab" * 32)
    assert one(parse, columns | {"action": "UPDATED"}).event_type == "file_change"
    assert one(parse, columns | {"time": "0"}).time_unix == 1678936138.0


def test_sockets_listeners_log_ons_and_history(parse):
    socket = {"remote_address": "10.0.0.9", "remote_port": "443", "pid": "-1", "family": "2"}
    event = one(parse, socket)
    assert (event.event_class, event.destination_address, event.destination_port) == (
        *(EventClass.NETWORK_CONNECT, "10.0.0.9", 443),
    )
    assert event.pid == 0
    assert one(parse, socket, "removed").event_class == UNCOUNTED
    assert one(parse, socket | {"remote_address": ""}) is None
    listener = {"address": "0.0.0.0", "port": "22", "protocol": "6", "pid": "9"}
    assert (one(parse, listener).event_type, one(parse, listener).target) == ("net_listen", "0.0.0.0:22")
    assert one(parse, listener | {"port": "0"}) is None
    user = {"tty": "pts/0", "host": "1.2.3.4", "pid": "5", "type": "user", "user": "bob"}
    assert (one(parse, user).event_type, one(parse, user).user) == ("logon", "bob")
    assert one(parse, user, "removed").event_type == "logoff"
    assert one(parse, user | {"type": "8", "type_name": "dead-process"}).event_type == "logoff"
    assert one(parse, user | {"type": "2", "type_name": "boot-time"}) is None
    history = {"history_file": "/home/x/.bash_history", "command": "id", "shell": "/bin/bash", "uid": "1000"}
    assert (one(parse, history).event_type, one(parse, history).command_line) == ("shell_command", "id")


def test_other_rows_are_passed_over_or_counted(parse):
    good = {"hostIdentifier": "h", "unixTime": 1, "columns": PROCESS, "action": "added"}
    rows = [
        good,
        good | {"columns": {"bytes_disk": "1"}},
        good | {"action": "snapshot"},
        good | {"action": ["added"]},
        good | {"columns": [1]},
        good | {"hostIdentifier": ""},
        good | {"unixTime": "soon"},
        good | {"columns": PROCESS | {"pid": "x"}},
    ]
    events, report = parse("\n".join(map(json.dumps, rows)), "osquery")
    assert len(events) == 1
    assert dict(report.skipped) == {"other_query": 1, "not_differential": 3}
    assert dict(report.rejected) == {"no_host": 1, "bad_time": 1, "bad_number": 1}


def test_the_shipped_log(raw):
    report = ParseReport()
    events = list(read_events(raw / "endpoint-other-formats" / "osqueryd.results.log", report=report))
    assert report.rows_read == 266
    assert report.rejected.total() == 0
    assert {event.host_id for event in events} == {"jumpvm"}
    kinds = [event.event_type for event in events]
    assert (kinds.count("exec"), kinds.count("exit"), kinds.count("shell_command")) == (14, 7, 10)
    assert kinds.count("file_create") + kinds.count("file_change") == 21


@pytest.mark.parametrize("value", ["", "sudo"])
def test_a_parents_name_is_what_its_command_line_begins_with(parse, value):
    assert one(parse, PROCESS | {"pcmdline": value}).parent_comm == value
