"""Files of candidates, by their digest; and what a night has to have left to be one."""

import json

import pytest
from attacks.agent_place import release

from eguard.errors import BundleDigestError, BundleError, ConfigError
from eguard.server.services.candidate_files import CandidateFiles, latest_night, refusal_of


@pytest.fixture
def files(tmp_path):
    return CandidateFiles(tmp_path / "candidates")


def test_equal_bytes_lie_there_once_and_come_back_whole(files, tmp_path):
    one, two = release("one"), release("two")
    kept = files.keep(one), files.keep(two)
    assert kept[0]["rules.json"] == kept[1]["rules.json"]
    assert len(list((tmp_path / "candidates").iterdir())) == len({*kept[0].values(), *kept[1].values()})
    assert (files.read(kept[0]), files.read(kept[1])) == (one, two)
    assert files.keep(one) == kept[0]


def test_a_file_that_was_cut_short_is_written_again(files, tmp_path):
    kept = files.keep(release("one"))
    cut = tmp_path / "candidates" / kept["rules.json"]
    cut.write_bytes(cut.read_bytes()[:10])
    with pytest.raises(BundleDigestError, match="is damaged"):
        files.read(kept)
    files.keep(release("one"))
    assert files.read(kept) == release("one")


@pytest.mark.parametrize("digest", ["../../etc/passwd", "a" * 63, "A" * 64, ""])
def test_what_is_no_digest_names_no_file(files, digest):
    with pytest.raises(BundleDigestError, match="is no digest"):
        files.read({"rules.json": digest})


def test_a_missing_file_is_named(files):
    files.keep(release("one"))
    with pytest.raises(BundleError, match=r"rules\.json is not in"):
        files.read({"rules.json": "0" * 64})


def test_a_folder_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be kept"):
        CandidateFiles(tmp_path / "file" / "candidates").keep(release("one"))


def test_only_what_agents_would_take_is_no_refusal():
    assert refusal_of(release("one")) is None
    whole = release("one")
    lacking = {name: data for name, data in whole.items() if name != "models/provenance.json"}
    assert "lacks models/provenance.json" in str(refusal_of(lacking))
    renamed = release("one", **{"signature-ml-model": release("two")["models/signature-ml-model.json"]})
    assert refusal_of(renamed) is not None  # its thresholds belong to another model


def test_a_file_that_agents_would_not_read_to_its_end_is_refused(monkeypatch):
    largest = max(len(data) for data in release("one").values())
    monkeypatch.setattr("eguard.bundle.manifest.MAX_FILE_BYTES", largest)
    assert refusal_of(release("one")) is None
    monkeypatch.setattr("eguard.bundle.manifest.MAX_FILE_BYTES", largest - 1)
    assert "an agent takes at most" in str(refusal_of(release("one")))


@pytest.mark.parametrize(
    "report", [None, b"", b"{", b"[]", b'{"run_id": "r"}', b'{"run_id": "r", "artefacts": 3}'], ids=repr
)
def test_a_folder_in_which_no_night_has_succeeded_has_nothing(tmp_path, report):
    if report is not None:
        (tmp_path / "latest").mkdir()
        (tmp_path / "latest" / "report.json").write_bytes(report)
    assert latest_night(tmp_path, lambda _: False) is None


def test_a_night_without_a_bundle_is_no_candidate(tmp_path):
    (tmp_path / "latest").mkdir()
    (tmp_path / "latest" / "report.json").write_text(json.dumps({"run_id": "r", "artefacts": {}}))
    assert latest_night(tmp_path, lambda _: False) is None
