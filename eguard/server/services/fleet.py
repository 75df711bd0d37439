"""Generations of the fleet's baseline: made, gone back to, brought in, approved, handed out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import sqlalchemy as sa
import structlog

from eguard.clock import Clock
from eguard.fleet.aggregation import AggregationReport, Progress
from eguard.fleet.executors import EngineOptions
from eguard.fleet.generations import reference_generation
from eguard.fleet.store import FleetStore
from eguard.fleet.voters import BEYOND_SHARE_REMEDY
from eguard.server.principal import Principal
from eguard.server.services.audit import record
from eguard.server.services.drift import settle_as_adversarial, settle_as_organic, watch_drift
from eguard.server.services.runbook import Runbook
from eguard.server.services.seed_pages import EncodedPage, PageWish, SeedPages
from eguard.settings import ServerSettings
from eguard.wire.fleet import FleetRow, ImportSource

#: Rows on a page unless a caller asks for fewer or more.
PAGE_ROWS: Final = 512

_log = structlog.get_logger("eguard.server")


class Settled(NamedTuple):
    """A generation that an operator decided on, and the alarms of drift that this resolved."""

    generation: int
    resolved_alarms: list[str]


class Fleet:
    """What the fleet agrees on.

    Parameters
    ----------
    store : FleetStore
        Where it is kept.
    clock : Clock
        For the audit log.
    settings : ServerSettings
        The rules of the cohort.

    Attributes
    ----------
    runbook : Runbook
        What operators do when it drifts.
    """

    def __init__(self, store: FleetStore, clock: Clock, settings: ServerSettings) -> None:
        self._store = store
        self._pages = SeedPages(store)
        self._clock = clock
        self._settings = settings
        self.runbook = Runbook(store.database, clock, settings)

    def aggregate(
        self,
        principal: Principal,
        min_agents: int | None = None,
        progress: Progress | None = None,
        *,
        is_full: bool = False,
    ) -> AggregationReport:
        """Publish a new generation from the votes of all active agents, and look whether the fleet drifts.

        Keys whose votes did not change are taken over from the previous generation, unless `is_full` asks otherwise.

        Raises
        ------
        ConfigError
            The aggregation engine's settings do not fit together.
        FleetStoreError
            Another aggregation is running, the database refused, or the engine is not available; the previous
            generation stays current.
        """
        settings = self._settings
        wanted = settings.aggregation_min_agents if min_agents is None else min_agents

        def watch(connection: sa.Connection) -> dict[str, Any]:
            watch_drift(connection, self._clock.now())
            return {"min_agents": wanted}

        report = self._store.aggregate(
            wanted,
            settings.aggregation_max_colluders,
            min_agent_age_seconds=settings.aggregation_min_agent_age_seconds,
            max_token_share=settings.aggregation_max_token_share,
            progress=progress,
            also=self._audit(principal, "fleet.aggregate", watch),
            engine=EngineOptions.of(settings),
            is_full=is_full,
        )
        if report.votes_beyond_token_share:
            _log.warning(
                "votes beyond their enrolment token's share do not count",
                generation=report.generation,
                votes_beyond_token_share=report.votes_beyond_token_share,
                votes=report.votes,
                max_token_share=settings.aggregation_max_token_share,
                remedy=BEYOND_SHARE_REMEDY,
            )
        return report

    def roll_back(self, principal: Principal, generation: int, reason: str) -> Settled:
        """Publish the rows of an earlier generation anew; alarms raised after it are resolved as adversarial."""
        resolved: list[str] = []

        def settle(connection: sa.Connection) -> dict[str, Any]:
            watch_drift(connection, self._clock.now())
            resolved[:] = settle_as_adversarial(connection, principal, self._clock.now(), after=generation)
            return {"generation": generation, "reason": reason, "resolved_alarms": resolved}

        number = self._store.rollback(generation, self._audit(principal, "fleet.rollback", settle))
        return Settled(number, resolved)

    def import_rows(
        self,
        principal: Principal,
        rows: Sequence[FleetRow],
        source_version: str,
        reason: str,
        source: ImportSource = "import",
    ) -> int:
        """Publish rows that come from elsewhere and return the new generation's number."""

        def watch(connection: sa.Connection) -> dict[str, Any]:
            watch_drift(connection, self._clock.now())
            return {"rows": len(rows), "source": source, "source_version": source_version, "reason": reason}

        also = self._audit(principal, "fleet.import", watch)
        return self._store.import_rows(rows, source_version, also, source=source)

    def approve(self, principal: Principal, generation: int | None, reason: str) -> Settled:
        """Pin a generation, the current one by default, as what drift is measured against.

        Alarms raised up to it are resolved as organic.
        """
        resolved: list[str] = []

        def settle(connection: sa.Connection) -> dict[str, Any]:
            pinned = reference_generation(connection)
            resolved[:] = settle_as_organic(connection, principal, pinned, self._clock.now())
            return {"generation": pinned, "reason": reason, "resolved_alarms": resolved}

        return Settled(self._store.pin_reference(generation, self._audit(principal, "fleet.approve", settle)), resolved)

    def pages(self, wishes: Sequence[PageWish]) -> list[EncodedPage]:
        """Return pages of the current generation."""
        return self._pages.pages(wishes)

    def _audit(
        self, principal: Principal, action: str, act: Callable[[sa.Connection], dict[str, Any]]
    ) -> Callable[[sa.Connection], object]:
        """Return what runs in the publishing transaction: `act`, and the record of what it says it did."""

        def write(connection: sa.Connection) -> None:
            record(
                connection,
                principal,
                action=action,
                object_type="fleet",
                object_id="fleet",
                detail=act(connection),
                now=self._clock.now(),
            )

        return write
