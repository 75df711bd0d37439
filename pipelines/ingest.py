"""Parse the raw data sets into canonical events, alerts and connections."""

from eguard.mlops import ingest
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("ingest", ingest.IngestParams, ingest.run)
