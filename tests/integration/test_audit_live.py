"""The audit group of this kernel, with messages sent to it as a login program sends them. Needs root."""

import os
import socket
import struct
import time
from contextlib import contextmanager

import pytest

from eguard.sensor.audit_logins import NETLINK_AUDIT, AuditLogins, parse_audit_messages, parse_login_message

AUDIT_SET, USER_AVC, USER_LOGIN = 1001, 1107, 1112
TEXT = 'op=login acct="parity" exe="/usr/sbin/sshd" hostname=? addr=192.0.2.77 terminal=/dev/pts/9 res=failed'


def _send(kind, payload):
    """Send one message to the kernel and wait for its consent."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_AUDIT) as control:
        control.settimeout(2.0)
        control.send(struct.pack("=IHHII", 16 + len(payload), kind, 0x5, 1, 0) + payload)
        (error,) = struct.unpack_from("=i", control.recv(4096), 16)
        if error:
            raise OSError(-error, os.strerror(-error))


@contextmanager
def _auditing():
    """Auditing switched on, and off again if it was."""
    before = AuditLogins()
    before.open()
    was_off = before.reason == "auditing is switched off"
    before.close()
    if was_off:
        _send(AUDIT_SET, struct.pack("=10I", 1, 1, *[0] * 8))
    try:
        yield
    finally:
        if was_off:
            _send(AUDIT_SET, struct.pack("=10I", 1, 0, *[0] * 8))


@pytest.fixture
def logins():
    logins = AuditLogins()
    logins.open()
    if logins.reason and logins.reason != "auditing is switched off":
        pytest.skip(logins.reason)
    yield logins
    logins.close()


def _gather(read, seconds=3.0):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := read():
            return found
        time.sleep(0.01)
    return []


def test_what_a_program_says_comes_back_with_what_the_kernel_knows_of_it(logins):
    """Of all messages from programs this kind alone passes while auditing is off; only its number is another."""

    def read():
        try:
            messages = parse_audit_messages(logins._stream.recv(16_384))
        except BlockingIOError:
            return []
        return [each for each in messages if each.kind == USER_AVC and "parity" in each.text]

    _send(USER_AVC, TEXT.encode() + b"\x00")
    (message,) = _gather(read)
    record = parse_login_message(message._replace(kind=USER_LOGIN))
    assert (record.event_type, record.user, record.host) == ("login_failed", "parity", "192.0.2.77")
    assert record.pid == os.getpid()
    assert abs(record.time_unix - time.time()) < 10


def test_a_login_is_read_from_the_group(logins):
    if logins.reason and os.environ.get("EGUARD_TEST_AUDIT") != "1":
        # Once on, the kernel keeps an account of every later process's calls until it is restarted.
        pytest.skip("auditing is off; EGUARD_TEST_AUDIT=1 has this test switch it on")
    with _auditing():
        logins.check()
        assert not logins.reason
        _send(USER_LOGIN, TEXT.encode() + b"\x00")
        records = _gather(lambda: [each for each in logins.read() if each.user == "parity"])
    assert [(each.event_type, each.pid, each.terminal) for each in records] == [
        ("login_failed", os.getpid(), "/dev/pts/9")
    ]
