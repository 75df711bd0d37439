"""The repository's files and nothing beside them."""

import os

import pytest

from eguard.bundle.keys import generate_keys
from eguard.bundle.manifest import Manifest, describe_file
from eguard.bundle.repository import Repository
from eguard.errors import ServerRefusalError
from eguard.server.services.bundle_files import BundleFiles

RULES = b"[]" * 50_000


@pytest.fixture
def served(tmp_path):
    manifest = Manifest(
        format=1,
        model_version="m7",
        feature_contract_sha256="0" * 64,
        promoted=True,
        files={"rules.json": describe_file(RULES, 12)},
    )
    files = {"rules.json": RULES, "models/manifest.json": manifest.to_bytes()}
    Repository(tmp_path / "repository", generate_keys(tmp_path / "keys")).publish(files)
    (tmp_path / "secret.json").write_text("secret")
    (tmp_path / "repository" / "secret.json").write_text("secret")
    return BundleFiles(tmp_path / "repository")


def read(files, kind, name):
    return b"".join(files.open(kind, name).chunks())


def test_metadata_and_targets_come_as_they_are(served, tmp_path):
    folder = tmp_path / "repository"
    for kind in ("metadata", "targets"):
        for path in sorted((folder / kind).rglob("*.json")):
            assert read(served, kind, path.relative_to(folder / kind).as_posix()) == path.read_bytes()


REFUSED = [
    "../secret.json",
    "..",
    ".",
    "",
    "/etc/passwd",
    "//etc/passwd",
    "models/../../secret.json",
    "models/../../../secret.json",
    "..%2fsecret.json",
    "..\\secret.json",
    "models",
    "models/",
    "a/b/c.json",
    ".hidden",
    "timestamp.json\x00",
    "timestamp.json\n",
    "x" * 201,
    "\u2025/secret.json",
    "2.root.json",
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
@pytest.mark.parametrize("kind", ["metadata", "targets"])
def test_no_name_leads_out_of_the_repository(served, kind, number):
    with pytest.raises(ServerRefusalError) as caught:
        served.open(kind, REFUSED[number])
    assert (caught.value.status, caught.value.reason) == (404, "unknown_bundle_file")


def test_links_out_of_the_repository_pipes_and_folders_are_no_files(served, tmp_path):
    targets = tmp_path / "repository" / "targets"
    (targets / "link.json").symlink_to(tmp_path / "secret.json")
    (targets / "away").symlink_to(tmp_path)
    (targets / "loop.json").symlink_to("loop.json")
    os.mkfifo(targets / "pipe.json")
    for name in ("link.json", "away/secret.json", "loop.json", "pipe.json"):
        with pytest.raises(ServerRefusalError):
            served.open("targets", name)


def test_the_tag_changes_with_the_file_and_the_open_file_stays_whole(served, tmp_path):
    path = tmp_path / "repository" / "metadata" / "timestamp.json"
    before, content = served.open("metadata", "timestamp.json"), path.read_bytes()
    new = tmp_path / "new"
    new.write_bytes(b"{}")
    new.replace(path)
    after = served.open("metadata", "timestamp.json")
    assert before.etag != after.etag
    assert b"".join(before.chunks()) == content
    assert b"".join(after.chunks()) == b"{}"


def test_a_file_that_grows_while_it_is_sent_is_sent_at_its_length(served, tmp_path):
    path = tmp_path / "repository" / "targets" / "a.json"
    path.write_bytes(b"x" * 100_000)
    file = served.open("targets", "a.json")
    with path.open("ab") as stream:
        stream.write(b"y" * 10)
    assert b"".join(file.chunks()) == b"x" * 100_000


def test_the_version_says_what_is_offered(served):
    version = served.version()
    assert version["model_version"] == "m7"
    assert version["promoted"] is True
    assert version["records"] == {"rules.json": 12}
    assert set(version["versions"]) == {"targets", "nightly", "snapshot", "timestamp"}
    assert version["expires_at_unix"] > 1.7e9


def test_without_a_release_there_is_no_version(tmp_path):
    with pytest.raises(ServerRefusalError) as caught:
        BundleFiles(tmp_path).version()
    assert (caught.value.status, caught.value.reason) == (404, "no_bundles")


def test_a_damaged_repository_is_said_to_be_so(served, tmp_path):
    (tmp_path / "repository" / "metadata" / "timestamp.json").write_bytes(b"{")
    with pytest.raises(ServerRefusalError) as caught:
        served.version()
    assert (caught.value.status, caught.value.reason) == (503, "bundles_damaged")
