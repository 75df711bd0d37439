"""The online refresh: new snapshot and timestamp with two keys, and nothing else."""

import shutil
from datetime import UTC, datetime, timedelta

import pytest
from tuf.api.metadata import Metadata

from eguard.bundle.keys import generate_keys
from eguard.bundle.online import LOCK_NAME, refresh_repository
from eguard.bundle.repository import Repository
from eguard.errors import BundleError

PUBLISHED = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def published(tmp_path):
    """A repository and the folder that holds its online keys alone."""
    signers = generate_keys(tmp_path / "all")
    Repository(tmp_path / "repository", signers, now=PUBLISHED).publish({"rules.json": b"[]", "models/m.json": b"{}"})
    online = tmp_path / "online"
    online.mkdir()
    for role in ("snapshot", "timestamp"):
        shutil.copy(tmp_path / "all" / f"{role}-1.pem", online)
    return tmp_path / "repository", online


def contents(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*.json")}


def test_a_refresh_prolongs_with_the_online_keys_alone(published):
    repository, online = published
    before = contents(repository)
    later = PUBLISHED + timedelta(days=5)
    facts = refresh_repository(repository, online, now=later)
    timestamp = Metadata.from_file(str(repository / "metadata" / "timestamp.json"))
    assert timestamp.signed.expires == later + timedelta(days=2)
    assert facts["expires"] == (later + timedelta(days=2)).isoformat()
    version = facts["versions"]["snapshot"]
    snapshot = Metadata.from_file(str(repository / "metadata" / f"{version}.snapshot.json"))
    root = Metadata.from_file(str(repository / "metadata" / "1.root.json")).signed
    root.verify_delegate("timestamp", timestamp.signed_bytes, timestamp.signatures)
    root.verify_delegate("snapshot", snapshot.signed_bytes, snapshot.signatures)
    after = contents(repository)
    changed = {str(path) for path in after if before.get(path) != after[path]}
    assert changed == {"metadata/timestamp.json", f"metadata/{version}.snapshot.json"}


def test_versions_rise_with_every_refresh(published):
    first = refresh_repository(*published)["versions"]
    second = refresh_repository(*published)["versions"]
    assert all(second[role] == first[role] + 1 for role in ("snapshot", "timestamp"))


def test_keys_that_agents_would_not_accept_are_refused_and_nothing_is_written(published, tmp_path):
    repository, _ = published
    generate_keys(tmp_path / "other")
    before = contents(repository)
    with pytest.raises(BundleError, match=r"none that 1\.root\.json names"):
        refresh_repository(repository, tmp_path / "other")
    assert contents(repository) == before


def test_a_missing_key_is_named(published, tmp_path):
    (published[1] / "timestamp-1.pem").unlink()
    with pytest.raises(BundleError, match="timestamp-1"):
        refresh_repository(*published)


def test_a_damaged_root_is_refused(published):
    repository, online = published
    (repository / "metadata" / "1.root.json").write_bytes(b"{")
    with pytest.raises(BundleError, match="cannot be read"):
        refresh_repository(repository, online)


def test_two_refreshes_at_once_are_kept_apart(published):
    fcntl = pytest.importorskip("fcntl")
    repository, online = published
    with (repository / LOCK_NAME).open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BundleError, match="another process"):
            refresh_repository(repository, online)
    assert refresh_repository(repository, online)["versions"]
