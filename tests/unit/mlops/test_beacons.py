"""The stage: its settings are those of one revision, wrong parameters are refused by name, missing data are said so."""

import ast
import subprocess
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from eguard.errors import ConfigError
from eguard.estimators.beacon import BeaconOptions
from eguard.events import EventBatch
from eguard.mlops.beacons import BeaconsParams, run
from eguard.mlops.params import load_params
from eguard.mlops.tables import write_events
from eguard.mlops.workspace import Workspace

ROOT = Path(__file__).parents[3]


def committed_settings(commit):
    """Read the defaults of `BeaconOptions` from the source of a revision; None without that history."""
    path = f"{commit}:eguard/estimators/beacon.py"
    shown = subprocess.run(["git", "show", path], cwd=ROOT, capture_output=True, text=True, check=False)
    if shown.returncode != 0:
        return None
    (options,) = (
        node for node in ast.parse(shown.stdout).body if isinstance(node, ast.ClassDef) and node.name == "BeaconOptions"
    )
    fields = [node for node in options.body if isinstance(node, ast.AnnAssign)]
    return {field.target.id: ast.literal_eval(field.value) for field in fields}


def has_history():
    inside = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, check=False)
    shallow = subprocess.run(
        ["git", "rev-parse", "--is-shallow-repository"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return inside.returncode == 0 and shallow.stdout.strip() == "false"


@pytest.mark.parametrize("source", ["defaults", "params.yaml"])
def test_the_settings_are_those_of_the_revision_that_fixed_them(source):
    if not has_history():
        pytest.skip("there is no git history to read the settings from")
    params = BeaconsParams() if source == "defaults" else getattr(load_params(ROOT / "params.yaml"), "beacons", None)
    if params is None:
        pytest.skip("params.yaml has no section of this stage")
    assert committed_settings(params.settings_commit) == asdict(BeaconOptions())


@pytest.mark.parametrize(
    ("key", "value"),
    [("settings_commit", "HEAD"), ("alpha", 0.7), ("reading", "guess"), ("colour", 1), ("random_halves", 0)],
)
def test_wrong_parameters_are_refused_by_name(key, value):
    with pytest.raises(ValidationError, match=key):
        BeaconsParams.model_validate({key: value})


def test_connections_without_the_benign_network_are_a_clear_error(tmp_path):
    workspace = Workspace(tmp_path)
    with pytest.raises(ConfigError, match=r"connections\.parquet"):
        run(BeaconsParams(), seed=1, workspace=workspace)
    write_events(workspace.interim / "connections.parquet", EventBatch(time_unix=np.array([1.0]), host_id=["h"]))
    with pytest.raises(ConfigError, match="rita-http24h"):
        run(BeaconsParams(), seed=1, workspace=workspace)
