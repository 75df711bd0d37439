"""Signal 8 through a running server: from samples that agents upload to the alert, the metric and the summary."""

import json
import time

import numpy as np
import pytest
import sqlalchemy as sa
from attacks import agent_place
from attacks.agent_place import Place, release
from server_place import server_place

from eguard.bundle.promotion import publish_models
from eguard.clock import SimulatedClock
from eguard.detection.feature_contract import FEATURE_NAMES, N_FEATURES, contract_sha256
from eguard.detection.gate import CalibrationGroup, calibration_to_json
from eguard.detection.model import load_model
from eguard.fleet.tables import alert_state, calibration_reference
from eguard.wire.bodies import encode_body
from eguard.wire.telemetry import CalibrationBatch, CalibrationSample

HOUR, DAY = 3600.0, 86_400.0
TELLING = ("tree_depth", "rule_burst")
AGENTS = ("a1", "a2", "a3", "a4")
EVERY = 8 * HOUR
SUMMARY = "/endpoint/ml-ops/summary"


def bundle(version, weights):
    """Return a bundle whose model adds up two features, and whose thresholds were set on scores of such a fleet."""
    document = agent_place_document(version)
    for name, weight in zip(TELLING, weights, strict=True):
        document["parameters"]["coefficients"][FEATURE_NAMES.index(name)] = weight
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agent_place, "model_document", lambda _: document)
        return release(version)


def agent_place_document(version, original=agent_place.model_document):
    return original(version, coefficient=0.0)


class Fleet:
    """Agents that differ, whose days differ, and that upload what they draw three times a day."""

    def __init__(self, place, clock, seed):
        self.place, self.clock = place, clock
        self.rng = np.random.default_rng(seed)
        self.clients = {name: place.agent(name) for name in AGENTS}
        self.offsets = dict(zip(AGENTS, self.rng.normal(0.3, 0.05, len(AGENTS)), strict=True))
        self.sent = 0

    def live(self, days, shift=0.0):
        """Live for some days; return the states of signal 8 that its looks gave."""
        states = []
        for _ in range(round(days * DAY / EVERY)):
            for name, client in self.clients.items():
                body = self.batch(name, shift)
                answer = client.post("/endpoint/calibration", content=encode_body(body))
                assert answer.json()["accepted"] == len(body.samples)
            self.clock.advance_to(self.clock.now() + EVERY)
            self.place.context.calibrations.look()
            states.append(self.place.context.alerts.look()["p_values"])
        return states

    def batch(self, name, shift):
        of_batch = self.offsets[name] + self.rng.normal(0.0, 0.02)
        samples = []
        for _ in range(24):
            features = [0.0] * N_FEATURES
            for feature in TELLING:
                features[FEATURE_NAMES.index(feature)] = float(
                    np.clip(self.rng.normal(of_batch + shift, 0.1), 0.0, 1.0)
                )
            self.sent += 1
            samples.append(
                CalibrationSample(
                    sample_id=f"{name}-{self.sent}", event_class="file_open", features=features, signal="sh:open",
                    contract_hash=contract_sha256(), observed_at_unix=self.clock.now(),
                )
            )  # fmt: skip
        return CalibrationBatch(agent_id=name, batch_id="b", samples=samples)


@pytest.fixture
def clock():
    return SimulatedClock(time.time())


@pytest.fixture
def bundles(tmp_path):
    made = Place(tmp_path / "bundles")
    made.repository().publish(bundle("one", (4.0, 0.0)))
    return made


@pytest.fixture
def place(tmp_path, clock, bundles):
    with server_place(tmp_path, clock=clock, served_repository=bundles.directory) as running:
        yield running


def metrics(place):
    return place.person(None).get(f"https://127.0.0.1:{place.running.admin_port}/metrics").text


def test_a_noisy_and_healthy_fleet_is_silent_and_one_whose_scores_moved_is_not(place, clock):
    fleet = Fleet(place, clock, seed=1)
    first = fleet.live(7.4)
    assert set(first) == {"unknown"}  # no seven days of samples, then no whole day since
    healthy = fleet.live(7)
    assert set(healthy[3:]) == {"ok"}
    summary = place.person("analyst").get(SUMMARY).json()["calibration"]
    assert summary["samples"]["hosts"] == 4
    assert summary["thresholds"]["pooled"]["status"] == "calibrated"
    assert sum(summary["health"]["histogram"]) == summary["health"]["rows"] == 192
    assert 'eguard_alert_firing{rule="p_values"} 0.0' in metrics(place)
    assert fleet.live(1.4, shift=0.2)[-1] == "alert"
    found = place.person("analyst").get(SUMMARY).json()
    alert = next(each for each in found["alerts"] if each["rule"] == "p_values")
    assert alert["value"] < alert["bound"] == pytest.approx(0.01 / 24)
    assert found["calibration"]["health"]["martingale_log10"] > 2.0
    text = metrics(place)
    assert 'eguard_alert_firing{rule="p_values"} 1.0' in text
    value = next(line for line in text.splitlines() if line.startswith("eguard_score_ks_p_value "))
    assert float(value.split()[1]) == pytest.approx(alert["value"])


def test_a_model_that_comes_into_service_scores_the_kept_rows_anew(place, clock, bundles):
    """Its thresholds are its own: the same rows under other weights, after a promotion and after going back."""
    fleet = Fleet(place, clock, seed=2)
    fleet.live(8)
    keys = bundles.folder / "keys"

    def served():
        with place.context.database.read() as connection:
            rows = connection.execute(sa.select(calibration_reference)).all()
            states = connection.execute(
                sa.select(alert_state.c.numbers).where(alert_state.c.rule == "p_values")
            ).scalar()
        return max(rows, key=lambda row: row.loaded_at), states

    before, _ = served()
    one, two = bundle("one", (4.0, 0.0)), bundle("two", (1.0, 6.0))
    publish_models(bundles.directory, keys, two)
    clock.advance_to(clock.now() + 600.0)
    place.context.calibrations.look()
    place.context.alerts.look()
    after, numbers = served()
    model = load_model(agent_document(two))
    assert after.model_digest == model.digest != before.model_digest
    assert sorted(after.scores) != sorted(before.scores)
    assert after.thresholds["pooled"]["threshold"] != before.thresholds["pooled"]["threshold"]
    rank = int(np.ceil(0.99 * (len(after.scores) + 1) - 1e-9))
    assert after.thresholds["pooled"]["threshold"] == np.sort(after.scores)[rank - 1]
    assert numbers["why"] == "no whole day since the model was calibrated yet"
    publish_models(bundles.directory, keys, one)
    clock.advance_to(clock.now() + 600.0)
    place.context.calibrations.look()
    again, _ = served()
    assert again.model_digest == before.model_digest
    assert again.loaded_at > after.loaded_at > before.loaded_at
    assert again.thresholds["pooled"]["n"] > before.thresholds["pooled"]["n"]  # of the rows that are there now


def agent_document(files):
    return json.loads(files["models/signature-ml-model.json"])


def test_thresholds_of_another_model_are_not_looked_at(place, clock, bundles):
    """A bundle that the release key signed, with thresholds that another model's scores gave."""
    files = bundle("one", (4.0, 0.0))
    groups = {"pooled": CalibrationGroup(0.9, "calibrated", np.linspace(0.0, 0.9, 99))}
    foreign = calibration_to_json(
        groups, alpha=0.01, guarantee="marginal", model_digest="0" * 64, contract_sha256=contract_sha256()
    )
    wrong = {**files, "models/calibration.json": encode_body(foreign)}

    class Served:
        is_there = True

        def read(self):
            return type("Read", (), {"files": wrong})()

    place.context.calibrations._served = Served()
    found = place.context.calibrations.look()
    assert "uncalibrated" in found["skipped"]
    assert place.context.alerts.look()["p_values"] == "unknown"


def test_a_server_without_a_bundle_says_that_nothing_is_measured(tmp_path, clock):
    with server_place(tmp_path / "bare", clock=clock) as bare:
        assert bare.context.calibrations.look() == {"skipped": "no bundle is served"}
        summary = bare.person("analyst").get(SUMMARY).json()
        assert summary["calibration"] is None
        assert "calibration" in summary["not_measured"]
