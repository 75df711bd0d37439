"""The stage: report and series, reproducible, on profiles of a small log."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from eguard.mlops.poison_attacks import ATTACKS
from eguard.mlops.poisoning import PLOTS_FOLDER, PoisoningParams, run
from eguard.mlops.workspace import Workspace

HEADER = "capture,host,ts,src,eid,event_type,image,parent,target,cmdline"
SMALL = PoisoningParams(
    profiles="data/raw/events.csv",
    min_hosts=3,
    cohorts=(20,),
    shares=(0.0, 0.2, 0.49),
    repetitions=2,
    slow_agents=20,
    slow_steps=20,
    slow_repetitions=2,
    prior_key="svc.exe:boot.exe",
    prior_local_events=(0, 1000),
    prior_windows=50,
)


def make_workspace(root):
    rng = np.random.default_rng(0)
    lines = [HEADER]
    for host in range(5):
        for number, kind in enumerate(rng.choice(["exec", "dns", "module_load"], p=[0.1, 0.1, 0.8], size=150)):
            lines.append(
                f"c,h{host},2020-01-01T00:{number // 60:02d}:{number % 60:02d}Z,sysmon,1,{kind},svc.exe,boot.exe,x,"
            )
    workspace = Workspace(root)
    workspace.raw.mkdir(parents=True)
    (workspace.raw / "events.csv").write_text("\n".join(lines) + "\n")
    return workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = make_workspace(tmp_path_factory.mktemp("poisoning"))
    run(SMALL, seed=7, workspace=workspace)
    return workspace


@pytest.fixture(scope="module")
def report(workspace):
    return json.loads((workspace.reports / "poisoning.json").read_text())


def test_the_report_has_every_part(report):
    assert {
        "profiles",
        "rules",
        "attacks",
        "sweep",
        "by_key",
        "median_against_mean",
        "slow",
        "prior",
        "facts",
    } <= report.keys()
    assert list(report["attacks"]) == sorted(ATTACKS)
    assert report["profiles"]["keys"][0]["hosts"] == 5
    assert report["facts"]["sample_count_inflation"]["is_published_alike"]
    assert [row["share"] for row in report["prior"]["shares"]] == [0.0, 0.2, 0.49]
    assert len(report["slow"]["detection"]) == 3 * 5


def test_the_series_to_plot_are_flat_rows(workspace):
    sweep = json.loads((workspace.reports / PLOTS_FOLDER / "sweep.json").read_text())
    slow = json.loads((workspace.reports / PLOTS_FOLDER / "slow.json").read_text())
    assert len(sweep) == 3 * (len(ATTACKS) + 1) * 4
    assert len(slow) == 3 * 20
    assert all(not isinstance(value, dict | list) for row in sweep + slow for value in row.values())


def test_a_poisoned_seed_never_hides_less_than_nothing_from_a_new_agent(report):
    worst = report["prior"]["shares"][-1]["windows"][0]
    assert worst["local_events"] == 0
    assert worst["hidden_bits"] > 0.0


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(workspace, tmp_path):
    first = (workspace.reports / "poisoning.json").read_bytes()
    again = make_workspace(tmp_path)
    run(SMALL, seed=7, workspace=again)
    assert (again.reports / "poisoning.json").read_bytes() == first
    run(SMALL, seed=8, workspace=again)
    assert (again.reports / "poisoning.json").read_bytes() != first


@pytest.mark.parametrize(
    "change",
    [
        {"shares": (0.0, 0.5)},
        {"shares": (0.1, 0.2)},
        {"shares": ()},
        {"cohorts": (2,)},
        {"target": {"process_exec": 0.5}},
        {"target": {"process_exec": 1.5, "dns_query": -0.5}},
        {"target": {"lunch": 1.0}},
        {"repetitions": 1},
        {"unknown": 1},
    ],
)
def test_bad_parameters_are_refused(change):
    with pytest.raises(ValidationError):
        PoisoningParams.model_validate(change)
