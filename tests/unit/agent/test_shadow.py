"""A candidate's model beside the one in use: what is counted, and that nothing of it reaches an alert."""

import json

import numpy as np
import pytest
from attacks.agent_place import model_document, release

from eguard.agent.bundle_status import NewBundle
from eguard.agent.shadow import ShadowScorer
from eguard.bundle import MANIFEST_NAME, Manifest
from eguard.detection.content import load_content
from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions
from eguard.detection.features import extract_features
from eguard.detection.gate import CalibrationGroup, ConformalGate
from eguard.detection.model import load_model
from eguard.events import EventBatch


def bundle(intercept, threshold=0.9):
    """Return a bundle whose model gives every event the same score."""
    files = release("two")
    manifest = Manifest.from_bytes(files[MANIFEST_NAME])
    document = model_document("two", coefficient=0.0)
    document["parameters"]["intercept"] = intercept
    model = load_model(document)
    scores = np.linspace(0.0, threshold, 99)
    gate = ConformalGate({"pooled": CalibrationGroup(threshold, "calibrated", scores)}, 0.01, model.digest)
    content = load_content(files)
    return NewBundle(
        manifest.digest, manifest, type(content)(content.detection, model, gate, content.counts), {}
    )  # fmt: skip


def batch(count, suspicious):
    """Return events of which the first `suspicious` have a string on which a layer fires."""
    lines = [f"tool sekurlsa::{n}" if n < suspicious else "tool" for n in range(count)]
    return EventBatch(
        time_unix=[float(n) for n in range(count)],
        event_class=[0] * count,
        comm=[f"tool{n}" for n in range(count)],
        parent_comm=["cron"] * count,
        command_line=lines,
    )


@pytest.fixture
def engine():
    """An engine whose model flags nothing, with every event in its random sample."""
    calm = bundle(-4.0)
    content = calm.content
    return Engine(
        "h", content.detection, EngineOptions(reservoir_events=100), model=content.model, gate=content.gate
    )  # fmt: skip


def test_only_what_a_layer_fired_on_counts_as_flagged(engine):
    shadow = ShadowScorer(bundle(9.0))
    output = engine.process(batch(20, suspicious=3))
    shadow.observe(output, engine.loaded)
    told = shadow.describe()
    assert told["scored"] == 20
    assert (told["active_flagged"], told["shadow_flagged"]) == (0, 3)
    assert (told["only_shadow"], told["only_active"]) == (3, 0)
    distance = 1 / (1 + np.exp(-9.0)) - 1 / (1 + np.exp(4.0))
    assert told["difference_sum"] == pytest.approx(20 * distance)
    assert output.alerts == []  # the louder model is nobody's but the shadow's


def test_a_model_that_says_the_same_differs_nowhere_and_counts_go_on(engine):
    shadow = ShadowScorer(bundle(-4.0))
    for _ in range(3):
        shadow.observe(engine.process(batch(5, suspicious=2)), engine.loaded)
    told = shadow.describe()
    assert told["scored"] == 15
    assert (told["only_shadow"], told["only_active"], told["difference_sum"]) == (0, 0, 0.0)


def test_the_candidates_own_tables_and_thresholds_are_used(engine):
    shadow = ShadowScorer(bundle(0.0, threshold=0.4))  # a score of one half is above its own threshold
    output = engine.process(batch(4, suspicious=4))
    shadow.observe(output, engine.loaded)
    assert shadow.describe()["shadow_flagged"] == 4
    louder = ShadowScorer(bundle(0.0, threshold=0.6))
    louder.observe(output, engine.loaded)
    assert louder.describe()["shadow_flagged"] == 0
    tables = json.loads(release("two")["models/signature-ml-model.json"])["tables"]
    assert tables["rule_precision"] == {"S-Bad": 1.0}
    assert extract_features(output.inputs, shadow._model.tables).shape == output.features.shape


def test_without_a_model_in_use_there_is_nothing_to_compare(engine):
    bare = Engine("h", engine.loaded.content, EngineOptions(reservoir_events=100))
    shadow = ShadowScorer(bundle(9.0))
    shadow.observe(bare.process(batch(5, suspicious=2)), bare.loaded)
    assert shadow.describe()["scored"] == 0
