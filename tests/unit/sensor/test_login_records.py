import struct

from eguard.events import UNCOUNTED, EventClass
from eguard.sensor.login_records import LoginFile, parse_login_records
from eguard.sensor.process_table import KnownProcess


def _record(kind, user=b"alice", line=b"pts/3", host=b"192.0.2.7", seconds=1_700_000_000, pid=812):
    head = struct.pack("=hxxi32s4s32s256s", kind, pid, line, b"ts/3", user, host)
    return head + struct.pack("=hhiii16s20s", 0, 0, 0, seconds, 250_000, b"\xc0\x00\x02\x07", b"")


def test_a_record_has_the_size_of_glibcs():
    assert len(_record(7)) == 384


def test_logins_and_logouts_are_read_and_boots_are_not():
    login, logout = parse_login_records(_record(7) + _record(2, user=b"reboot") + _record(8, user=b""))
    assert (login.user, login.terminal, login.host, login.pid) == ("alice", "pts/3", "192.0.2.7", 812)
    assert (login.time_unix, login.event_type, logout.event_type) == (1_700_000_000.25, "login", "logout")
    sshd = KnownProcess(812, 700, "sshd", "sshd", 0)
    event = login.to_event("web", "ebpf", sshd)
    assert (event.event_class, event.comm, event.parent_comm, event.user) == (EventClass.LOGIN, "sshd", "sshd", "alice")
    assert logout.to_event("web", "ebpf", KnownProcess(812)).event_class == UNCOUNTED
    assert logout.to_event("web", "ebpf", KnownProcess(812)).comm == "login"


def test_every_record_of_failed_attempts_is_one():
    (failed,) = parse_login_records(_record(6, user=b"root"), failed=True)
    assert (failed.event_type, failed.user, failed.host) == ("login_failed", "root", "192.0.2.7")
    assert failed.to_event("web", "ebpf", KnownProcess(812)).event_class == EventClass.LOGIN


def test_a_torn_record_waits_for_its_rest(tmp_path, monkeypatch):
    monkeypatch.setattr("eguard.sensor.login_records._CHECK_SECONDS", 0.0)
    path = tmp_path / "wtmp"
    path.write_bytes(_record(7, user=b"before"))
    records = LoginFile(path)
    assert records.open()
    assert list(records.read()) == []
    with path.open("ab") as stream:
        stream.write(_record(7) + _record(7, user=b"bob")[:100])
    assert [each.user for each in records.read()] == ["alice"]
    with path.open("ab") as stream:
        stream.write(_record(7, user=b"bob")[100:])
    assert [each.user for each in records.read()] == ["bob"]


def test_a_rotated_file_is_read_from_its_beginning(tmp_path, monkeypatch):
    monkeypatch.setattr("eguard.sensor.login_records._CHECK_SECONDS", 0.0)
    path = tmp_path / "wtmp"
    path.write_bytes(_record(7) * 2)
    records = LoginFile(path)
    records.open()
    path.rename(tmp_path / "wtmp.1")
    assert list(records.read()) == []
    path.write_bytes(_record(7, user=b"carol"))
    assert [each.user for each in records.read()] == ["carol"]


def test_without_the_file_there_are_no_logins(tmp_path):
    records = LoginFile(tmp_path / "none")
    assert not records.open()
    assert list(records.read()) == []
