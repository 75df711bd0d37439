"""Judge drift detectors against known onsets; follow repeated captures and the fleet's generations."""

from eguard.mlops import drift
from eguard.mlops.drift_params import DriftParams
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("drift", DriftParams, drift.run)
