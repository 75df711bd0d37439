"""Feed events and alerts through the detection engine, host by host, on a simulated clock."""

from eguard.mlops import replay
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("replay", replay.ReplayParams, replay.run)
