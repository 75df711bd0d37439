"""Refuse a corpus whose labels cannot carry a model."""

from eguard.mlops import labels
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("label_gate", labels.LabelGateParams, labels.run)
