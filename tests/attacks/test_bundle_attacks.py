"""Everything that the network or the repository's host may do to a bundle, and the refusal it meets."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from eguard.bundle import (
    MANIFEST_NAME,
    PROVENANCE_NAME,
    BundleClient,
    Manifest,
    Repository,
    describe_file,
    generate_keys,
    verify_statement,
)
from eguard.errors import (
    BundleDigestError,
    BundleError,
    BundleExpiredError,
    BundleRollbackError,
    BundleSignatureError,
)


def release(model: bytes, rules: bytes = b"[]") -> dict[str, bytes]:
    files = {"rules.json": rules, "models/signature-ml-model.json": model}
    manifest = Manifest(
        format=1,
        model_version=model.decode(),
        feature_contract_sha256="0" * 64,
        promoted=False,
        files={name: describe_file(data, 0) for name, data in files.items()},
    )
    return {**files, MANIFEST_NAME: manifest.to_bytes(), PROVENANCE_NAME: b'{"_type":"statement"}'}


@pytest.fixture
def repository(tmp_path):
    repository = Repository(tmp_path / "repository", generate_keys(tmp_path / "keys"))
    repository.publish(release(b"one"))
    return repository


@pytest.fixture
def client(tmp_path, repository):
    root = (repository.metadata_dir / "1.root.json").read_bytes()
    return BundleClient(tmp_path / "client", repository.directory.as_uri(), root)


def test_published_files_come_out_as_they_went_in(repository, client):
    bundle = client.fetch()
    assert {**bundle.files, MANIFEST_NAME: bundle.manifest.to_bytes()} == release(b"one")
    assert bundle.versions == {"timestamp": 2, "snapshot": 2, "targets": 2, "nightly": 2}


def test_unchanged_release_makes_no_new_version(repository):
    before = repository.versions()
    assert repository.publish(release(b"one")).changed_roles == ()
    assert repository.versions() == before


def test_a_new_model_needs_only_the_nightly_key(repository, client):
    client.fetch()
    publication = repository.publish(release(b"two"))
    assert publication.changed_roles == ("nightly",)
    assert client.fetch().files["models/signature-ml-model.json"] == b"two"


def test_rolling_back_is_a_new_version_with_the_old_files(repository, client):
    repository.publish(release(b"two"))
    high = client.fetch().versions
    repository.publish(release(b"one"))
    bundle = client.fetch()
    assert bundle.files["models/signature-ml-model.json"] == b"one"
    assert bundle.versions["nightly"] > high["nightly"]


def test_provenance_is_signed_by_release_and_nightly_key(repository, client):
    envelope = (repository.directory / "provenance.dsse.json").read_bytes()
    assert verify_statement(envelope, client.fetch().provenance_keys, threshold=2) == {"_type": "statement"}


def flip_bit(path, bit=0):
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("name", ["rules.json", "models/signature-ml-model.json", MANIFEST_NAME, PROVENANCE_NAME])
def test_one_flipped_bit_of_any_target_is_refused(repository, client, name):
    folder, base = (repository.targets_dir / name).parent, name.rsplit("/", 1)[-1]
    (stored,) = folder.glob(f"*.{base}")
    flip_bit(stored, bit=5)
    with pytest.raises(BundleDigestError):
        client.fetch()


@pytest.mark.parametrize("name", ["timestamp.json", "2.snapshot.json", "2.targets.json", "2.nightly.json"])
@pytest.mark.parametrize("position", [0.3, 0.6, 0.9])
def test_flipped_metadata_is_refused(repository, client, name, position):
    path = repository.metadata_dir / name
    flip_bit(path, bit=int(path.stat().st_size * position) * 8)
    with pytest.raises(BundleError):
        client.fetch()


def test_old_repository_served_again_is_a_rollback(repository, client, tmp_path):
    shutil.copytree(repository.directory, tmp_path / "old")
    repository.publish(release(b"two"))
    client.fetch()
    shutil.rmtree(repository.directory)
    shutil.copytree(tmp_path / "old", repository.directory)
    with pytest.raises(BundleRollbackError):
        client.fetch()


def test_version_floor_survives_the_loss_of_trusted_metadata(repository, client, tmp_path):
    shutil.copytree(repository.directory, tmp_path / "old")
    repository.publish(release(b"two"))
    client.fetch()
    shutil.rmtree(client.state_dir / "metadata")
    shutil.rmtree(repository.directory)
    shutil.copytree(tmp_path / "old", repository.directory)
    with pytest.raises(BundleRollbackError, match="has seen"):
        client.fetch()


def test_withheld_updates_become_visible_as_expiry(tmp_path):
    long_ago = datetime.now(UTC) - timedelta(days=3)
    repository = Repository(tmp_path / "stale", generate_keys(tmp_path / "keys"), now=long_ago)
    repository.publish(release(b"one"))
    root = (repository.metadata_dir / "1.root.json").read_bytes()
    with pytest.raises(BundleExpiredError, match="stale"):
        BundleClient(tmp_path / "client", repository.directory.as_uri(), root).fetch()
    Repository(tmp_path / "stale", generate_keys(tmp_path / "keys")).refresh()
    assert BundleClient(tmp_path / "client", repository.directory.as_uri(), root).fetch().versions["timestamp"] == 3


def test_files_of_two_releases_each_validly_signed_are_refused(repository, client):
    mixed = release(b"two")
    mixed[MANIFEST_NAME] = release(b"one")[MANIFEST_NAME]
    repository.publish(mixed)
    with pytest.raises(BundleDigestError, match="not the file that the manifest names"):
        client.fetch()


def test_repository_signed_by_strangers_is_refused(repository, client, tmp_path):
    strangers = Repository(tmp_path / "strangers", generate_keys(tmp_path / "other-keys"))
    strangers.publish(release(b"evil"))
    for path in strangers.metadata_dir.iterdir():
        shutil.copy(path, repository.metadata_dir / path.name)
    with pytest.raises(BundleSignatureError):
        client.fetch()


def test_nightly_key_cannot_sign_rules(repository, client):
    """The delegation covers models/* alone: rules listed by the nightly role are never looked up there."""
    nightly = json.loads((repository.metadata_dir / "2.nightly.json").read_bytes())
    targets = json.loads((repository.metadata_dir / "2.targets.json").read_bytes())
    (role,) = targets["signed"]["delegations"]["roles"]
    assert role["paths"] == ["models/*"]
    assert role["terminating"]
    assert all(name.startswith("models/") for name in nightly["signed"]["targets"])
    assert "rules.json" in targets["signed"]["targets"]


def test_root_needs_two_of_its_three_keys(repository):
    root = json.loads((repository.metadata_dir / "1.root.json").read_bytes())
    assert root["signed"]["roles"]["root"]["threshold"] == 2
    assert len(root["signatures"]) == 3


def test_missing_repository_is_a_clear_error(client, repository):
    shutil.rmtree(repository.directory)
    with pytest.raises(BundleError, match="cannot be read"):
        client.fetch()


def test_other_keys_cannot_continue_a_repository(repository, tmp_path):
    with pytest.raises(BundleError, match="signed with other"):
        Repository(repository.directory, generate_keys(tmp_path / "other")).publish(release(b"two"))
