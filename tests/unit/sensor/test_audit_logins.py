import struct

import pytest
import structlog.testing

from eguard.events import EventClass
from eguard.sensor.audit_logins import AuditMessage, _enabled, parse_audit_messages, parse_login_message
from eguard.sensor.login_records import LoginRecord
from eguard.sensor.logins import Logins
from eguard.sensor.process_table import KnownProcess

USER_LOGIN, USER_AUTH, USER_START, LOGIN = 1112, 1100, 1105, 1006


def _user(message, kind=USER_LOGIN, pid=812):
    head = f"audit(1700000000.250:77): pid={pid} uid=0 auid=1000 ses=3 msg='"
    return parse_login_message(AuditMessage(kind, head + message + "'"))


def test_a_login_that_went_well_names_the_account_by_its_number():
    record = _user(
        'op=login id=0 exe="/usr/sbin/sshd" hostname=192.0.2.7 addr=192.0.2.7 terminal=/dev/pts/3 res=success'
    )
    assert (record.event_type, record.user, record.terminal) == ("login", "root", "/dev/pts/3")
    assert (record.time_unix, record.pid, record.host) == (1_700_000_000.25, 812, "192.0.2.7")
    event = record.to_event("web", "ebpf", KnownProcess(812, 700, "sshd-session", "sshd", 0))
    assert (event.event_class, event.comm, event.parent_comm) == (EventClass.LOGIN, "sshd", "sshd")


def test_attempts_to_log_in_are_counted_and_what_surrounds_them_is_not():
    kinds = {USER_LOGIN: "login_failed", USER_AUTH: "authentication_failed", USER_START: "session_start"}
    for kind, event_type in kinds.items():
        record = _user('op=x acct="eve" exe="/usr/bin/su" hostname=? addr=? terminal=pts/1 res=failed', kind)
        event = record.to_event("web", "ebpf", KnownProcess(812))
        assert (record.event_type, record.user, record.host, event.comm) == (event_type, "eve", "", "su")
        assert (event.event_class == EventClass.LOGIN) is (kind == USER_LOGIN)


def test_the_kernels_own_record_of_a_login_is_read():
    text = "audit(1.5:2): pid=9 uid=0 old-auid=4294967295 auid=0 tty=(none) old-ses=4294967295 ses=1 res=1"
    record = parse_login_message(AuditMessage(LOGIN, text))
    assert (record.event_type, record.user, record.pid, record.terminal) == ("login_id", "root", 9, "")


@pytest.mark.parametrize(
    ("typed", "user"),
    [
        ('"o\'brien"', "o'brien"),
        ("6576650A783D31", "eve\nx=1"),
        ("FFFE", r"\xff\xfe"),
        ('"DEADBEEF"', "DEADBEEF"),
        ('"(unknown)"', "(unknown)"),
    ],
    ids=["quote", "newline", "no-utf8", "looks-hexadecimal", "unknown"],
)
def test_account_names_are_whatever_somebody_typed(typed, user):
    record = _user(f'op=login acct={typed} exe="/usr/sbin/sshd" hostname=? addr=192.0.2.9 terminal=ssh res=failed')
    assert (record.user, record.event_type, record.host) == (user, "login_failed", "192.0.2.9")


def test_a_program_cannot_pass_off_another_pid_as_its_own():
    assert _user('op=login pid=1 acct="a" res=success').pid == 812


def test_other_and_broken_messages_are_no_logins():
    assert parse_login_message(AuditMessage(1300, "audit(1.0:2): arch=c000003e syscall=59")) is None
    assert parse_login_message(AuditMessage(USER_LOGIN, "no record at all")) is None
    assert parse_login_message(AuditMessage(USER_LOGIN, "audit(1.0:2): ")).user == ""


def test_datagrams_are_read_whatever_length_their_header_claims():
    text = b"audit(1.0:2): pid=3\x00"
    for length in (16 + len(text), len(text), 0, 9999):
        datagram = struct.pack("=IHHII", length, USER_LOGIN, 0, 0, 0) + text
        assert parse_audit_messages(datagram)[0] == (USER_LOGIN, "audit(1.0:2): pid=3")
    assert parse_audit_messages(b"short") == []


def test_the_answer_says_whether_auditing_is_on_or_why_not():
    def answer(kind, *words):
        return struct.pack(f"=IHHII{len(words)}I", 16 + 4 * len(words), kind, 0, 0, 0, *words)

    assert _enabled(answer(1000, 0, 1, 1, 0)) is True
    assert _enabled(answer(1000, 0, 0, 1, 0)) is False
    with pytest.raises(PermissionError):
        _enabled(answer(2, 0xFFFF_FFFF, 0))
    with pytest.raises(OSError, match="not an answer"):
        _enabled(b"")


class _Audit:
    def __init__(self, reason):
        self.reason, self.records, self.overruns = reason, [], 0

    def check(self):
        pass

    open = close = check

    def read(self):
        taken, self.records = self.records, []
        return iter(taken)


class _File(_Audit):
    def __init__(self, *, is_there=True):
        super().__init__("")
        self.is_there = is_there

    def open(self):
        return self.is_there


def _record(user):
    return LoginRecord(1.0, "login", 9, user, "pts/1", "")


def test_a_login_that_both_sources_tell_of_counts_once_and_the_log_says_which_is_read():
    audit, file = _Audit(""), _File()
    logins = Logins(audit, (file,))
    with structlog.testing.capture_logs() as logs:
        assert logins.open()
        audit.records, file.records = [_record("audited")], [_record("filed")]
        assert [each.user for each in logins.read()] == ["audited"]
        audit.reason = "auditing is switched off"
        list(logins.read())
        audit.records, file.records = [_record("audited")], [_record("filed")]
        assert [each.user for each in logins.read()] == ["filed"]
    assert [(log["event"], log["source"], log["reason"]) for log in logs] == [
        ("reading logins", "audit", "auditing is on"),
        ("reading logins", "files", "auditing is switched off"),
    ]


def test_without_audit_and_files_there_is_no_source_until_auditing_is_switched_on():
    audit = _Audit("no such group")
    logins = Logins(audit, (_File(is_there=False),))
    assert not logins.open()
    assert list(logins.read()) == []
    audit.reason = ""
    list(logins.read())
    audit.records = [_record("late")]
    assert [each.user for each in logins.read()] == ["late"]
