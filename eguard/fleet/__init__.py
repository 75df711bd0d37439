"""The fleet's side: uploads stored, aggregated, published as seeds, watched for drift."""

from eguard.fleet.aggregation import AggregationReport
from eguard.fleet.health import HealthComparison
from eguard.fleet.kernel import AggregationRules
from eguard.fleet.store import FleetStore
from eguard.wire.baseline import UpsertResult

__all__ = ["AggregationReport", "AggregationRules", "FleetStore", "HealthComparison", "UpsertResult"]
