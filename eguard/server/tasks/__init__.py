"""What the server does by itself, and when.

A task is a function of the server's context and a progress callback; what it returns is kept as the run's detail. A
detail with the key ``skipped`` says that there was nothing to do, and why.
"""

from __future__ import annotations

from eguard.server.tasks.calibration import look_at_calibration
from eguard.server.tasks.canary_watch import watch_candidates
from eguard.server.tasks.fleet_aggregate import aggregate_fleet
from eguard.server.tasks.notify import has_messages, send_messages
from eguard.server.tasks.retention import remove_what_is_old
from eguard.server.tasks.session_cleanup import clean_up
from eguard.server.tasks.signals import judge_signals
from eguard.server.tasks.signature_ml_feedback_train import train_on_feedback
from eguard.server.tasks.task import Task
from eguard.server.tasks.tuf_refresh import refresh_bundles

TASKS: tuple[Task, ...] = (
    Task(
        "calibration",
        "Calibrate the model in service on what agents drew when it changes, and compare each day's scores with that.",
        "every 10m",
        look_at_calibration,
        is_routine=True,
    ),
    Task(
        "canary_watch",
        "Judge the candidate bundle that agents have, halt it if it does harm, and register what the last night left.",
        "every 1m",
        watch_candidates,
        is_routine=True,
    ),
    Task(
        "fleet_aggregate",
        "Aggregate the profiles of all active agents into a new generation of the fleet's baseline.",
        "every 6h",
        aggregate_fleet,
    ),
    Task(
        "notify",
        "Send messages to operators to the webhook and the syslog receiver.",
        "every 1s",
        send_messages,
        is_wanted=has_messages,
        is_routine=True,
    ),
    Task(
        "retention",
        "Remove events, alerts, baselines, samples and records that are older than the settings keep them.",
        "30 3 * * *",
        remove_what_is_old,
    ),
    Task(
        "session_cleanup",
        "Remove sessions that ended, and mark commands that nobody fetched in time.",
        "every 1h",
        clean_up,
    ),
    Task(
        "signals",
        "Measure the signals, judge the alert rules, and tell operators of alerts that begin or end.",
        "every 1m",
        judge_signals,
        is_routine=True,
    ),
    Task(
        "signature_ml_feedback_train",
        "Retrain the classifier on what analysts said of alerts, judge it, and keep it if it is good enough.",
        "0 2 * * *",
        train_on_feedback,
    ),
    Task(
        "tuf_refresh",
        "Sign the bundle repository's snapshot and timestamp anew, so that agents see it is alive.",
        "every 6h",
        refresh_bundles,
    ),
)

__all__ = ["TASKS", "Task"]
