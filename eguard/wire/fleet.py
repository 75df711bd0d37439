"""Fleet seeds: what the server publishes and agents take as priors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta, Struct

from eguard.wire.baseline import Count
from eguard.wire.distribution import SUM_TOLERANCE, ClassName, Probability
from eguard.wire.process_key import MAX_PROCESS_KEY_CHARACTERS, is_process_key
from eguard.wire.strict_json import parse_strict_json, refusal

#: Cap on one page that an agent reads: 1,000 rows with the longest keys that ordinary endpoints have.
MAX_PAGE_BYTES: Final = 4_000_000

#: Where a row comes from: the fleet's own median, an operator's import, a return to an earlier generation.
Source = Literal["aggregate", "import", "rollback", "workflow_bundle"]
#: Of these two says an operator that rows come from elsewhere: from anywhere, or from a workflow's bundle.
ImportSource = Literal["import", "workflow_bundle"]


class FleetRow(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One process key of the current fleet baseline.

    Attributes
    ----------
    process_key : str
        Canonical key.
    median_distribution : dict of str to float
        Coordinate-wise median over the cohort, divided by its sum; absent classes are 0.
    agent_count : int
        Agents that voted, one vote each.
    stddev_kl : float
        Standard deviation over voters of KL(voter || aggregate), in bits.
    tolerated_faults : int
        Forged votes that the median bears, floor((agent_count - 1) / 2).
    source : str
        ``aggregate``, ``import``, ``rollback`` or ``workflow_bundle``.
    """

    process_key: Annotated[str, Meta(min_length=3, max_length=MAX_PROCESS_KEY_CHARACTERS)]
    median_distribution: dict[ClassName, Probability]
    agent_count: Count
    stddev_kl: Annotated[float, Meta(ge=0.0)]
    tolerated_faults: Count
    source: Source


class FleetPage(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page of fleet seeds. `next_cursor` is the last key of the page, null on the last one."""

    status: Literal["ok"] = "ok"
    seeded: Count
    generation: Count
    seed_enabled: bool
    fleet_baselines: list[FleetRow]
    next_cursor: str | None = None


def encode_fleet_page(page: FleetPage) -> bytes:
    """Return the body of a page; read back under the agent's rules before it leaves.

    Raises
    ------
    WireError
        A row breaks the contract.
    """
    body = msgspec.json.encode(page)
    decode_fleet_page(body, max_bytes=max(len(body), 1))
    return body


def decode_fleet_page(body: bytes, max_bytes: int = MAX_PAGE_BYTES) -> FleetPage:
    """Return a page of seeds. An agent takes a page whole or not at all.

    Raises
    ------
    PayloadTooLargeError
        The body exceeds `max_bytes`.
    WireError
        The body or one of its rows breaks the contract; ``context["reason"]`` says why.
    """
    value = parse_strict_json(body, max_bytes=max_bytes)
    try:
        page = msgspec.convert(value, FleetPage)
    except msgspec.ValidationError as error:
        raise refusal("invalid_fleet_page", str(error)[:200]) from error
    check_fleet_rows(page.fleet_baselines)
    return page


def check_fleet_rows(rows: Sequence[FleetRow]) -> None:
    """Check what types and ranges cannot say about rows.

    Raises
    ------
    WireError
        A key is not canonical, or a distribution does not sum to 1.
    """
    for index, row in enumerate(rows):
        if not is_process_key(row.process_key):
            raise refusal("invalid_process_key", f"row {index}: process_key is not canonical", index=index)
        total = math.fsum(row.median_distribution.values())
        if not abs(total - 1.0) <= SUM_TOLERANCE:
            raise refusal("sum_not_one", f"row {index}: median_distribution sums to {total:.9g}", index=index)
