import pytest

from eguard.bundle import MANIFEST_NAME, Manifest, check_counts, check_files, describe_file
from eguard.bundle.manifest import read_targets
from eguard.errors import BundleDigestError

FILES = {"rules.json": b"[1,2]", "models/signature-ml-model.json": b"{}"}


def manifest(**changes):
    values = {
        "format": 1,
        "model_version": "v1",
        "feature_contract_sha256": "c" * 64,
        "promoted": True,
        "files": {name: describe_file(data, 2) for name, data in FILES.items()},
    }
    return Manifest(**{**values, **changes})


def test_round_trip_is_canonical():
    data = manifest().to_bytes()
    assert Manifest.from_bytes(data) == manifest()
    assert Manifest.from_bytes(data).to_bytes() == data


def test_digest_is_that_of_the_bytes():
    described = describe_file(b"abc", 7)
    assert described.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (described.length_bytes, described.records) == (3, 7)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"rules.json": b"[1,2]"}, "lacks models/signature-ml-model.json"),
        ({**FILES, "extra.json": b""}, "does not list extra.json"),
        ({**FILES, "rules.json": b"[1,3]"}, "rules.json is not the file"),
        ({**FILES, "rules.json": b"[1,2] "}, "rules.json is not the file"),
    ],
)
def test_any_difference_is_refused(files, message):
    with pytest.raises(BundleDigestError, match=message):
        check_files(manifest(), files)


def test_whole_bundle_is_accepted():
    check_files(manifest(), {**FILES, MANIFEST_NAME: b"not pinned by itself"})


@pytest.mark.parametrize("counted", [{"rules.json": 2}, {"rules.json": 1, "models/signature-ml-model.json": 2}])
def test_a_loader_that_counts_otherwise_is_refused(counted):
    with pytest.raises(BundleDigestError, match="the loader counts"):
        check_counts(manifest(), counted)


def test_agreeing_counts_pass():
    check_counts(manifest(), dict.fromkeys(FILES, 2))


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"\xff", manifest(format=2).to_bytes()])
def test_what_is_no_manifest_of_this_format_is_refused(data):
    with pytest.raises(BundleDigestError, match="manifest"):
        Manifest.from_bytes(data)


def test_a_folder_without_manifest_is_no_bundle(tmp_path):
    (tmp_path / "rules.json").write_bytes(b"[]")
    with pytest.raises(BundleDigestError, match=r"holds no models/manifest\.json"):
        read_targets(tmp_path)
