"""Fetching the fleet's profiles as priors: one generation whole, or none of it."""

from __future__ import annotations

from typing import Any, Final

import structlog

from eguard.agent.control.client import ControlClient, Request
from eguard.agent.control.desk import RuntimeDesk
from eguard.agent.control.policies import PolicyKeeper
from eguard.baseline.seed import priors_from_rows
from eguard.errors import ServerUnavailableError, WireError
from eguard.policy import BaselineMode, ServerVerdict
from eguard.wire.fleet import MAX_PAGE_BYTES, FleetPage, FleetRow, decode_fleet_page

PAGE_ROWS: Final = 512
#: A fleet has some thousand process keys. Whoever sends more than this is not believed.
MAX_PAGES: Final = 128
#: The server aggregates while we read; a generation that ends is read again from its start.
MAX_RESTARTS: Final = 3
_PATH: Final = "/endpoint/baseline/fleet"

_log = structlog.get_logger("eguard.agent")


class _GenerationChangedError(Exception):
    """The server went on to another generation between two pages."""


class SeedFetcher:
    """The duty that takes the fleet's seeds.

    While seeds are switched off, by whomever, those that are there stay in use and no others are taken.

    Parameters
    ----------
    client : ControlClient
    desk : RuntimeDesk
    policies : PolicyKeeper
    agent_id : str
    """

    def __init__(self, client: ControlClient, desk: RuntimeDesk, policies: PolicyKeeper, *, agent_id: str) -> None:
        self._client = client
        self._desk = desk
        self._policies = policies
        self._agent_id = agent_id
        self._totals = {"fetches": 0, "rows_fetched": 0, "generations_applied": 0, "profiles_seeded": 0}

    def fetch(self) -> None:
        """Take the fleet's current generation, if the baseline has a use for it and does not hold it yet.

        Raises
        ------
        ServerRefusalError, ServerUnavailableError
            Nothing was changed.
        BaselineStoreError
            The earlier seeds stay.
        """
        self._policies.note_seed(ServerVerdict.ERROR)  # asked anew
        if not self._policies.may_seed:
            return
        wanted = self._policies.wanted_mode
        wants_first = wanted is not None and wanted[0] is BaselineMode.SKIP_LEARNING
        need = self._desk.seed_need(wants_first_seed=wants_first)
        if not need.is_needed:
            return
        found = self._read_generation(need.generation)
        if found is None or not self._policies.may_seed:
            return
        generation, rows = found
        seeded = self._desk.seed(priors_from_rows(rows), generation)
        self._totals["generations_applied"] += 1
        self._totals["rows_fetched"] += len(rows)
        self._totals["profiles_seeded"] = seeded
        _log.info(
            "applied fleet baseline seed profiles",
            agent_id=self._agent_id,
            baseline_status=need.baseline_status,
            generation=generation,
            rows=len(rows),
            profiles_seeded=seeded,
        )

    def describe(self) -> dict[str, Any]:
        """Return what was fetched and applied since the start."""
        return dict(self._totals)

    def _read_generation(self, held: int) -> tuple[int, list[FleetRow]] | None:
        """Return the rows of the current generation; None if there is nothing to take."""
        self._totals["fetches"] += 1
        for _ in range(MAX_RESTARTS):
            try:
                return self._read_pages(held)
            except _GenerationChangedError:
                continue
        raise ServerUnavailableError(
            f"the fleet's generation changed {MAX_RESTARTS} times while it was read", reason="generation_changes"
        )

    def _read_pages(self, held: int) -> tuple[int, list[FleetRow]] | None:
        first = self._page(None)
        self._policies.note_seed(ServerVerdict.ALLOWED if first.seed_enabled else ServerVerdict.DISABLED)
        if not first.seed_enabled or first.generation in {0, held}:
            return None
        rows, page = list(first.fleet_baselines), first
        for _ in range(MAX_PAGES):
            if page.next_cursor is None:
                return first.generation, rows
            cursor = page.next_cursor
            page = self._page(cursor)
            if page.next_cursor == cursor:
                raise ServerUnavailableError("the fleet's pages do not go on", reason="unreadable")
            if page.generation != first.generation or not page.seed_enabled:
                raise _GenerationChangedError
            rows += page.fleet_baselines
        raise ServerUnavailableError(f"the fleet's baseline has more than {MAX_PAGES} pages", reason="too_long")

    def _page(self, cursor: str | None) -> FleetPage:
        query: dict[str, str | int] = {"limit": PAGE_ROWS}
        if cursor is not None:
            query["cursor"] = cursor
        answer = self._client.send(Request(_PATH, query=query, max_bytes=MAX_PAGE_BYTES))
        try:
            return decode_fleet_page(answer.body)
        except WireError as error:
            raise ServerUnavailableError(
                f"the fleet's baseline cannot be read: {error.message[:200]}", reason="unreadable"
            ) from error
