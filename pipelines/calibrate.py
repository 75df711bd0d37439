"""Set conformal thresholds on benign data."""

from eguard.mlops import calibrate
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("calibrate", calibrate.CalibrateParams, calibrate.run)
