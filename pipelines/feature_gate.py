"""Refuse features that leak, drift or never vary."""

from eguard.mlops import feature_gate
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("feature_gate", feature_gate.FeatureGateParams, feature_gate.run)
