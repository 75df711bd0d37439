"""What a trial lets pass, what it refuses, and that it leaves the machine to others."""

import dataclasses
import math
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from eguard.agent.load_trial import TrialAnswer, answer, encode_bundle, probe
from eguard.bundle.manifest import Manifest, describe_file
from eguard.detection.gate import CalibrationGroup, ConformalGate
from eguard.errors import ModelError

N_FEATURES = 5
MANIFEST = Manifest(
    format=1,
    model_version="v1",
    feature_contract_sha256="0" * 64,
    promoted=True,
    files={"rules.json": describe_file(b"[]", 0)},
)
FILES = {"rules.json": b"[]"}


@dataclasses.dataclass
class Scores:
    """A model of N_FEATURES features whose logits are given."""

    value: float
    constant: float | None = None

    @property
    def scorer(self):
        return self

    n_features = N_FEATURES

    def logit(self, rows):
        return np.full(len(rows), self.value)

    def score(self, rows):
        return 1.0 / (1.0 + np.exp(-self.logit(rows)))

    def contributions(self, rows):
        return np.zeros_like(rows), self.value if self.constant is None else self.constant


@dataclasses.dataclass
class Content:
    model: Scores
    gate: ConformalGate


def content(value, constant=None):
    gate = ConformalGate({"pooled": CalibrationGroup(0.9, "calibrated", np.linspace(0.0, 1.0, 9))}, 0.01, "digest")
    return Content(Scores(value, constant), gate)


def test_a_model_that_scores_passes():
    probe(content(0.3))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_without_a_probability_is_refused(value):
    with pytest.raises(ModelError, match="where probabilities belong"), np.errstate(all="ignore"):
        probe(content(value))


def test_a_model_whose_explanation_is_not_its_score_is_refused():
    with pytest.raises(ModelError, match="do not add up"):
        probe(content(0.3, constant=0.4))


def test_a_refusal_is_an_answer():
    found = answer(encode_bundle(MANIFEST, FILES))
    assert (found.code, found.message) == ("model", "the bundle lacks feature-schema.json")
    changed = answer(encode_bundle(MANIFEST, {"rules.json": b"[ ]"}))
    assert changed.code == "bundle_digest"
    assert msgspec.json.decode(msgspec.json.encode(changed), type=TrialAnswer) == changed


LIMITS = """
import json, resource
from eguard.agent.load_trial import limit_resources
limit_resources(64 << 20, 5.0)
names = ["RLIMIT_CORE", "RLIMIT_NOFILE", "RLIMIT_FSIZE", "RLIMIT_CPU"]
print(json.dumps({name: resource.getrlimit(getattr(resource, name)) for name in names}))
try:
    bytearray(96 << 20)
except MemoryError:
    print("no memory")
bytearray(32 << 20)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_limits_hold_in_the_process_that_sets_them():
    answer = subprocess.run([sys.executable, "-c", LIMITS], capture_output=True, text=True, check=True)
    first, second = answer.stdout.splitlines()
    limits = msgspec.json.decode(first)
    assert limits["RLIMIT_CORE"] == [0, 0]
    assert limits["RLIMIT_NOFILE"] == [64, 64]
    assert limits["RLIMIT_FSIZE"] == [65536, 65536]
    assert 5 <= limits["RLIMIT_CPU"][1] <= 15
    assert second == "no memory"
