"""Crashes, damage, a full disk and a question of trust: what an agent's bundles survive."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import pytest

from eguard.agent import bundles as agent_bundles
from eguard.agent.bundles import BundleKeeper
from eguard.errors import BundleError, BundleSignatureError, ConfigError


def version_of(bundle):
    return bundle and bundle.manifest.model_version


# --- crashes and damage ---

CHECK = """
import os, signal, sys
from pathlib import Path
from eguard.agent.bundles import BundleKeeper
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


@pytest.mark.parametrize("what", ["manifest.json", "a file", "missing"])
def test_a_damaged_copy_gives_way_to_the_one_before_it(place_of_two, what):
    place = place_of_two
    folder = place.kept_folders[place.keeper().last_good().digest]
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
    keeper = place.keeper()
    assert version_of(keeper.last_good()) == "one"
    with pytest.raises(BundleError, match=r"version floor .* is damaged"):
        keeper.check()
    assert (keeper.status().model_version, keeper.status().state) == ("one", "current")


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
    assert len(place_of_two.kept_folders) == 2
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
    subprocess.run(["umount", "--lazy", place.state], check=True)


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
