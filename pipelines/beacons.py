"""Evaluate the beacon score and set its threshold."""

from eguard.mlops import beacons
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("beacons", beacons.BeaconsParams, beacons.run)
