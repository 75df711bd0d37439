"""Places in which an agent meets a repository."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def _load(name):
    full_name = f"eguard_attacks_{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, HERE / f"{name}.py")
        sys.modules[full_name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[full_name])
    return sys.modules[full_name]


agent_place = _load("agent_place")


@pytest.fixture(scope="session")
def make():
    """Return the module that makes releases and models."""
    return agent_place


@pytest.fixture(scope="session")
def settled(tmp_path_factory):
    """A place in which an agent has taken the release `one`; copied for each test."""
    place = agent_place.Place(tmp_path_factory.mktemp("settled"))
    place.publish("one")
    bundle = place.keeper().check()
    assert (bundle.manifest.model_version, bundle.content.model_version) == ("one", "one")
    return place


@pytest.fixture
def place(settled, tmp_path):
    shutil.copytree(settled.folder, tmp_path / "place")
    return agent_place.Place(tmp_path / "place")


@pytest.fixture(scope="session")
def updated(settled, tmp_path_factory):
    """A place in which the agent has taken `one` and then `two`; copied for each test."""
    place = agent_place.Place(tmp_path_factory.mktemp("updated") / "place")
    shutil.copytree(settled.folder, place.folder)
    place.publish("two")
    assert place.keeper().check().manifest.model_version == "two"
    return place


@pytest.fixture
def place_of_two(updated, tmp_path):
    shutil.copytree(updated.folder, tmp_path / "place")
    return agent_place.Place(tmp_path / "place")


@pytest.fixture
def fresh(tmp_path):
    place = agent_place.Place(tmp_path / "fresh")
    place.publish("one")
    return place
