"""Judge drift detectors against known onsets; follow repeated captures and the fleet's generations."""

from eguard.mlops import drift
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("drift", drift.run)
