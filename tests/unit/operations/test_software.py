import re
import tomllib
from pathlib import Path

import pytest

from eguard.operations import software
from eguard.operations.software import PACKAGES, SUPPORTED

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]


def test_the_packages_are_those_of_the_project():
    named = [re.split(r"[^A-Za-z0-9-]", line)[0] for line in PROJECT["dependencies"]]
    named += [re.split(r"[^A-Za-z0-9-]", line)[0] for line in PROJECT["optional-dependencies"]["agent"]]
    assert set(PACKAGES) == {*named, "cryptography"}  # securesystemslib[crypto] brings it


def test_the_versions_are_those_of_the_project():
    low, high = SUPPORTED
    assert PROJECT["requires-python"] == f">={low[0]}.{low[1]},<{high[0]}.{high[1] + 1}"


def test_a_missing_package_is_named(examine, monkeypatch):
    monkeypatch.setattr(software, "PACKAGES", {"msgspec": "msgspec", "no-such-package": "no_such_package"})
    found = examine("packages")
    assert (found.state, "no-such-package" in found.cause) == ("failed", True)
    assert "eguard[agent]" in found.remedy


@pytest.mark.parametrize(("version", "state"), [((3, 10, 9), "failed"), ((3, 11, 0), "ok"), ((3, 14, 0), "failed")])
def test_the_interpreters_version(examine, monkeypatch, version, state):
    from types import SimpleNamespace

    made = type("Version", (tuple,), {"major": version[0], "minor": version[1], "micro": version[2]})(version)
    monkeypatch.setattr(software, "sys", SimpleNamespace(version_info=made, executable="/usr/bin/python3"))
    assert examine("python").state == state


def test_a_misspelt_variable_is_named(examine, monkeypatch):
    assert examine("settings").cause == "all settings have their defaults"
    monkeypatch.setenv("EGUARD_AGENT_ID", "agent-9")
    assert examine("settings").cause == "set here: EGUARD_AGENT_ID (environment)"
    monkeypatch.setenv("EGUARD_AGENTID", "agent-9")
    found = examine("settings")
    assert (found.state, found.cause) == ("warning", "no such settings: EGUARD_AGENTID")


def test_isolation_needs_nft(examine, monkeypatch):
    monkeypatch.setattr("eguard.agent.isolation.kernel.Nft._program", lambda _: "/bin/false")
    found = examine("nft")
    assert (found.state, "cannot be isolated" in found.cause) == ("warning", True)
    assert found.remedy
