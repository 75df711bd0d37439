"""Poison resampled fleets of real hosts, and measure what moves and what is noticed."""

from eguard.mlops import poisoning
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("poisoning", poisoning.PoisoningParams, poisoning.run)
