"""The request file: what is written comes back, and nothing else is believed."""

import json
import os
import threading

import pytest

from eguard.agent.isolation.request import IsolationRequest, PinnedServer, RequestFile
from eguard.errors import IsolationError, IsolationUnavailableError

REQUEST = IsolationRequest(
    servers=(PinnedServer("server.example:8443", ("192.0.2.7", "2001:db8::7")),),
    resolvers=("192.0.2.53",),
    questions=("server.example",),
    requested_at_unix=1_790_000_000,
    requested_by="alice (sudo)",
)


@pytest.fixture
def file(tmp_path):
    file = RequestFile(tmp_path / "nac")
    with file.locked():
        file.write(REQUEST)
    return file


def document(**changes):
    plain = {
        "servers": [{"server": "server.example:8443", "addresses": ["192.0.2.7"]}],
        "resolvers": [],
        "questions": [],
        "requested_at_unix": 0,
        "requested_by": "",
        "format": "eguard-isolation-request/1",
    }
    return json.dumps({**plain, **changes})


def test_what_is_written_comes_back(file):
    assert file.read() == REQUEST


def test_folder_and_file_are_their_owners_alone(file):
    assert (file.folder.stat().st_mode & 0o777, file.path.stat().st_mode & 0o777) == (0o700, 0o600)


def test_no_file_is_no_request(tmp_path):
    assert RequestFile(tmp_path / "never").read() is None


def test_removal_says_whether_there_was_one(file):
    assert (file.remove(), file.remove(), file.read()) == (True, False, None)


def test_file_is_written_beside_synced_and_renamed(file, monkeypatch):
    calls = []
    for name in ("fsync", "open", "replace", "rename"):
        real = getattr(os, name)

        def spy(*arguments, _name=name, _real=real, **named):
            calls.append(_name)
            return _real(*arguments, **named)

        monkeypatch.setattr(os, name, spy)
    file.write(REQUEST)
    assert [call for call in calls if call != "open"] in (["fsync", "rename", "fsync"], ["fsync", "replace", "fsync"])


def test_a_write_that_fails_leaves_the_old_request(file, monkeypatch):
    def fail(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        file.write(IsolationRequest((PinnedServer("192.0.2.9:1", ("192.0.2.9",)),), (), (), 0, ""))
    assert file.read() == REQUEST


def test_a_left_over_of_a_killed_write_is_in_nobodys_way(file):
    (file.folder / ".isolation.json.new").write_text("torn")
    file.write(REQUEST)
    assert sorted(path.name for path in file.folder.iterdir()) == ["isolation.json"]


@pytest.mark.parametrize("length", range(0, 300, 7))
def test_truncated_file_is_refused_whole(file, length):
    data = file.path.read_bytes()
    file.path.write_bytes(data[: min(length, len(data) - 3)])
    with pytest.raises(IsolationError, match="damaged"):
        file.read()


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "null",
        document(servers=[]),
        document(servers=[{"server": "x };flush ruleset:443", "addresses": ["192.0.2.7"]}]),
        document(servers=[{"server": "x:443", "addresses": ["192.0.2.7 }; flush ruleset"]}]),
        document(servers=[{"server": "x:443", "addresses": []}]),
        document(servers=[{"server": "x:443", "addresses": ["0.0.0.0"]}]),
        document(servers=[{"server": "x:443", "addresses": ["192.0.2.7"] * 65}]),
        document(resolvers=["any"]),
        document(questions=["a;b"]),
        document(questions=["a" * 301]),
        document(requested_at_unix=-1),
        document(requested_at_unix=2**60),
        document(requested_at_unix=0.5),
        document(format="eguard-isolation-request/2"),
        document(unknown=1),
        "[" * 100_000,
        document(requested_by="x" * 300_000),
    ],
    ids=[
        "list",
        "null",
        "no-server",
        "hostile-server",
        "hostile-address",
        "no-address",
        "any-address",
        "too-many-addresses",
        "hostile-resolver",
        "hostile-question",
        "long-question",
        "before-time",
        "after-time",
        "fraction",
        "other-format",
        "unknown-field",
        "deep",
        "large",
    ],
)
def test_what_is_no_request_is_refused_with_a_remedy(file, text):
    file.path.write_text(text)
    with pytest.raises(IsolationError) as refused:
        file.read()
    assert "eguard nac allow" in refused.value.remedy


def test_bytes_that_are_no_text_are_refused(file):
    file.path.write_bytes(document().encode().replace(b"server.example", b"server\xff"))
    with pytest.raises(IsolationError, match="damaged"):
        file.read()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_file_that_others_may_touch_is_not_believed(file, mode):
    file.path.chmod(mode)
    with pytest.raises(IsolationError, match="others"):
        file.read()


def test_links_pipes_and_folders_are_not_followed(file, tmp_path):
    file.path.rename(tmp_path / "elsewhere")
    file.path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IsolationError, match="plain file"):
        file.read()
    file.path.unlink()
    os.mkfifo(file.path, 0o600)
    with pytest.raises(IsolationError, match="plain file"):
        file.read()
    file.path.unlink()
    file.path.mkdir()
    with pytest.raises(IsolationError, match="plain file"):
        file.read()


def test_two_commands_take_turns(file):
    entered = threading.Event()

    def second():
        with file.locked():
            entered.set()

    thread = threading.Thread(target=second)
    with file.locked():
        thread.start()
        assert not entered.wait(0.1)
    assert entered.wait(5)
    thread.join()


def test_a_folder_of_somebody_else_is_a_matter_of_privileges(tmp_path, monkeypatch):
    def refuse(*arguments, **named):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(IsolationUnavailableError, match="state folder"), RequestFile(tmp_path).locked():
        pass
