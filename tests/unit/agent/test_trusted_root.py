"""Which root is trusted when, in the order in which an agent meets them."""

import sys

import pytest

from eguard.agent.trusted_root import RootOfTrust, refuse_writable_by_others
from eguard.errors import BundleSignatureError


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "repository/metadata").mkdir(parents=True)
    (tmp_path / "repository/metadata/1.root.json").write_bytes(b"first")
    return tmp_path / "state", tmp_path / "repository"


def test_the_first_root_is_trusted_until_it_was_pinned_and_then_for_good(folders):
    state, repository = folders
    first = repository / "metadata/1.root.json"
    assert RootOfTrust(state, repository, None).read() == b"first"
    first.write_bytes(b"another, before anything was verified")
    assert RootOfTrust(state, repository, None).read() == b"another, before anything was verified"
    first.write_bytes(b"first")
    RootOfTrust(state, repository, None).pin(b"first")
    assert RootOfTrust(state, repository, None).read() == b"first"
    first.write_bytes(b"changed")
    with pytest.raises(BundleSignatureError, match="not the root that this machine trusted first") as refusal:
        RootOfTrust(state, repository, None).read()
    assert str(state) in refusal.value.remedy


def test_a_pinned_root_needs_no_file_in_the_repository(folders):
    state, repository = folders
    RootOfTrust(state, repository, None).pin(b"first")
    (repository / "metadata/1.root.json").unlink()
    assert RootOfTrust(state, repository, None).read() == b"first"


def test_the_root_from_enrolment_wins_and_takes_the_pins_place(folders):
    state, repository = folders
    RootOfTrust(state, repository, None).pin(b"first")
    enrolled = RootOfTrust(state, repository, b"enrolled")
    assert enrolled.read() == b"enrolled"
    enrolled.pin(b"enrolled")
    assert (state / "root.json").read_bytes() == b"enrolled"
    assert (state / "root.json").stat().st_mode & 0o777 == 0o600


def test_on_windows_nothing_is_trusted_on_first_use(tmp_path, monkeypatch):
    (tmp_path / "1.root.json").write_bytes(b"{}")
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(BundleSignatureError, match="does not say who") as refused:
        refuse_writable_by_others(tmp_path / "1.root.json")
    assert "EGUARD_BUNDLE_ROOT" in refused.value.remedy
