"""The alert rules at work: measured every minute, remembered, and told when one begins or ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
import structlog

from eguard.clock import Clock
from eguard.fleet.database import Database
from eguard.fleet.tables import alert_state
from eguard.fleet.upsert import upsert
from eguard.server.services import count_measures, fleet_measures, score_measures
from eguard.server.services.alert_rules import ALERT, OK, UNKNOWN, State, Verdict
from eguard.server.services.notifications import notify

#: How long the numbers have to be inside their bound before an alert ends, so that one at its bound tells nobody twice.
END_SECONDS: Final = 600.0
NOTIFICATION_KIND: Final = "alert"

_alert = alert_state.c
_log = structlog.get_logger("eguard.server")


class Rule(NamedTuple):
    """What people read of a rule."""

    title: str
    severity: str
    remedy: str


RULES: Final[Mapping[str, Rule]] = {
    "upload_rejects": Rule(
        "Uploads are rejected in every five minutes of half an hour",
        "warning",
        "See which rows, and why: eguard_baseline_row_rejections_total by code, and the server's log.",
    ),
    "seed_effectiveness": Rule(
        "No agent applies seeds although the fleet has rows",
        "warning",
        "On a learning agent: `eguard agent status`, and its log for `fleet seeds`; check the policy's seed switch.",
    ),
    "aggregation": Rule(
        "Aggregations fail one after the other",
        "critical",
        "See why: `eguard server task history fleet_aggregate --json`.",
    ),
    "stale_transitions": Rule(
        "Unusually many baselines became stale",
        "warning",
        "See which agents: `eguard server agent list --json`; did a sensor stop, or a network?",
    ),
    "safety": Rule(
        "Something was changed while a rollout is frozen",
        "critical",
        "See who and why: `eguard server audit list`; resume the rollout once the cause is known.",
    ),
    "js_trend": Rule(
        "The fleet's baseline moves", "critical", "Follow docs/how-to/drift-alarm.md: organic, or are agents lying?"
    ),
    "adwin_alarms": Rule(
        "Drift alarms of many series", "critical", "Follow docs/how-to/drift-alarm.md; see `eguard fleet health`."
    ),
    "p_values": Rule(
        "Scores no longer look like those that thresholds were set on",
        "warning",
        "Recalibrate: run a night (`eguard ml nightly`) and promote what it builds; docs/explanation/calibration.md.",
    ),
    "high_mi_destinations": Rule(
        "An agent calls home to unusually many destinations",
        "critical",
        "Look at its beacons: `eguard alerts`, docs/how-to/find-beacons.md; isolate it if they are not known.",
    ),
    "tree_anomalies": Rule(
        "Unusually many process trees stand out",
        "warning",
        "Look at the latest alerts: a new release of software everywhere, or an attack on many hosts?",
    ),
}


class Alerts:
    """The rules' states.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        For windows.
    may_seed : callable
        Tells whether an agent may take seeds.
    flush : callable
        Writes down what this server counted.
    """

    def __init__(
        self, database: Database, clock: Clock, *, may_seed: Callable[[str], bool], flush: Callable[[], None]
    ) -> None:
        self._database = database
        self._clock = clock
        self._may_seed = may_seed
        self._flush = flush

    def look(self) -> dict[str, str]:
        """Measure, judge, remember, and tell what began or ended; return each rule's state.

        Raises
        ------
        FleetStoreError
            The database refused; states stay as they were.
        """
        self._flush()
        now = self._clock.now()
        verdicts = self.measure(now)

        def remember(connection: sa.Connection) -> dict[str, str]:
            rows = connection.execute(sa.select(alert_state).with_for_update()).all()
            before = {row.rule: row for row in rows}
            states: dict[str, str] = {}
            for rule, verdict in verdicts.items():
                values = _next(before.get(rule), verdict, now)
                states[rule] = values["state"]
                _tell(connection, rule, before.get(rule), values, now)
                connection.execute(upsert(alert_state, ["rule"]).values(rule=rule, **values))
            return states

        return self._database.retrying(remember)

    def measure(self, now: float) -> dict[str, Verdict]:
        """Return what every rule says of now."""
        with self._database.read() as connection:
            return {
                "upload_rejects": count_measures.uploads(connection, now),
                "seed_effectiveness": count_measures.seeds(connection, now, self._may_seed),
                "aggregation": fleet_measures.aggregations(connection, now),
                "stale_transitions": count_measures.baselines(connection, now),
                "safety": fleet_measures.changes(connection, now),
                "js_trend": fleet_measures.divergence(connection),
                "adwin_alarms": fleet_measures.drift_alarms(connection, now),
                "p_values": score_measures.scores(connection, now),
                "high_mi_destinations": count_measures.destinations(connection, now),
                "tree_anomalies": count_measures.trees(connection, now),
            }


def alert_views(connection: sa.Connection) -> list[dict[str, Any]]:
    """Return every rule as the API shows it: its state, the numbers behind it, and what to do."""
    rows = {row.rule: row for row in connection.execute(sa.select(alert_state))}
    views = []
    for name, rule in RULES.items():
        row = rows.get(name)
        judged = {} if row is None else row.numbers
        views.append(
            {
                "rule": name,
                "title": rule.title,
                "severity": rule.severity,
                "state": UNKNOWN if row is None else row.state,
                "value": judged.get("value"),
                "bound": judged.get("bound"),
                "why": "not looked at yet" if row is None else judged.get("why", ""),
                "since_unix": None if row is None else row.since,
                "looked_at_unix": None if row is None else row.looked_at,
                "numbers": judged.get("numbers", {}),
                "remedy": rule.remedy,
            }
        )
    return views


def _next(before: Any, verdict: Verdict, now: float) -> dict[str, Any]:
    """Return a rule's next row: an alert ends when it was fine for a while, and not because nothing is known."""
    state: State = verdict.state
    fine_since = None
    if before is not None and before.state == ALERT and state != ALERT:
        if state == OK:
            fine_since = now if before.fine_since is None else before.fine_since
        if fine_since is None or now - fine_since < END_SECONDS:
            state = ALERT
        else:
            fine_since = None
    is_same = before is not None and before.state == state
    return {
        "state": state,
        "since": before.since if is_same else now,
        "looked_at": now,
        "fine_since": fine_since,
        "numbers": {
            "value": verdict.value,
            "bound": verdict.bound,
            "why": verdict.why,
            "numbers": verdict.numbers,
        },
    }


def _tell(connection: sa.Connection, name: str, before: Any, values: dict[str, Any], now: float) -> None:
    was_alert = before is not None and before.state == ALERT
    is_alert = values["state"] == ALERT
    if was_alert == is_alert:
        return
    rule = RULES[name]
    detail = {"rule": name, "state": values["state"], "remedy": rule.remedy, **values["numbers"]}
    if is_alert:
        notify(connection, kind=NOTIFICATION_KIND, severity=rule.severity, title=rule.title, detail=detail, now=now)
        _log.warning("alert began", rule=name, value=detail["value"], bound=detail["bound"])
    else:
        title = f"Over: {rule.title}"
        detail["began_unix"] = before.since
        notify(connection, kind=NOTIFICATION_KIND, severity="info", title=title, detail=detail, now=now)
        _log.info("alert ended", rule=name, value=detail["value"], bound=detail["bound"])
