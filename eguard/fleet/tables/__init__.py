"""The fleet's tables, once, for every dialect. Names are those of the operations manual: its queries run unchanged."""

from eguard.fleet.tables.access import access_token, audit_log, user_account, user_session
from eguard.fleet.tables.alarms import fleet_alarm, fleet_drift_block, fleet_drift_series
from eguard.fleet.tables.analysis import alert_feedback, calibration_sample, endpoint_event, incident
from eguard.fleet.tables.baselines import (
    endpoint_baseline,
    fleet_baseline,
    fleet_baseline_history,
    fleet_generation,
    fleet_health,
)
from eguard.fleet.tables.candidates import ml_candidate
from eguard.fleet.tables.columns import UtcTime, exact_text, give_server_options, metadata
from eguard.fleet.tables.control import (
    endpoint_whitelist,
    policy,
    policy_assignment,
    policy_key,
    rollout,
    server_counter,
)
from eguard.fleet.tables.endpoints import (
    endpoint_agent,
    endpoint_certificate,
    endpoint_command,
    endpoint_incarnation,
    endpoint_inventory,
    enrollment_token,
)
from eguard.fleet.tables.notifications import notification, notification_delivery
from eguard.fleet.tables.signals import alert_state, calibration_reference, signal_count
from eguard.fleet.tables.upkeep import maintenance_run, maintenance_task
from eguard.fleet.tables.votes import fleet_changed_key, fleet_key_votes, fleet_voter

__all__ = [
    "UtcTime",
    "access_token",
    "alert_feedback",
    "alert_state",
    "audit_log",
    "calibration_reference",
    "calibration_sample",
    "endpoint_agent",
    "endpoint_baseline",
    "endpoint_certificate",
    "endpoint_command",
    "endpoint_event",
    "endpoint_incarnation",
    "endpoint_inventory",
    "endpoint_whitelist",
    "enrollment_token",
    "exact_text",
    "fleet_alarm",
    "fleet_baseline",
    "fleet_baseline_history",
    "fleet_changed_key",
    "fleet_drift_block",
    "fleet_drift_series",
    "fleet_generation",
    "fleet_health",
    "fleet_key_votes",
    "fleet_voter",
    "incident",
    "maintenance_run",
    "maintenance_task",
    "metadata",
    "ml_candidate",
    "notification",
    "notification_delivery",
    "policy",
    "policy_assignment",
    "policy_key",
    "rollout",
    "server_counter",
    "signal_count",
    "user_account",
    "user_session",
]

give_server_options(metadata)
