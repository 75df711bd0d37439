"""Join adjudications to features, one row a signal."""

from eguard.mlops import corpus
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("corpus", corpus.CorpusParams, corpus.run)
