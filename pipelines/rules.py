"""Compile Sigma rules and indicator lists into JSON predicates."""

from eguard.mlops import rules
from pipelines.stage import run_stage

if __name__ == "__main__":
    run_stage("rules", rules.RulesParams, rules.run)
