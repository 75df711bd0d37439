"""A candidate beside the stable release: who takes it, what keeps it out, and that it never costs the stable one."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest

from eguard.agent.candidate_part import Part
from eguard.bundle import MANIFEST_NAME, PROVENANCE_NAME, Manifest
from eguard.bundle.candidate import LISTING_NAME, CandidateListing
from eguard.bundle.promotion import StagedCandidate, publish_models, read_served
from eguard.errors import BundleDigestError, BundleError, BundleExpiredError, BundleSignatureError
from eguard.wire.canonical import canonical_json


def digest(files):
    return Manifest.from_bytes(files[MANIFEST_NAME]).digest


def version_of(bundle):
    return bundle and bundle.manifest.model_version


class Chosen:
    """A part that a test changes between two checks."""

    def __init__(self, part):
        self.part = part

    def __call__(self, listing):
        self.seen = listing
        return self.part


@pytest.fixture
def stage(fresh):
    """Publish `one` as stable and a candidate beside it."""

    def publish(candidate=None, percent=1.0, stable=None, now=None):
        staged = None if candidate is None else StagedCandidate(candidate, percent, 100.0)
        return publish_models(
            fresh.directory, fresh.folder / "keys", stable or fresh.release("one"), staged, now=now
        )  # fmt: skip

    return publish


@pytest.fixture
def listed(fresh):
    """What the folder offers to those who ask it anew."""
    return lambda: read_served(fresh.directory)


def test_a_candidate_runs_in_its_cohort_only_and_goes_when_it_is_withdrawn(fresh, stage, make):
    two = fresh.release("two")
    stage(two)
    assert version_of(fresh.keeper().check()) == "one"  # an agent without a server takes no part
    shutil.rmtree(fresh.state)
    choose = Chosen(Part.RUN)
    keeper = fresh.keeper(choose=choose)
    assert version_of(keeper.check()) == "two"
    assert keeper.status().is_candidate
    assert (choose.seen.percent, choose.seen.manifest_sha256) == (1.0, digest(two))
    assert keeper.check() is None
    versions = stage().versions
    assert version_of(keeper.check()) == "one"
    assert not keeper.status().is_candidate
    assert keeper.status().state == "current"
    assert versions["nightly"] == 4  # empty, one, one and two, one again: it only rises


def test_a_share_that_shrinks_below_an_agent_gives_it_the_stable_release_back(fresh, stage):
    choose = Chosen(Part.RUN)
    keeper = fresh.keeper(choose=choose)
    stage(fresh.release("two"))
    assert version_of(keeper.check()) == "two"
    choose.part = Part.NONE
    assert version_of(keeper.check()) == "one"


def test_a_promoted_candidate_is_not_loaded_again_where_it_ran_and_loaded_elsewhere(fresh, stage, tmp_path):
    two = fresh.release("two")
    runs = fresh.keeper(choose=Chosen(Part.RUN))
    stage(two)
    assert version_of(runs.check()) == "two"
    stage(stable=two)
    assert runs.check() is None
    assert not runs.status().is_candidate
    fresh.folder.joinpath("state").rename(tmp_path / "first-agent")
    assert version_of(fresh.keeper().check()) == "two"


def test_a_candidate_in_the_shadow_is_loaded_beside_and_leaves_what_is_in_use(fresh, stage):
    choose = Chosen(Part.SHADOW)
    keeper = fresh.keeper(choose=choose)
    stage(fresh.release("two"))
    assert version_of(keeper.check()) == "one"
    assert version_of(keeper.shadow) == "two"
    first = keeper.shadow
    assert keeper.check() is None
    assert keeper.shadow is first  # not tried out again
    assert version_of(fresh.keeper().last_good()) == "one"  # a shadow is not kept
    stage()
    assert keeper.check() is None
    assert keeper.shadow is None
    choose.part = Part.RUN
    stage(fresh.release("two"))
    assert version_of(keeper.check()) == "two"
    assert keeper.shadow is None


@pytest.mark.parametrize("part", [Part.RUN, Part.SHADOW])
def test_a_candidate_that_counts_otherwise_is_refused_and_reported_and_the_stable_one_runs(fresh, stage, part):
    keeper = fresh.keeper(choose=Chosen(part))
    bad = fresh.release("two", counts={"rules.json": 7})
    stage(bad)
    assert version_of(keeper.check()) == "one"
    status = keeper.status()
    assert (status.refused_digest, status.refused_code) == (digest(bad), "bundle_digest")
    assert "the loader counts 1 records" in status.candidate_error
    assert status.state == "current"
    assert keeper.shadow is None
    stage(bad, stable=fresh.release("three"))
    assert version_of(keeper.check()) == "three"  # the stable release goes on meanwhile
    good = fresh.release("four")
    stage(good, stable=fresh.release("three"))
    found = keeper.check()
    assert version_of(found if part is Part.RUN else keeper.shadow) == "four"


def test_files_of_two_candidates_are_not_published_together(fresh, stage, listed):
    mixed = {**fresh.release("two"), "models/signature-ml-model.json": canonical_json(fresh.model_document("three"))}
    before = listed()
    with pytest.raises(BundleDigestError, match="is not the file that the manifest names"):
        stage(mixed)
    assert listed() == before


def test_files_of_two_candidates_that_are_signed_all_the_same_are_refused_by_agents(fresh, stage):
    two = fresh.release("two")
    mixed = {
        **{name.replace("models/", "models/candidate-"): data for name, data in two.items() if "models/" in name},
        **{name: data for name, data in fresh.release("one").items() if "models/" in name},
        "models/candidate-signature-ml-model.json": canonical_json(fresh.model_document("three")),
        LISTING_NAME: CandidateListing(
            manifest_sha256=digest(two), model_version="two", percent=100.0, shadow_percent=0.0
        ).to_bytes(),
    }
    fresh.repository().publish_nightly(mixed, b"{}")
    keeper = fresh.keeper(choose=Chosen(Part.RUN))
    assert version_of(keeper.check()) == "one"
    assert "is not the file that the manifest names" in keeper.status().candidate_error


def test_a_candidate_of_a_later_form_is_refused_by_its_number_and_the_stable_release_is_taken(fresh, stage):
    later = {name: data for name, data in fresh.release("two").items() if name.startswith("models/")}
    later[LISTING_NAME] = json.dumps({"format": 2, "waves": [1, 5], "percent": "all"}).encode()
    fresh.repository().publish_nightly(later, b"{}")
    keeper = fresh.keeper(choose=Chosen(Part.RUN))
    assert version_of(keeper.check()) == "two"
    assert keeper.status().candidate_error == "the candidate's listing has format 2; this version reads 1"


def test_a_bundle_of_a_later_form_is_refused_by_its_number_and_the_one_in_use_stays(place):
    keeper = place.keeper()
    keeper.last_good()
    later = json.loads(place.release("two")[MANIFEST_NAME]) | {"format": 2, "signed_by": "somebody"}
    files = {name: data for name, data in place.release("two").items() if name.startswith("models/")}
    place.repository().publish_nightly({**files, MANIFEST_NAME: canonical_json(later)}, b"{}")
    with pytest.raises(BundleDigestError, match="manifest has format 2; this version reads 1") as caught:
        keeper.check()
    assert "Update eGuard" in caught.value.remedy
    assert (keeper.status().model_version, keeper.status().state) == ("one", "refused")
    assert version_of(place.keeper().last_good()) == "one"


def test_a_model_of_other_rules_needs_the_release_key(fresh, stage, listed):
    rules = json.loads(fresh.release("one")["rules.json"])
    rules["prefilter"] = {"mimikatz": 2}
    other = fresh.release("two", rules=canonical_json(rules))
    before = listed()
    for publish in (lambda: stage(other), lambda: stage(stable=other)):
        with pytest.raises(BundleDigestError, match=r"built with another rules\.json") as caught:
            publish()
        assert "release key" in caught.value.remedy
    assert listed() == before


def test_nothing_is_promoted_below_a_release_that_has_expired(fresh, stage, listed):
    before = listed()
    with pytest.raises(BundleExpiredError, match="targets metadata expired"):
        stage(fresh.release("two"), now=datetime.now(UTC) + timedelta(days=91))
    assert listed() == before


def test_keys_that_agents_would_not_accept_sign_nothing(fresh, stage, listed, tmp_path):
    keys = fresh.folder / "keys"
    foreign = type(fresh)(tmp_path / "elsewhere")
    foreign.repository().create()
    before = listed()
    for name, error in (("nightly-1.pem", BundleSignatureError), ("timestamp-1.pem", BundleError)):
        shutil.copy(keys / name, tmp_path / name)
        shutil.copy(foreign.folder / "keys" / name, keys / name)
        with pytest.raises(error, match="is none that"):
            stage(fresh.release("two"))
        (keys / name).unlink()
        with pytest.raises(BundleError, match="cannot read the signing key"):
            stage(fresh.release("two"))
        shutil.copy(tmp_path / name, keys / name)
    assert listed() == before
    (keys / "root-1.pem").unlink()
    (keys / "targets-1.pem").unlink()
    stage(fresh.release("two"))  # the offline keys are not needed
    assert listed().listing.model_version == "two"


def test_going_back_lists_the_old_files_under_a_new_number(fresh, stage, listed):
    one, two = fresh.release("one"), fresh.release("two")
    promoted = stage(stable=two)
    assert promoted.changed_roles == ("nightly",)
    back = stage(stable=one)
    assert back.versions["nightly"] == promoted.versions["nightly"] + 1
    assert back.versions["targets"] == promoted.versions["targets"]
    served = listed()
    assert {name: served.files[name] for name in one} == one
    assert stage(stable=one).changed_roles == ()
    assert PROVENANCE_NAME in served.files
