"""Everything that a repository, its host, a bundle or a crash may do to an agent's bundles, and what the agent does."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import structlog

from eguard.agent import bundles as agent_bundles
from eguard.agent.trial_runner import try_out
from eguard.bundle import MANIFEST_NAME, Manifest, Repository, generate_keys
from eguard.clock import SimulatedClock
from eguard.detection.features import N_FEATURES
from eguard.errors import (
    BundleDigestError,
    BundleError,
    BundleExpiredError,
    BundleLoadError,
    BundleRollbackError,
    BundleSignatureError,
    ModelError,
)
from eguard.wire.canonical import canonical_json

#: Half a million empty lists: one and a half megabytes on the wire, some thirty in memory.
MANY_LISTS = b"[" + b"[]," * 500_000 + b"[]]"
DEEP = b"[" * 200_000 + b"]" * 200_000


def version_of(bundle):
    return bundle and bundle.manifest.model_version


def assert_keeps_one(place, keeper, error, state="refused"):
    """A check fails like this, the next one too, and what was in use is there, now and after a restart."""
    keeper.last_good()
    for number in (1, 2):
        with pytest.raises(error):
            keeper.check()
        assert keeper.status().refusals_total in (0, number)
    status = keeper.status()
    assert (status.model_version, status.state) == ("one", state)
    assert status.last_error
    again = place.keeper().last_good()
    assert version_of(again) == "one"
    assert again.content.model.score(np.zeros((1, N_FEATURES))).shape == (1,)


def test_an_update_is_taken_once_and_kept(place):
    keeper = place.keeper()
    assert version_of(keeper.last_good()) == "one"
    assert keeper.check() is None
    place.publish("two", promoted=False)
    bundle = keeper.check()
    assert (version_of(bundle), bundle.manifest.promoted) == ("two", False)
    assert bundle.versions["nightly"] == 3
    assert keeper.check() is None
    status = keeper.status()
    assert (status.digest, status.model_version, status.promoted) == (bundle.digest, "two", False)
    assert (status.state, status.last_error, status.refusals_total) == ("current", "", 0)
    restarted = place.keeper()
    kept = restarted.last_good()
    assert (kept.digest, kept.versions) == (bundle.digest, bundle.versions)
    assert restarted.check() is None


def test_state_is_for_its_user_alone(place):
    assert place.state.stat().st_mode & 0o777 == 0o700
    for path in [place.state / "root.json", *(place.state / "kept").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_no_bundle_yet_is_none_and_no_error(tmp_path, make):
    place = make.Place(tmp_path)
    keeper = place.keeper()
    assert keeper.last_good() is None
    assert keeper.status().state == "none"
    with pytest.raises(BundleError):
        keeper.check()
    assert keeper.status().state == "none"


# --- the repository and its host ---


def roll_back(place):
    shutil.copytree(place.directory, place.folder / "old")
    place.repository().refresh()
    place.keeper().check()
    shutil.rmtree(place.directory)
    shutil.move(place.folder / "old", place.directory)


def flip_a_byte(place):
    place.publish("two")
    path = max(
        (place.directory / "targets/models").glob("*.signature-ml-model.json"), key=lambda each: each.stat().st_mtime
    )
    assert b'"two"' in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(b'"two"', b'"twi"'))


def mix_releases(place):
    mixed = place.release("two")
    mixed["models/calibration.json"] = place.release("three")["models/calibration.json"]
    place.repository().publish(mixed)


def sign_as_stranger(place):
    strangers = Repository(place.folder / "strangers", generate_keys(place.folder / "other-keys"))
    for number in range(3):
        strangers.publish(place.release(f"evil{number}"))
    for path in strangers.metadata_dir.glob("*"):
        if path.name != "1.root.json":
            shutil.copy(path, place.directory / "metadata")


def change_first_root(place):
    strangers = Repository(place.folder / "strangers", generate_keys(place.folder / "other-keys"))
    strangers.publish(place.release("evil"))
    shutil.rmtree(place.directory)
    shutil.copytree(strangers.directory, place.directory)


def grow(place):
    place.publish("two", rules=b" " * 2_000_000)


ATTACKS = {
    "rollback": (roll_back, BundleRollbackError),
    "flipped-byte": (flip_a_byte, BundleDigestError),
    "mixed-releases": (mix_releases, BundleDigestError),
    "strangers": (sign_as_stranger, BundleSignatureError),
    "changed-root": (change_first_root, BundleSignatureError),
}


@pytest.mark.parametrize("attack", sorted(ATTACKS))
def test_an_attack_on_the_repository_is_refused_and_the_bundle_stays(place, attack):
    act, error = ATTACKS[attack]
    act(place)
    with structlog.testing.capture_logs() as logs:
        assert_keeps_one(place, place.keeper(), error)
    assert [line["event"] for line in logs] == ["refused bundle"], "said once, not at every check"


def test_a_release_larger_than_allowed_is_not_fetched(place):
    grow(place)
    assert_keeps_one(place, place.keeper(max_bundle_bytes=1_000_000), BundleError, state="current")
    assert not list(place.state.glob("repository/targets/*rules.json.new"))
    assert (place.state / "repository/targets/rules.json").stat().st_size < 10_000


def test_expired_metadata_keep_the_bundle_and_say_stale(tmp_path, make):
    place = make.Place(tmp_path / "place")
    place.publish("one")
    place.keeper().check()
    shutil.rmtree(place.directory)
    long_ago = datetime.now(UTC) - timedelta(days=3)
    old = Repository(place.directory, generate_keys(place.folder / "keys"), now=long_ago)
    for version in ("one", "two", "three"):
        old.publish(place.release(version))
    root = (place.state / "root.json").read_bytes()
    (place.directory / "metadata/1.root.json").write_bytes(root)
    assert_keeps_one(place, place.keeper(), BundleExpiredError, state="stale")


def test_a_repository_out_of_reach_becomes_stale_with_time(place):
    shutil.rmtree(place.directory)
    clock = SimulatedClock(datetime.now(UTC).timestamp())
    keeper = place.keeper(clock=clock)
    assert_keeps_one(place, keeper, BundleError, state="current")
    assert keeper.status().refusals_total == 0
    clock.advance_to(clock.now() + 3 * 86_400)
    with pytest.raises(BundleError):
        keeper.check()
    assert keeper.status().state == "stale"
    assert keeper.status().last_checked_unix == clock.now()


# --- bundles that load badly ---


def test_other_counts_than_the_release_had_are_refused_without_a_second_load(place, monkeypatch):
    place.publish("two", counts={"rules.json": 2})
    tried = []

    def count(*arguments):
        tried.append(arguments)
        return try_out(*arguments)

    monkeypatch.setattr(agent_bundles, "try_out", count)
    keeper = place.keeper()
    assert_keeps_one(place, keeper, BundleDigestError)
    assert len(tried) == 1
    assert "counts 1 records, the release had 2" in keeper.status().last_error
    assert len(place.kept_folders) == 1


def test_a_model_that_is_not_the_manifests_is_refused(place):
    document = place.model_document("two", coefficient=9.0)
    place.publish("two", **{"signature-ml-model": canonical_json(document)})
    assert_keeps_one(place, place.keeper(), ModelError)
    assert place.keeper().status().denylisted == 0


DEADLY = {
    "memory": ({"rules": MANY_LISTS}, {"max_load_memory_bytes": 24 << 20}, "more than 25165824 bytes of memory"),
    "time": ({"rules": MANY_LISTS}, {"max_load_seconds": 0.02}, "more than 0.02 s of CPU time"),
    "crash": ({"rules": DEEP}, {}, "ended with status 1: RecursionError"),
}


@pytest.mark.parametrize("kind", sorted(DEADLY))
def test_a_bundle_that_kills_its_loader_kills_no_agent(place, kind):
    replaced, limits, reason = DEADLY[kind]
    place.publish("deadly", **replaced)
    keeper = place.keeper(**limits)
    keeper.last_good()
    with pytest.raises(BundleLoadError, match=reason):
        keeper.check()
    status = keeper.status()
    assert (status.model_version, status.state, status.denylisted) == ("one", "refused", 0)
    (entry,) = json.loads((place.state / "denylist.json").read_text())["bundles"].values()
    assert (entry["strikes"], entry["model_version"]) == (1, "deadly")
    assert list(place.state.glob("tmp*")) == [], "the bytes that the trial read are gone"


def test_the_second_time_it_is_denied_over_restarts_until_another_is_offered(place):
    place.publish("deadly", rules=DEEP)
    for _ in range(2):
        keeper = place.keeper()
        assert version_of(keeper.last_good()) == "one"
        with pytest.raises(BundleLoadError):
            keeper.check()
    keeper = place.keeper()
    keeper.last_good()
    with structlog.testing.capture_logs() as logs:
        assert keeper.check() is None
        assert keeper.check() is None
    assert [line["event"] for line in logs] == ["skipped denylisted bundle"]
    status = keeper.status()
    assert (status.model_version, status.state, status.denylisted) == ("one", "refused", 1)
    assert "denylist" in status.last_error
    place.publish("two")
    assert version_of(keeper.check()) == "two"
    assert keeper.status().state == "current"


def test_a_denied_bundle_is_tried_again_once_its_entry_is_removed(place):
    files = place.release("two")
    place.repository().publish(files)
    digest = Manifest.from_bytes(files[MANIFEST_NAME]).digest
    entry = {"strikes": 2, "reason": "it ran for too long", "model_version": "two", "last_failed_unix": 0.0}
    (place.state / "denylist.json").write_text(json.dumps({"format": 1, "bundles": {digest: entry}}))
    assert place.keeper().check() is None
    (place.state / "denylist.json").unlink()
    assert version_of(place.keeper().check()) == "two"
