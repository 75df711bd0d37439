"""A fleet with a past for tests of retraining: agents, alerts with their features, verdicts."""

import math
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.fleet.database import Database
from eguard.fleet.tables import alert_feedback, endpoint_agent, endpoint_event

DAY = 86_400.0
#: Features that say something of an alert; none of them alone says all.
TELLING = ("rule_burst", "distinct_rules", "cmdline_entropy_gap", "tree_depth")


@dataclass(frozen=True)
class PastFleet:
    """What a fleet reported and what was said of it: rows of the three tables."""

    agents: list
    events: list
    feedback: list


def past_fleet(now, n=1600, hosts=50, rules=64, days=20.0, analysts=6, seed=3, flipped=0.0):
    """Return a fleet whose alerts were judged within hours; a share of the verdicts, taken at random, is wrong."""
    rng = np.random.default_rng(seed)
    features = rng.random((n, len(FEATURE_NAMES)))
    label = rng.random(n) < 0.25
    for name in TELLING:
        shift = rng.normal(np.where(label, 0.7, 0.3), 0.13)
        features[:, FEATURE_NAMES.index(name)] = np.clip(shift, 0.0, 1.0)
    wrong = np.random.default_rng([seed, 1]).random(n) < flipped
    at = now - DAY * days * (1.0 - np.arange(n) / n) + 60.0
    agents = [agent_row(f"host-{number:02d}", now) for number in range(hosts)]
    events = [
        event_row(
            f"event-{place:05d}", f"host-{place % hosts:02d}", at[place], features[place], f"rule-{place % rules}"
        )
        for place in range(n)
    ]
    feedback = [
        feedback_row(
            f"event-{place:05d}", label[place] != wrong[place], f"analyst-{place % analysts}", at[place] + 1800
        )
        for place in range(n)
    ]
    return PastFleet(agents, events, feedback)


def agent_row(agent_id, now, group=""):
    """Return the row of an enrolled agent."""
    return {
        "agent_id": agent_id,
        "incarnation": "i",
        "incarnation_ordinal": 1,
        "group": group,
        "status": "active",
        "enrolled_at": now - 90 * DAY,
    }


def event_row(event_id, agent_id, at, features, rule_id="rule", **values):
    """Return the row of an alert, received a second after it was seen."""
    if features is not None and not isinstance(features, dict):
        features = dict(zip(FEATURE_NAMES, map(float, features), strict=True))
    row = {
        "event_id": event_id,
        "agent_id": agent_id,
        "observed_at": float(at),
        "received_at": float(at) + 1.0,
        "event_class": "process_exec",
        "process_key": "bash",
        "rule_id": rule_id,
        "severity": "medium",
        "score": 0.5,
        "p_value": None,
        "model_version": "m0",
        "features": features,
        "detail": {},
        "search_text": "",
        "suppressed_by": None,
        "incident_id": None,
    }
    return row | values


def feedback_row(event_id, is_attack, analyst, at, feedback_id=None):
    """Return the row of a verdict."""
    return {
        "feedback_id": feedback_id or f"{event_id}-{analyst}"[-32:],
        "event_id": event_id,
        "verdict": "true_positive" if is_attack else "false_positive",
        "analyst": analyst,
        "note": "",
        "created_at": float(at),
    }


def fill(url, fleet):
    """Write a fleet into a database that has its tables."""
    database = Database(url)
    with database.write() as connection:
        for table, rows in (
            (endpoint_agent, fleet.agents),
            (endpoint_event, fleet.events),
            (alert_feedback, fleet.feedback),
        ):
            for start in range(0, len(rows), 1000):
                connection.execute(sa.insert(table), rows[start : start + 1000])
    return database


def alert_body(alert_id, host, at, features, contract, **values):
    """Return an alert as an agent sends it."""
    body = {
        "alert_id": alert_id,
        "host_id": host,
        "observed_at_unix": at,
        "event_class": "process_exec",
        "process_key": "bash:sshd",
        "confidence": "high",
        "response": "alert_only",
        "reasons": ["rule"],
        "score": 0.9,
        "features": list(map(float, features)),
        "feature_contract": contract,
        "signal": "rule-1",
    }
    assert all(map(math.isfinite, body["features"]))
    return body | values
