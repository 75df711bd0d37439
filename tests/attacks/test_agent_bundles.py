"""Everything that a repository, its host, a bundle or a crash may do to an agent's bundles, and what the agent does."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import structlog

from eguard.agent import bundles as agent_bundles
from eguard.agent.bundles import BundleKeeper
from eguard.agent.kept_bundles import manifest_digest
from eguard.agent.trial_runner import try_out
from eguard.bundle import MANIFEST_NAME, PROVENANCE_NAME, Manifest, Repository, describe_file, generate_keys
from eguard.clock import SimulatedClock
from eguard.detection.content import load_content
from eguard.detection.features import FEATURE_NAMES, N_FEATURES, contract, contract_sha256
from eguard.detection.fleet_context import FleetContext
from eguard.detection.gate import CalibrationGroup, calibration_to_json
from eguard.detection.model import load_model
from eguard.errors import (
    BundleDigestError,
    BundleError,
    BundleExpiredError,
    BundleLoadError,
    BundleRollbackError,
    BundleSignatureError,
    ConfigError,
    ModelError,
)
from eguard.wire.canonical import canonical_json

SELECTOR = {"product": "windows", "category": "process_creation", "service": "", "event_codes": []}
RULE = {"id": "rule", "title": "t", "level": "high", "status": "test", "author": "a", "path": "r.yml"}
RULE |= {"licence": "DRL-1.1", "tags": ["attack.discovery"], "selector": SELECTOR}
RULE |= {"predicate": ["endswith", "Image", ["\\whoami.exe"]]}
#: Half a million empty lists: one and a half megabytes on the wire, some thirty in memory.
MANY_LISTS = b"[" + b"[]," * 500_000 + b"[]]"
DEEP = b"[" * 200_000 + b"]" * 200_000


def model_document(version, coefficient=8.0):
    coefficients = [0.0] * N_FEATURES
    coefficients[FEATURE_NAMES.index("rule_precision_prior")] = coefficient
    parameters = {"coefficients": coefficients, "center": [0.0] * N_FEATURES, "scale": [1.0] * N_FEATURES}
    return {
        "format": 1,
        "kind": "logistic",
        "version": version,
        "contract_sha256": contract_sha256(),
        "n_features": N_FEATURES,
        "threshold": 0.5,
        "platt": {"slope": 1.0, "intercept": 0.0},
        "tables": {"class_risk": [0.0] * 8, "rule_precision": {"S-Bad": 1.0}, "rule_precision_default": 0.0},
        "parameters": {**parameters, "intercept": -4.0},
    }


def release(version="one", *, promoted=True, counts=None, **replaced):
    """Return a small whole bundle; `replaced` has raw bytes by the stem of a file's name."""
    model = model_document(version)
    groups = {"pooled": CalibrationGroup(0.9, "calibrated", np.linspace(0.0, 0.9, 99))}
    calibration = calibration_to_json(
        groups,
        alpha=0.01,
        guarantee="marginal",
        model_digest=load_model(model).digest,
        contract_sha256=contract_sha256(),
    )
    documents = {
        "rules.json": {"format": 1, "rules": [RULE], "prefilter": {"sekurlsa::": 2}},
        "indicators.json": {"format": 1, "indicators": []},
        "feature-schema.json": contract(),
        "models/fleet-context.json": FleetContext().to_json(),
        "models/signature-ml-model.json": model,
        "models/calibration.json": calibration,
    }
    files = {name: canonical_json(document) for name, document in documents.items()}
    counted = {**load_content(files).counts, **(counts or {})}
    files |= {name: replaced[Path(name).stem] for name in files if Path(name).stem in replaced}
    manifest = Manifest(
        format=1,
        model_version=version,
        feature_contract_sha256=contract_sha256(),
        promoted=promoted,
        files={name: describe_file(data, counted[name]) for name, data in files.items()},
    )
    return {**files, MANIFEST_NAME: manifest.to_bytes(), PROVENANCE_NAME: b'{"_type":"statement"}'}


@dataclass
class Place:
    """A repository and an agent's state."""

    folder: Path

    @property
    def state(self):
        return self.folder / "state"

    @property
    def directory(self):
        return self.folder / "repository"

    def repository(self, **options):
        return Repository(self.directory, generate_keys(self.folder / "keys"), **options)

    def publish(self, *arguments, **options):
        self.repository().publish(release(*arguments, **options))

    def keeper(self, root=None, **options):
        options = {"max_load_memory_bytes": 256 << 20, "max_load_seconds": 30.0, **options}
        return BundleKeeper(self.state, str(self.directory), root, **options)


@pytest.fixture(scope="module")
def settled(tmp_path_factory):
    """A place in which an agent has taken the release `one`; copied for each test."""
    place = Place(tmp_path_factory.mktemp("settled"))
    place.publish("one")
    bundle = place.keeper().check()
    assert (bundle.manifest.model_version, bundle.content.model_version) == ("one", "one")
    return place


@pytest.fixture
def place(settled, tmp_path):
    shutil.copytree(settled.folder, tmp_path / "place")
    return Place(tmp_path / "place")


@pytest.fixture(scope="module")
def updated(settled, tmp_path_factory):
    """A place in which the agent has taken `one` and then `two`; copied for each test."""
    place = Place(tmp_path_factory.mktemp("updated") / "place")
    shutil.copytree(settled.folder, place.folder)
    place.publish("two")
    assert version_of(place.keeper().check()) == "two"
    return place


@pytest.fixture
def place_of_two(updated, tmp_path):
    shutil.copytree(updated.folder, tmp_path / "place")
    return Place(tmp_path / "place")


@pytest.fixture
def fresh(tmp_path):
    place = Place(tmp_path / "fresh")
    place.publish("one")
    return place


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


def test_no_bundle_yet_is_none_and_no_error(tmp_path):
    place = Place(tmp_path)
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
    mixed = release("two")
    mixed["models/calibration.json"] = release("three")["models/calibration.json"]
    place.repository().publish(mixed)


def sign_as_stranger(place):
    strangers = Repository(place.folder / "strangers", generate_keys(place.folder / "other-keys"))
    for number in range(3):
        strangers.publish(release(f"evil{number}"))
    for path in strangers.metadata_dir.glob("*"):
        if path.name != "1.root.json":
            shutil.copy(path, place.directory / "metadata")


def change_first_root(place):
    strangers = Repository(place.folder / "strangers", generate_keys(place.folder / "other-keys"))
    strangers.publish(release("evil"))
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


def test_expired_metadata_keep_the_bundle_and_say_stale(tmp_path):
    place = Place(tmp_path / "place")
    place.publish("one")
    place.keeper().check()
    shutil.rmtree(place.directory)
    long_ago = datetime.now(UTC) - timedelta(days=3)
    old = Repository(place.directory, generate_keys(place.folder / "keys"), now=long_ago)
    for version in ("one", "two", "three"):
        old.publish(release(version))
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
    assert len(kept_folders(place)) == 1


def test_a_model_that_is_not_the_manifests_is_refused(place):
    document = model_document("two", coefficient=9.0)
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
    files = release("two")
    place.repository().publish(files)
    digest = manifest_digest(Manifest.from_bytes(files[MANIFEST_NAME]))
    entry = {"strikes": 2, "reason": "it ran for too long", "model_version": "two", "last_failed_unix": 0.0}
    (place.state / "denylist.json").write_text(json.dumps({"format": 1, "bundles": {digest: entry}}))
    assert place.keeper().check() is None
    (place.state / "denylist.json").unlink()
    assert version_of(place.keeper().check()) == "two"


# --- crashes and damage ---

CHECK = """
import os, signal, sys
from pathlib import Path
from eguard.agent.bundles import BundleKeeper
from eguard.agent.kept_bundles import manifest_digest
from eguard.agent.trial_runner import try_out
from eguard.agent import kept_bundles
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(kept_bundles.KeptBundles, sys.argv[3], die)
BundleKeeper(Path(sys.argv[1]), sys.argv[2]).check()
"""


@pytest.mark.parametrize("moment", ["keep", "_remove_others"])
def test_killed_while_a_bundle_is_kept_either_one_is_whole(place, moment):
    place.publish("two")
    answer = subprocess.run([sys.executable, "-c", CHECK, place.state, place.directory, moment], check=False)
    assert answer.returncode == -signal.SIGKILL
    keeper = place.keeper()
    kept = version_of(keeper.last_good())
    assert kept == ("two" if moment == "_remove_others" else "one")
    assert version_of(keeper.check()) == (None if kept == "two" else "two")
    assert version_of(place.keeper().last_good()) == "two"


def kept_folders(place):
    return {path.name: path for path in (place.state / "kept").iterdir() if path.is_dir()}


@pytest.mark.parametrize("what", ["manifest.json", "a file", "missing"])
def test_a_damaged_copy_gives_way_to_the_one_before_it(place_of_two, what):
    place = place_of_two
    folder = kept_folders(place)[place.keeper().last_good().digest]
    if what == "missing":
        shutil.rmtree(folder)
    else:
        path = folder / what if what == "manifest.json" else min(folder.glob("?" * 64))
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    keeper = place.keeper()
    assert version_of(keeper.last_good()) == "one"
    assert "cannot be used" in keeper.status().last_error


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"format":1,"bundles":[{"digest":"../../etc"}]}'])
def test_a_damaged_index_costs_no_bundle(place, content):
    (place.state / "kept/index.json").write_bytes(content)
    assert version_of(place.keeper().last_good()) == "one"


def test_a_damaged_denylist_or_floor_is_told_and_detection_stays(place):
    (place.state / "denylist.json").write_bytes(b"\x00")
    keeper = place.keeper()
    assert version_of(keeper.last_good()) == "one"
    assert keeper.check() is None
    assert (place.state / "denylist.json.damaged").exists()
    (place.state / "repository/version-floor.json").write_bytes(b"[]")
    assert_keeps_one(place, place.keeper(), BundleError, state="current")


def test_a_copy_that_another_version_tried_out_is_tried_out_again(place, monkeypatch):
    tried = []
    monkeypatch.setattr(agent_bundles, "try_out", lambda manifest, *_: tried.append(manifest.model_version))
    assert version_of(place.keeper().last_good()) == "one"
    assert tried == []
    monkeypatch.setattr(agent_bundles, "_TRIED_WITH", "a later version")
    assert version_of(place.keeper().last_good()) == "one"
    assert tried == ["one"]


def test_only_two_copies_stay(place_of_two):
    place_of_two.publish("three")
    assert version_of(place_of_two.keeper().check()) == "three"
    assert len(kept_folders(place_of_two)) == 2
    assert not list((place_of_two.state / "kept").glob(".*"))


@pytest.fixture
def full_disk(place):
    """Put the agent's state on a disk of its own, and fill it."""
    away = place.state.with_name("away")
    place.state.rename(away)
    place.state.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", place.state]
    mount = subprocess.run(command, check=False, capture_output=True, text=True)
    if mount.returncode:
        pytest.skip(f"cannot mount a small disk: {mount.stderr.strip()}")
    shutil.copytree(away, place.state, dirs_exist_ok=True)
    with contextlib.suppress(OSError), (place.state / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 4096)
    yield place
    subprocess.run(["umount", place.state], check=True)


def test_a_full_disk_costs_the_update_and_not_the_bundle(full_disk):
    full_disk.publish("two")
    keeper = full_disk.keeper()
    assert version_of(keeper.last_good()) == "one"
    for _ in range(2):
        with pytest.raises(BundleError):
            keeper.check()
    assert version_of(full_disk.keeper().last_good()) == "one"
    (full_disk.state / "ballast").unlink()
    assert version_of(keeper.check()) == "two"
    assert version_of(full_disk.keeper().last_good()) == "two"


# --- trust on first use ---


def open_file(place):
    (place.directory / "metadata/1.root.json").chmod(0o666)


def open_folder(place):
    place.directory.chmod(0o777)


def link(place):
    root = place.directory / "metadata/1.root.json"
    root.rename(root.with_name("elsewhere.json"))
    root.symlink_to("elsewhere.json")


def give_away(place):
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(place.directory / "metadata/1.root.json", 12345, 12345)


@pytest.mark.parametrize("act", [open_file, open_folder, link, give_away], ids=lambda act: act.__name__)
def test_a_root_that_others_could_have_written_is_not_trusted(fresh, act):
    act(fresh)
    keeper = fresh.keeper()
    with pytest.raises(BundleSignatureError, match="not trusted on first use") as refusal:
        keeper.check()
    assert "EGUARD_BUNDLE_ROOT" in refusal.value.remedy
    assert keeper.status().state == "refused"
    assert not (fresh.state / "root.json").exists()


def test_a_root_from_enrolment_is_what_counts(fresh, settled):
    stranger = settled.repository()
    root = (stranger.metadata_dir / "1.root.json").read_bytes()
    with pytest.raises(BundleSignatureError):
        fresh.keeper(root).check()
    assert not (fresh.state / "root.json").exists(), "only a root that verified something is pinned"


@pytest.mark.parametrize("address", ["https://bundles.example/", "http://x", ""])
def test_only_local_repositories_are_taken(tmp_path, address):
    with pytest.raises(ConfigError, match="no folder of this machine"):
        BundleKeeper(tmp_path, address)


def test_a_file_address_is_a_folder(place):
    keeper = BundleKeeper(place.state, place.directory.as_uri())
    keeper.last_good()
    assert keeper.check() is None
