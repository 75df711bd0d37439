"""From an agent's events to calibration rows on a server, and back: a model that is loaded is calibrated on them."""

from dataclasses import replace

import numpy as np
import pytest
import sqlalchemy as sa
from assembled_agent import AssembledAgent, events
from attacks.agent_place import model_document, release
from server_place import server_place

from eguard.agent.bundle_status import NewBundle
from eguard.agent.calibration import CalibrationKeeper
from eguard.agent.control.calibration import CalibrationUploader
from eguard.agent.control.client import ControlClient
from eguard.agent.control.credentials import TlsFiles
from eguard.agent.control.desk import RuntimeDesk
from eguard.bundle import MANIFEST_NAME, Manifest
from eguard.detection.content import load_content
from eguard.detection.features import FEATURE_NAMES
from eguard.detection.gate import CalibrationGroup, ConformalGate
from eguard.detection.model import load_model
from eguard.errors import ServerRefusalError
from eguard.fleet.calibration import read_benign_samples
from eguard.fleet.tables import calibration_sample

HOUR = 3600.0


class Direct:
    """Does the work of a control thread at once: no other thread touches the runtime here."""

    def ask(self, work):
        return work()


def bundle(intercept, threshold=0.9):
    """Return a bundle whose model goes by the number of layers that fired and by the event's class."""
    files = release("two")
    document = model_document("two", coefficient=0.0)
    document["parameters"]["intercept"] = intercept
    document["parameters"]["coefficients"][FEATURE_NAMES.index("event_class_risk")] = 1.0
    document["tables"]["class_risk"] = [number / 10.0 for number in range(8)]
    model = load_model(document)
    scores = np.linspace(0.0, threshold, 5000)
    gate = ConformalGate({"pooled": CalibrationGroup(threshold, "calibrated", scores)}, 0.01, model.digest)
    manifest = Manifest.from_bytes(files[MANIFEST_NAME])
    return NewBundle(manifest.digest, manifest, replace(load_content(files), model=model, gate=gate), {})


@pytest.fixture
def agent(tmp_path):
    folder = tmp_path / "state"
    folder.mkdir()
    made = AssembledAgent(folder)
    made.runtime.engine.reservoir._capacity = 64
    made.runtime.engine.reservoir.reset()
    keeper = CalibrationKeeper(folder / "calibration.bin", 16, np.random.default_rng(5), "h")
    made.runtime.calibration = keeper
    made.runtime.timers.every("calibration sample", 100 * HOUR, made.runtime._close_sample)
    made.keeper = keeper
    yield made
    made.close()


def live(agent, hours):
    for _ in range(hours):
        agent.feed(*(events(40, agent.clock.wall, event_class=number % 8) for number in range(8)))
        agent.wait(HOUR / 2)
        agent.runtime.timers.run_now("calibration sample")


def test_what_agents_draw_becomes_the_nights_calibration_rows(agent, tmp_path):
    agent.runtime.use(bundle(-4.0))
    live(agent, 3)
    assert len(agent.keeper.waiting(999)) == 48
    with server_place(tmp_path / "server") as place:
        certificate, key = place.issue("h")
        client = ControlClient(
            f"https://127.0.0.1:{place.running.agent_port}", TlsFiles(certificate, key, place.authority_file)
        )
        desk = RuntimeDesk(agent.runtime, Direct())
        CalibrationUploader(client, desk, agent_id="h").upload()
        live(agent, 1)
        with pytest.raises(ServerRefusalError) as refused:
            CalibrationUploader(client, desk, agent_id="somebody-else").upload()
        assert refused.value.reason == "identity_mismatch"
        client.close()
        with place.context.database.read() as connection:
            stored = connection.execute(sa.select(calibration_sample)).all()
            until = max(row.received_at for row in stored) + 1.0
            found = read_benign_samples(connection, until - 86_400.0, until)
    model = agent.runtime.engine.loaded.model
    assert {(row.agent_id, row.model_digest) for row in stored} == {("h", model.digest)}
    assert len(found) == len(stored) == 48
    scored = {row.sample_id: row.score for row in stored}
    rows = found.rows
    again = model.score(model.tables.apply(rows.features, rows.event_class, rows.signals))
    assert again == pytest.approx([scored[name] for name in found.sample_ids], abs=1e-12)


def test_a_model_that_is_loaded_is_calibrated_on_what_the_host_has_kept(agent):
    agent.runtime.use(bundle(-4.0))
    before = agent.runtime.engine.loaded.gate
    assert before.groups["pooled"].threshold == 0.9  # nothing was kept yet
    live(agent, 12)
    assert len(agent.keeper) == 192
    new = bundle(-1.0)
    agent.runtime.use(new)
    gate = agent.runtime.engine.loaded.gate
    rows = agent.keeper.rows()
    scores = np.sort(
        new.content.model.score(new.content.model.tables.apply(rows.features, rows.event_class, rows.signals))
    )
    own = scores[int(np.ceil(0.99 * 193)) - 1]
    lowest = new.content.gate.groups["pooled"].scores[int(np.ceil(0.95 * 5001)) - 1]
    assert gate.groups["pooled"].threshold == max(own, lowest)
    assert gate.model_digest == new.content.model.digest
    assert new.content.gate.groups["pooled"].threshold == 0.9  # the bundle's own stays what it is


def test_a_restart_loads_its_model_with_the_rows_of_the_life_before(agent, tmp_path):
    agent.runtime.use(bundle(-4.0))
    live(agent, 12)
    agent.runtime.calibration = CalibrationKeeper(tmp_path / "state" / "calibration.bin", 16, np.random.default_rng(6))
    agent.runtime.use(bundle(-1.0))
    assert agent.runtime.engine.loaded.gate.groups["pooled"].threshold < 0.9


def test_every_hour_begins_a_new_sample_of_all_events(agent):
    """Algorithm L accepts ever fewer; a sample of the last hour has to be of the last hour."""
    agent.runtime.use(bundle(-4.0))
    live(agent, 30)
    times = np.array([event.observed_at_unix for event in agent.keeper.waiting(999)])
    assert len(times) == 30 * 16
    assert np.all(np.ptp(times.reshape(30, 16), axis=1) < 10.0)
