"""Strikes are kept, and the file that keeps them stays small and private."""

import stat

import pytest

from eguard.agent import denylist as module
from eguard.agent.denylist import Denylist


def test_two_strikes_deny_over_a_restart(tmp_path):
    path = tmp_path / "denylist.json"
    assert Denylist(path).strike("aa", "first", "v1", 1.0) == 1
    assert Denylist(path).reason("aa") == ""
    assert Denylist(path).strike("aa", "second", "v1", 2.0) == 2
    again = Denylist(path)
    assert (again.reason("aa"), len(again)) == ("second", 1)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_oldest_entries_go_first(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MAX_ENTRIES", 3)
    denylist = Denylist(tmp_path / "denylist.json")
    for digest in ("a", "b", "a", "c", "d"):
        denylist.strike(digest, "died", "v", 0.0)
    again = Denylist(tmp_path / "denylist.json")
    assert again.reason("a") == "died", "its second strike made it the youngest but two"
    assert again.strike("b", "died", "v", 0.0) == 1, "forgotten"


def test_a_strike_counts_although_the_disk_refuses(tmp_path):
    denylist = Denylist(tmp_path / "missing" / "denylist.json")
    assert [denylist.strike("a", "died", "v", 0.0) for _ in range(2)] == [1, 2]
    assert denylist.reason("a") == "died"


@pytest.mark.parametrize("content", [b"", b"[]", b'{"format":1,"bundles":{"a":{"strikes":"x"}}}', b"\xff"])
def test_a_damaged_file_denies_nothing_and_is_kept_for_a_look(tmp_path, content):
    path = tmp_path / "denylist.json"
    path.write_bytes(content)
    assert len(Denylist(path)) == 0
    assert path.with_name("denylist.json.damaged").read_bytes() == content
