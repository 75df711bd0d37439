"""The closed loop through a server: alerts and verdicts over HTTP in, the task asked for over HTTP, a model out."""

import json
import time

import numpy as np
import pytest
from attacks.agent_place import release
from live_fleet import alert_body, fill, past_fleet
from server_place import server_place
from typer.testing import CliRunner

from eguard.bundle import BundleClient, Repository, generate_keys
from eguard.cli import bundle
from eguard.detection.feature_contract import FEATURE_NAMES, contract_sha256
from eguard.detection.model import load_model
from eguard.server.principal import Role

pytestmark = pytest.mark.e2e

TASK = "/config/maintenance_task/signature_ml_feedback_train"
SECONDS = 240.0


@pytest.fixture(scope="module")
def night(tmp_path_factory):
    """Run one night of a small fleet by the API; return the server's folder, what the task said, and the server."""
    folder = tmp_path_factory.mktemp("night")
    with pytest.MonkeyPatch.context() as patch, server_place(folder / "place") as place:
        patch.setenv("EGUARD_ML_OUTPUT_ROOT", str(folder / "out"))
        patch.setenv("EGUARD_ML_EXTERNAL_SAMPLE_CAP", "0")
        patch.setenv("EGUARD_ML_L2_GRID_POINTS", "2")
        keys = place.settings.server_state_path / "keys"
        Repository(place.settings.repository, generate_keys(keys)).publish(release("in-service"))
        agent, analyst, admin = place.agent("host-00"), place.person(Role.ANALYST), place.person(Role.ADMIN)
        fill(place.settings.fleet_url, past_fleet(time.time(), n=1200)).dispose()
        row = np.full(len(FEATURE_NAMES), 0.5)
        now = time.time()
        alerts = [alert_body(f"today-{n}", "host-00", now - 60.0 - n, row, contract_sha256()) for n in range(3)]
        sent = agent.post(
            "/endpoint/telemetry", json={"agent_id": "host-00", "batch_id": "b1", "alerts": alerts}
        ).raise_for_status()
        assert sent.json()["accepted"] == 3
        for event, verdict in (("today-0", "true_positive"), ("today-1", "benign"), ("today-1", "true_positive")):
            analyst.post("/endpoint/feedback", json={"event_id": event, "verdict": verdict}).raise_for_status()
        assert analyst.post(f"{TASK}/run").status_code == 403
        begun = admin.post(f"{TASK}/run")
        assert begun.status_code == 202, begun.text
        assert admin.post(f"{TASK}/run").status_code == 409
        deadline = time.monotonic() + SECONDS
        while (run := admin.get(f"{TASK}/runs").json()["runs"][0])["status"] == "running":
            assert time.monotonic() < deadline
            time.sleep(0.5)
        yield folder, run, place


def log_of(folder):
    return "".join(path.read_text() for path in (folder / "out").glob("runs/*/pipeline.log"))


def test_the_task_ends_with_success_and_a_model_that_agents_read(night):
    folder, run, _ = night
    assert run["status"] == "success", (run["detail"], log_of(folder)[-3000:])
    latest = folder / "out" / "latest"
    model = load_model(json.loads((latest / "signature-ml-model.json").read_text()))
    assert run["detail"]["model_version"] == model.version
    assert json.loads((latest / "signature-ml-offline-eval-report.json").read_text())["promoted"]
    report = json.loads((folder / "out" / "latest-report.json").read_text())
    assert (report["status"], report["latest_run_id"]) == ("success", run["detail"]["run_id"])
    assert report["compared_with"] == "bundle in service"


def test_todays_verdicts_are_in_the_corpus_the_latest_one_of_each(night):
    folder, _, _ = night
    lines = (folder / "out" / "latest" / "signature-ml-features.ndjson").read_text().splitlines()
    rows = {row["sample_id"]: row for row in map(json.loads, lines)}
    assert (rows["today-0"]["label"], rows["today-1"]["label"]) == (1, 1)
    assert "today-2" not in rows
    assert rows["today-0"]["analyst"] == "test-analyst"
    assert rows["today-0"]["rule_id"] == "rule-1"
    assert rows["today-0"]["label_source"] == "analyst_feedback"
    assert rows["today-0"]["rule_burst"] == 0.5
    assert len(rows) == 1202


def test_all_that_the_manual_lists_is_there(night):
    folder, _, _ = night
    latest = folder / "out" / "latest"
    metadata = json.loads((latest / "signature-ml-model-metadata.json").read_text())
    assert metadata["effective_l2_grid_points"] == 2
    assert "Running stage 'offline_eval'" in (latest / "pipeline.log").read_text()
    assert (latest / "dvc.lock").exists()


def test_its_bundle_becomes_a_candidate_and_can_be_promoted_and_taken_back(night, tmp_path):
    folder, run, place = night
    admin = place.person(Role.ADMIN)
    place.context.canary_watch.look()
    found = admin.get("/endpoint/ml-ops/candidates").json()["candidates"]
    by_source = {each["source"]: each for each in found}
    ours, served = by_source["nightly"], by_source["published"]
    assert (ours["run_id"], ours["model_version"]) == (run["detail"]["run_id"], run["detail"]["model_version"])
    assert (ours["stage"], ours["gates_passed"], served["stage"]) == ("registered", True, "stable")
    assert {gate["passed"] for gate in ours["gates"]} == {True}
    step = {"candidate_id": ours["candidate_id"], "to_percent": 100, "force": True, "reason": "no agents here"}
    assert admin.post("/endpoint/ml-ops/promote", json=step).json()["stage"] == "stable"

    def offered(name):
        root = (place.settings.repository / "metadata" / "1.root.json").read_bytes()
        return BundleClient(tmp_path / name, place.settings.repository.as_uri(), root).fetch().files

    latest = folder / "out" / "latest"
    verify = ["verify", "--repository", str(place.settings.repository), "--targets", str(tmp_path / "none"), "--json"]
    verified = CliRunner().invoke(bundle.app, verify)  # with the provenance that the nightly key signed
    assert verified.exit_code == 0, verified.exception
    assert json.loads(verified.output)["model_version"] == ours["model_version"]
    assert offered("a")["models/signature-ml-model.json"] == (latest / "signature-ml-model.json").read_bytes()
    assert admin.post("/endpoint/ml-ops/rollback", json={"reason": "drill"}).json()["source"] == "published"
    model = release("in-service")["models/signature-ml-model.json"]
    assert offered("b")["models/signature-ml-model.json"] == model
