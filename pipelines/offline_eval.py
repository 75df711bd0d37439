"""Judge the model on hosts, networks and a time that it has not seen."""

from eguard.mlops import evaluate
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("offline_eval", evaluate.EvaluateParams, evaluate.run)
