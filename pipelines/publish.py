"""Sign the bundle into the TUF repository."""

from eguard.mlops import publish
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("publish", publish.PublishParams, publish.run)
