"""Train and select the classifier."""

from eguard.mlops import train
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("train", train.TrainParams, train.run)
