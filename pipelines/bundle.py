"""Assemble the unsigned bundle, its manifest and its provenance."""

from eguard.mlops import bundle
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("bundle", bundle.BundleParams, bundle.run)
