"""How a night ends: every status with its cause, and what each knob changes. A stand-in takes DVC's place."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml
from live_fleet import DAY, PastFleet, fill, past_fleet

from eguard.detection.feature_contract import contract
from eguard.errors import PipelineBusyError
from eguard.fleet import FleetStore
from eguard.mlops.nightly import run_nightly
from eguard.mlops.nightly_folder import ARTEFACTS, OutputRoot
from eguard.settings import MlopsSettings, NightlySettings
from eguard.wire.canonical import canonical_json

ROOT = Path(__file__).parents[3]
NOW = 1_772_000_000.0
GATES = {"promoted": True, "gates": [], "holdout": {}}
SUCCEED = f"""
import json, pathlib
for place in {list(ARTEFACTS.values())!r}:
    path = pathlib.Path(place)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        facts = {{"model_version": "m1", "resource_profile": "tiny", "promoted": True, "gates": []}}
        path.write_text(json.dumps(facts))
print("Running stage 'offline_eval':")
"""


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    """Return databases by name: a fleet with a past, and one of which nobody said anything."""
    folder = tmp_path_factory.mktemp("databases")
    fleet = past_fleet(NOW, n=400)
    made = {"full": fleet, "empty": PastFleet(fleet.agents, fleet.events, [])}
    opened = {}
    for name, rows in made.items():
        url = f"sqlite:///{folder / name}.db"
        FleetStore.create(url).close()
        opened[name] = fill(url, rows)
    yield opened
    for database in opened.values():
        database.dispose()


@pytest.fixture
def place(tmp_path):
    """Lay out a pipeline workspace whose DVC does what a test says, and an output folder."""

    class Place:
        code = tmp_path / "code"
        out = tmp_path / "out"

        def pretend(self, script):
            (self.code / "dvc").mkdir(exist_ok=True)
            (self.code / "dvc" / "__init__.py").touch()
            (self.code / "dvc" / "__main__.py").write_text(script)

        def run(self, database, knobs=None, script=SUCCEED, **nightly):
            self.pretend(script)
            settings = NightlySettings(agent_repo_path=self.code, output_root=self.out, **nightly)
            return run_nightly(database, settings, MlopsSettings(**(knobs or {})), now_unix=NOW)

        def workspace(self, report):
            return self.out / "runs" / report["run_id"] / "workspace"

        def params(self, report):
            return yaml.safe_load((self.workspace(report) / "params.yaml").read_text())

    place = Place()
    shutil.copytree(ROOT / "pipelines" / "nightly", place.code / "pipelines" / "nightly")
    return place


def test_a_night_that_succeeds_turns_latest(place, databases):
    report = place.run(databases["full"])
    assert (report["status"], report["cause"], report["model_version"]) == ("success", "", "m1")
    assert report["export"]["rows"] == 400
    assert report["export"]["analysts"] == 6
    assert json.loads((place.out / "latest-report.json").read_text())["status"] == "success"
    assert (place.out / "latest" / "signature-ml-model.json").exists()
    second = place.run(databases["full"])
    assert (place.out / "latest").resolve().parent.name == second["run_id"] == second["latest_run_id"]


def test_nobody_said_anything_is_skipped_with_the_numbers(place, databases):
    report = place.run(databases["empty"], script="raise SystemExit('DVC was begun')")
    assert report["status"] == "skipped"
    assert report["cause"] == "0 adjudicated events that can be learned from in the last 720 h, asked for 30"
    assert report["export"] == {**report["export"], "events_in_window": 400, "adjudicated": 0, "rows": 0}
    assert not (place.out / "latest").exists()


def test_a_gates_no_and_a_stages_failure_leave_latest(place, databases):
    first = place.run(databases["full"])
    failed = (
        "print('error: so it is')\nprint(\"failed to run: python -m pipelines.{}, exited with 1\")\nraise SystemExit(1)"
    )
    for stage, status in (("label_gate", "gate_failed"), ("calibrate", "failed")):
        report = place.run(databases["full"], script=failed.format(stage))
        assert (report["status"], report["failed_stage"]) == (status, stage)
        assert "so it is" in report["cause"]
        assert report["latest_run_id"] == first["run_id"]


def test_a_stage_that_was_killed_is_said(place, databases):
    script = 'print("failed to run: python -m pipelines.train, exited with -9")\nraise SystemExit(1)'
    report = place.run(databases["full"], script=script)
    assert report["status"] == "failed"
    assert report["cause"].startswith("train was ended by signal 9")


def test_no_workspace_is_a_failure_with_a_remedy(place, databases, tmp_path):
    shutil.rmtree(place.code / "pipelines")
    report = place.run(databases["full"])
    assert (report["status"], "EGUARD_ML_AGENT_REPO_PATH" in report["remedy"]) == ("failed", True)


def test_a_second_night_is_refused_while_one_works(place, databases):
    with OutputRoot(place.out).locked(), pytest.raises(PipelineBusyError):
        place.run(databases["full"])


KNOBS = [
    ({"sample_count": 500}, ("corpus", "sample_count")),
    ({"external_sample_cap": 70}, ("corpus", "external_sample_cap")),
    ({"resource_profile": "high"}, ("train", "resource_profile")),
    ({"max_samples": 777}, ("train", "max_samples")),
    ({"cv_folds": 7}, ("train", "cv_folds")),
    ({"l2_grid_points": 3}, ("train", "l2_grid_points")),
    ({"fail_on_threshold": False}, ("offline_eval", "fail_on_threshold")),
    ({"fail_on_regression": False}, ("offline_eval", "fail_on_regression")),
]


@pytest.mark.parametrize(("knob", "where"), KNOBS, ids=[next(iter(knob)) for knob, _ in KNOBS])
def test_each_knob_of_a_stage_reaches_the_run(place, databases, knob, where):
    usual = place.params(place.run(databases["full"]))
    params = place.params(place.run(databases["full"], knobs=knob))
    section, key = where
    assert params[section][key] == next(iter(knob.values()))
    assert usual[section][key] != params[section][key]
    params[section][key] = usual[section][key]
    params["train"]["model_version"] = usual["train"]["model_version"]
    assert params == usual


def test_the_window_and_the_limit_change_what_is_taken(place, databases):
    assert place.run(databases["full"], lookback_hours=120.0)["export"]["rows"] == pytest.approx(100, abs=1)
    assert place.run(databases["full"], query_limit=33)["export"]["rows"] == 33


def test_the_least_feedback_decides_whether_there_is_a_run(place, databases):
    assert place.run(databases["full"], min_feedback_rows=401)["status"] == "skipped"
    assert place.run(databases["full"], min_feedback_rows=400)["status"] == "success"


def test_profiles_are_resolved_when_the_run_begins(place, databases):
    assert place.params(place.run(databases["full"]))["train"]["resource_profile"] != "auto"


def shipped_rows(place, databases):
    """Make a shipped corpus of a run's own rows, under another source."""
    table = pd.read_parquet(place.workspace(place.run(databases["full"])) / "data/interim/features.parquet")
    table["source"], table["sample_id"] = "ait", "shipped-" + table["sample_id"]
    folder = place.out / "shipped"
    folder.mkdir()
    table.to_parquet(folder / "corpus.parquet")
    (folder / "feature-schema.json").write_bytes(canonical_json(contract()))
    return folder


def test_shipped_data_are_mixed_in_unless_the_cap_is_nothing(place, databases):
    shipped_rows(place, databases)
    mixed = place.run(databases["full"])
    assert mixed["shipped"]["rows"] == 400
    table = pd.read_parquet(place.workspace(mixed) / "data/interim/features.parquet")
    assert table["source"].value_counts().to_dict() == {"live": 400, "ait": 400}
    alone = place.run(databases["full"], knobs={"external_sample_cap": 0})
    assert alone["shipped"]["rows"] == 0
    assert (place.workspace(alone) / "data/shipped/corpus.parquet").exists()  # the golden set stays


def test_shipped_data_of_another_contract_are_left_out_and_said(place, databases):
    (shipped_rows(place, databases) / "feature-schema.json").write_text("{}")
    report = place.run(databases["full"])
    assert report["status"] == "success"
    assert "another contract" in report["shipped"]["left_out_because"]


def test_stages_see_no_setting_and_no_password(place, databases, monkeypatch):
    monkeypatch.setenv("EGUARD_DATABASE_URL", "mysql://eguard:hunter2@db/eguard")
    monkeypatch.setenv("eguard_ml_sample_count", "5")
    script = SUCCEED + "import os; print(sorted(n for n in os.environ if n.upper().startswith('EGUARD')))\n"
    report = place.run(databases["full"], script=script)
    log = (place.out / "runs" / report["run_id"] / "pipeline.log").read_text()
    assert "[]" in log
    assert "hunter2" not in log


CHILD = """
import os, resource, sys
from pathlib import Path
from eguard.fleet.database import Database
from eguard.mlops import nightly
from eguard.mlops.nightly import run_nightly
from eguard.settings import MlopsSettings, NightlySettings
url, code, out, limit, now = sys.argv[1:]
read = nightly.read_live_events
def read_and_limit(*arguments):
    found = read(*arguments)
    if int(limit):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit), int(limit)))
    return found
nightly.read_live_events = read_and_limit
settings = NightlySettings(agent_repo_path=Path(code), output_root=Path(out))
report = run_nightly(Database(url), settings, MlopsSettings(), now_unix=float(now))
print(report["status"] + ": " + report["cause"])
"""


def in_a_process(place, database, limit=0):
    url = database.address
    command = [sys.executable, "-c", CHILD, url, str(place.code), str(place.out), str(limit), str(NOW)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_a_full_disk_is_a_status_and_leaves_latest(place, databases):
    """No file may grow beyond 100 kB once the database is read: the export of 400 rows does, the report does not."""
    first = place.run(databases["full"])
    with in_a_process(place, databases["full"], limit=100_000) as child:
        said = child.communicate(timeout=60)[0]
    assert "failed: the disk or quota of" in said.splitlines()[-1]
    latest = json.loads((place.out / "latest-report.json").read_text())
    assert (latest["status"], latest["latest_run_id"]) == ("failed", first["run_id"])
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_killed_in_the_middle_leaves_latest_and_the_next_night_works(place, databases):
    first = place.run(databases["full"])
    before = (place.out / "latest-report.json").read_bytes()
    place.pretend(
        "import time\nfor _ in range(600):\n    print(\"Running stage 'train':\", flush=True); time.sleep(0.05)"
    )
    with in_a_process(place, databases["full"]) as child:
        log = None
        for _ in range(1200):
            logs = [path for path in place.out.glob("runs/*/pipeline.log") if path.parent.name != first["run_id"]]
            if logs and "train" in logs[0].read_text():
                log = logs[0]
                break
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    assert log is not None
    assert (place.out / "latest").resolve().parent.name == first["run_id"]
    assert (place.out / "latest-report.json").read_bytes() == before
    for _ in range(100):  # what it had begun ends with its next word, and with it the lock
        try:
            report = place.run(databases["full"])
            break
        except PipelineBusyError:
            time.sleep(0.1)
    assert report["status"] == "success"
    told = json.loads((log.parent / "report.json").read_text())
    assert "broken off" in told["cause"]


def test_a_clock_of_the_future_moves_the_window(place, databases):
    place.pretend(SUCCEED)
    settings = NightlySettings(agent_repo_path=place.code, output_root=place.out)
    report = run_nightly(databases["full"], settings, MlopsSettings(), now_unix=NOW + 60 * DAY)
    assert (report["status"], report["export"]["events_in_window"]) == ("skipped", 0)
