"""The votes on a few keys as they stand, and who casts them: what an explanation of drift is made of."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from eguard.events import N_EVENT_CLASSES
from eguard.fleet.health import PublishedKey
from eguard.fleet.influence import KeyVotes
from eguard.fleet.kernel import AggregationRules
from eguard.fleet.tables import endpoint_agent, endpoint_baseline, endpoint_event, endpoint_inventory
from eguard.fleet.voters import token_code, vote_rank, voter_conditions, within_token_share

_IPV4_PREFIX, _IPV6_PREFIX = 24, 64
_NAMES_AT_ONCE = 500


class Voter(NamedTuple):
    """What the server knows of an agent that votes; empty text where it knows nothing."""

    agent_id: str
    token: str
    group: str
    os: str
    subnet: str
    agent_version: str
    bundle_version: str
    enrolled_at: float
    alerts: int


class Ballots(NamedTuple):
    """Votes on keys with two or more, and the voters that their `agents` point to."""

    voters: list[Voter]
    keys: list[KeyVotes]


def read_ballots(
    connection: sa.Connection,
    reference: Mapping[str, PublishedKey],
    process_keys: Sequence[str],
    rules: AggregationRules,
    *,
    now: float,
    since: float,
) -> Ballots:
    """Return the votes that the next aggregation would count on some keys of the reference.

    Parameters
    ----------
    connection : sqlalchemy.Connection
    reference : mapping of str to PublishedKey
        What the keys are held against.
    process_keys : sequence of str
        Which of its keys.
    rules : AggregationRules
        Who votes.
    now : float
        Time of the aggregation.
    since : float
        Alerts of an agent are counted from here.
    """
    found = {key: _votes_on(connection, key, rules, now) for key in process_keys}
    names = sorted({row.agent_id for rows in found.values() for row in rows})
    at = {name: index for index, name in enumerate(names)}
    keys = [
        KeyVotes(
            process_key=key,
            agents=np.array([at[row.agent_id] for row in rows], dtype=np.intp),
            votes=_probabilities([row.distribution_vector for row in rows]),
            samples=np.array([row.sample_count for row in rows], dtype=np.int64),
            reference=reference[key].distribution,
        )
        for key, rows in found.items()
        if len(rows) > 1
    ]
    return Ballots(_voters(connection, names, since), keys)


def _probabilities(vectors: Sequence[bytes]) -> NDArray[np.float64]:
    votes = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(-1, N_EVENT_CLASSES).astype(np.float64)
    votes /= votes.sum(axis=1, keepdims=True)
    return votes


def _votes_on(connection: sa.Connection, key: str, rules: AggregationRules, now: float) -> list[Any]:
    baseline = endpoint_baseline.c
    query = (
        sa.select(
            baseline.agent_id, baseline.distribution_vector, baseline.sample_count, endpoint_agent.c.enrolled_with
        )
        .join(endpoint_agent, endpoint_agent.c.agent_id == baseline.agent_id)
        .where(
            baseline.process_key == key,
            baseline.expires_at > now,
            baseline.sample_count >= rules.min_samples,
            *voter_conditions(rules, now),
        )
        .order_by(baseline.agent_id)
    )
    rows = list(connection.execute(query))
    if not rows:
        return rows
    tokens = np.array([token_code(row.enrolled_with) for row in rows], dtype=np.int64)
    ranks = np.array([vote_rank(row.agent_id) for row in rows], dtype=np.int64)
    counted = within_token_share(np.zeros(1, dtype=np.intp), tokens, rules.max_token_share, ranks)
    return [row for row, counts in zip(rows, counted.tolist(), strict=True) if counts]


def _voters(connection: sa.Connection, names: Sequence[str], since: float) -> list[Voter]:
    agent, inventory, event = endpoint_agent.c, endpoint_inventory.c, endpoint_event.c
    query = sa.select(
        agent.agent_id,
        agent.enrolled_with,
        agent.group,
        inventory.os_type,
        inventory.ip_address,
        agent.address,
        agent.agent_version,
        agent.bundle_version,
        agent.enrolled_at,
    ).outerjoin_from(endpoint_agent, endpoint_inventory, inventory.agent_id == agent.agent_id)
    counted = sa.select(event.agent_id, sa.func.count().label("alerts")).where(event.received_at >= since)
    found: dict[str, Voter] = {}
    for start in range(0, len(names), _NAMES_AT_ONCE):
        some = names[start : start + _NAMES_AT_ONCE]
        grouped = counted.where(event.agent_id.in_(some)).group_by(event.agent_id)
        alerts = {row.agent_id: int(row.alerts) for row in connection.execute(grouped)}
        for row in connection.execute(query.where(agent.agent_id.in_(some))):
            found[row.agent_id] = Voter(
                agent_id=row.agent_id,
                token=row.enrolled_with or "",
                group=row.group,
                os=row.os_type or "",
                subnet=subnet_of(row.ip_address or row.address or ""),
                agent_version=row.agent_version or "",
                bundle_version=row.bundle_version or "",
                enrolled_at=row.enrolled_at,
                alerts=alerts.get(row.agent_id, 0),
            )
    return [found[name] for name in names]


def subnet_of(address: str) -> str:
    """Return the network of an address, /24 or /64; empty if it is none.

    Examples
    --------
    >>> subnet_of("192.0.2.77"), subnet_of("2001:db8:1:2:3::4"), subnet_of("unknown")
    ('192.0.2.0/24', '2001:db8:1:2::/64', '')
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return ""
    prefix = _IPV4_PREFIX if parsed.version == 4 else _IPV6_PREFIX
    return str(ipaddress.ip_network((parsed, prefix), strict=False))
