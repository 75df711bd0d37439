"""Adjudicated alerts of the fleet's database as columns: one snapshot, no driver's words, the same on every dialect.

An event counts by when the server received it: an endpoint's clock may say anything. Only alerts with a verdict and a
whole feature row of this release's contract can be learned from; the others are counted by reason.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import RowMapping

from eguard.detection.confidence import Confidence
from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.fleet.database import Database
from eguard.fleet.tables import alert_feedback, endpoint_agent, endpoint_event

Progress = Callable[[str, int, int], None]
#: Network of an agent that is in no group.
NO_GROUP: Final = "default"
_ROWS_AT_ONCE: Final = 5000
_SEVERITY: Final = {step.name.lower(): int(step) / max(Confidence) for step in Confidence}
_UNKNOWN_SEVERITY: Final = 0.5
_FITTED: Final = tuple(FEATURE_NAMES.index(name) for name in ("event_class_risk", "rule_precision_prior"))

_event = endpoint_event.c
_said = alert_feedback.c


@dataclass(frozen=True, slots=True)
class Window:
    """What is taken: events received in the `seconds` before `now_unix`, the newest `limit` of them."""

    now_unix: float
    seconds: float
    limit: int

    @property
    def start_unix(self) -> float:
        """The earliest receive time."""
        return self.now_unix - self.seconds


@dataclass(slots=True)
class LiveEvents:
    """Adjudicated events and calibration samples.

    Parameters
    ----------
    columns : dict of str to list
        Equally long columns of the events' corpus rows without the features, oldest first.
    features : list of ndarray of shape (43,)
        Their feature rows; the two columns that training fits are 0.
    verdicts : list of dict
        Every verdict on these events, oldest first.
    left_out : dict of str to int
        Adjudicated events that cannot be learned from, by reason.
    n_window : int
        Events received in the window, adjudicated or not.
    n_adjudicated : int
        Those with a verdict, before the limit.
    """

    columns: dict[str, list[Any]] = field(default_factory=dict)
    features: list[NDArray[np.float64]] = field(default_factory=list)
    verdicts: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    n_window: int = 0
    n_adjudicated: int = 0

    def __len__(self) -> int:
        return len(self.features)


def read_live_events(database: Database, window: Window, progress: Progress | None = None) -> LiveEvents:
    """Read the window's adjudicated events with all that analysts said of them.

    Raises
    ------
    FleetStoreError
        The database cannot be read.
    """
    live = LiveEvents(columns={name: [] for name in (*_COLUMNS, "model_score")})
    in_window = sa.and_(_event.received_at > window.start_unix, _event.received_at <= window.now_unix)
    has_verdict = _event.event_id.in_(sa.select(_said.event_id))
    with database.read() as connection:
        live.n_window = _count(connection, in_window)
        live.n_adjudicated = _count(connection, sa.and_(in_window, has_verdict))
        total = min(live.n_adjudicated, window.limit)
        rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(
            _events().where(in_window, has_verdict).order_by(_event.received_at.desc(), _event.event_id).limit(total)
        )
        for done, row in enumerate(rows, 1):
            _take(live, row._mapping)  # noqa: SLF001 - SQLAlchemy's public name of a row as a mapping
            if progress is not None and (done % _ROWS_AT_ONCE == 0 or done == total):
                progress("export", done, total)
        _read_verdicts(connection, live, in_window, set(live.columns["sample_id"]))
    _oldest_first(live)
    return live


_COLUMNS: Final = ("sample_id", "observed_at_unix", "host_id", "network", "rule_id", "event_class", "severity")


def _count(connection: sa.Connection, condition: sa.ColumnElement[bool]) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(endpoint_event).where(condition)).scalar_one())


def _events() -> sa.Select[Any]:
    agent = endpoint_agent.c
    return sa.select(
        _event.event_id,
        _event.agent_id,
        _event.observed_at,
        _event.received_at,
        _event.event_class,
        _event.rule_id,
        _event.severity,
        _event.score,
        # As text: rows are decoded once, straight into numbers.
        sa.type_coerce(_event.features, sa.Text).label("features"),
        agent.group,
    ).join(endpoint_agent, agent.agent_id == _event.agent_id, isouter=True)


def _take(live: LiveEvents, row: RowMapping) -> None:
    """Append one event, or count why it cannot be learned from."""
    features = feature_row(row["features"])
    if isinstance(features, str):
        live.left_out[features] = live.left_out.get(features, 0) + 1
        return
    columns = live.columns
    columns["sample_id"].append(row["event_id"])
    # What a host dates into the future happened when it arrived, at the latest.
    columns["observed_at_unix"].append(min(row["observed_at"], row["received_at"]))
    columns["host_id"].append(row["agent_id"])
    columns["network"].append(row["group"] or NO_GROUP)
    columns["rule_id"].append(row["rule_id"])
    columns["event_class"].append(row["event_class"])
    columns["severity"].append(_SEVERITY.get(row["severity"], _UNKNOWN_SEVERITY))
    columns["model_score"].append(row["score"])
    live.features.append(features)


_DECODER: Final = msgspec.json.Decoder(dict[str, float])


def feature_row(text: str | None) -> NDArray[np.float64] | str:
    """Return the 43 features of a stored row, those that training fits put to 0; or why there are none.

    Examples
    --------
    >>> feature_row(None), feature_row('{"z1_ioc_hit": 1.0}')
    ('no features', 'features of another contract')
    """
    if text is None or text == "null":
        return "no features"
    try:
        values = _DECODER.decode(text)
    except msgspec.DecodeError:
        return "features that cannot be read"
    if values.keys() != _NAMES:
        return "features of another contract"
    row = np.array([values[name] for name in FEATURE_NAMES])
    if not np.all((row >= 0.0) & (row <= 1.0)):
        return "features outside [0, 1]"
    row[list(_FITTED)] = 0.0
    return row


_NAMES: Final = set(FEATURE_NAMES)


def _read_verdicts(
    connection: sa.Connection, live: LiveEvents, in_window: sa.ColumnElement[bool], taken: set[str]
) -> None:
    query = sa.select(_said.event_id, _said.verdict, _said.analyst, _said.created_at).join(
        endpoint_event, _event.event_id == _said.event_id
    )
    rows = connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(
        query.where(in_window).order_by(_said.created_at, _said.feedback_id)
    )
    live.verdicts += [
        {"sample_id": row[0], "verdict": row[1], "analyst": row[2], "adjudicated_at_unix": row[3]}
        for row in rows
        if row[0] in taken
    ]


def _oldest_first(live: LiveEvents) -> None:
    order = sorted(
        range(len(live)), key=lambda place: (live.columns["observed_at_unix"][place], live.columns["sample_id"][place])
    )
    live.columns = {name: [values[place] for place in order] for name, values in live.columns.items()}
    live.features = [live.features[place] for place in order]
