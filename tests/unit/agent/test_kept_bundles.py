"""A copy comes back as it went in, or not at all."""

import json
import shutil

import pytest

from eguard.agent.kept_bundles import KeptBundles, KeptEntry
from eguard.bundle.manifest import Manifest, describe_file
from eguard.errors import BundleDigestError

FILES = {"rules.json": b"[1]", "../../escape.json": b"no name becomes a path"}


def manifest_of(files, version="v1"):
    return Manifest(
        format=1,
        model_version=version,
        feature_contract_sha256="0" * 64,
        promoted=True,
        files={name: describe_file(data, 1) for name, data in files.items()},
    )


@pytest.fixture
def kept(tmp_path):
    return KeptBundles(tmp_path / "kept")


def keep(kept, files=FILES, version="v1"):
    manifest = manifest_of(files, version)
    digest = manifest.digest
    kept.keep(KeptEntry(digest, {"timestamp": 2}, "this"), manifest, files)
    return digest


def test_a_copy_comes_back_whole_under_harmless_names(kept, tmp_path):
    digest = keep(kept)
    assert kept.entries() == [KeptEntry(digest, {"timestamp": 2}, "this")]
    copy = kept.read(digest)
    assert (copy.files, copy.manifest) == (FILES, manifest_of(FILES))
    assert {path.name for path in tmp_path.iterdir()} == {"kept"}
    assert all(len(path.name) == 64 or path.name == "manifest.json" for path in (tmp_path / "kept" / digest).iterdir())


def test_a_changed_file_is_noticed(kept, tmp_path):
    digest = keep(kept)
    path = tmp_path / "kept" / digest / manifest_of(FILES).files["rules.json"].sha256
    path.write_bytes(b"[2]")
    with pytest.raises(BundleDigestError, match="not the file that the manifest names"):
        kept.read(digest)


def test_another_whole_bundle_under_this_name_is_noticed(kept, tmp_path):
    """Every file agrees with its manifest; only the folder's name says that it is not what was verified."""
    first, second = keep(kept), keep(kept, {"rules.json": b"[2]"}, "v2")
    shutil.rmtree(tmp_path / "kept" / first)
    shutil.copytree(tmp_path / "kept" / second, tmp_path / "kept" / first)
    with pytest.raises(BundleDigestError, match="not the one that was kept"):
        kept.read(first)


def test_the_index_names_no_path(kept, tmp_path):
    digest = keep(kept)
    index = json.loads((tmp_path / "kept/index.json").read_bytes())
    index["bundles"].insert(0, {"digest": "../" * 21 + "x", "versions": {}, "tried_with": ""})
    (tmp_path / "kept/index.json").write_text(json.dumps(index))
    assert [entry.digest for entry in kept.entries()] == [digest]


def test_keeping_a_damaged_copy_again_repairs_it(kept, tmp_path):
    digest = keep(kept)
    (tmp_path / "kept" / digest / "manifest.json").write_bytes(b"")
    assert keep(kept) == digest
    assert kept.read(digest).files == FILES
