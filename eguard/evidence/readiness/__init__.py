"""The production readiness gate: boxes, the drills behind them, and the records that drills leave."""

from eguard.evidence.readiness.boxes import BOXES, Box
from eguard.evidence.readiness.gate import Readiness, judge_readiness
from eguard.evidence.readiness.records import RECORD_TYPE, RecordFolder

__all__ = ["BOXES", "RECORD_TYPE", "Box", "Readiness", "RecordFolder", "judge_readiness"]
