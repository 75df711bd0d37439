"""How a trial is started, fenced in and ended."""

import os
import subprocess

import pytest

from eguard.agent import trial_runner
from eguard.agent.trial_runner import TrialLimits, try_out
from eguard.bundle.manifest import Manifest, describe_file
from eguard.errors import BundleLoadError, ModelError

MANIFEST = Manifest(
    format=1,
    model_version="v1",
    feature_contract_sha256="0" * 64,
    promoted=True,
    files={"rules.json": describe_file(b"[]", 0)},
)
FILES = {"rules.json": b"[]"}


def test_an_orderly_refusal_comes_back_as_the_error_it_was(tmp_path):
    with pytest.raises(ModelError, match=r"lacks feature-schema\.json"):
        try_out(MANIFEST, FILES, TrialLimits(1 << 28, 30.0), tmp_path)


class NoPatience(TrialLimits):
    """The wall clock alone is short."""

    wall_seconds = 0.1


def test_a_trial_that_takes_its_time_is_killed(tmp_path):
    with pytest.raises(BundleLoadError, match=r"ran for longer than 0\.1 s"):
        try_out(MANIFEST, FILES, NoPatience(1 << 28, 30.0), tmp_path)
    assert list(tmp_path.iterdir()) == []


#: In the place of the module: prints what it was given.
SPY = """
import os, resource, sys
print(sorted(int(name) for name in os.listdir("/proc/self/fd"))[:-1], file=sys.stderr)
print(sorted(os.environ), file=sys.stderr)
print(os.getsid(0) == os.getpid(), file=sys.stderr)
sys.exit(7)
"""


def test_a_trial_inherits_no_file_no_session_and_no_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("EGUARD_SECRET", "x")
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)  # noqa: FBT003 - the standard library's signature
    seen = []

    class Spy(subprocess.Popen):
        def __init__(self, command, **options):
            super().__init__([command[0], "-c", SPY], **options)

    monkeypatch.setattr(trial_runner.subprocess, "Popen", Spy)
    monkeypatch.setattr(trial_runner, "_tail", lambda stream: seen.extend(read_lines(stream)) or "")
    with pytest.raises(BundleLoadError, match="status 7"):
        try_out(MANIFEST, FILES, TrialLimits(1 << 28, 30.0), tmp_path)
    os.close(reading)
    os.close(writing)
    descriptors, names, leads = seen
    assert descriptors == "[0, 1, 2]"
    assert "EGUARD_SECRET" not in names
    assert leads == "True"


def read_lines(stream):
    stream.seek(0)
    return stream.read().decode().splitlines()
