"""Looking after an installation: the doctor that says what is wrong with a machine and what to do about it."""

from eguard.operations.check import Check, Finding, State
from eguard.operations.doctor import CHECKS, run_checks
from eguard.operations.examination import Examination
from eguard.operations.symptoms import SYMPTOMS, Symptom

__all__ = ["CHECKS", "SYMPTOMS", "Check", "Examination", "Finding", "State", "Symptom", "run_checks"]
