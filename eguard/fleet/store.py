"""The fleet store: uploads in, generations out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import sqlalchemy as sa

from eguard.clock import Clock, SystemClock
from eguard.errors import FleetStoreError
from eguard.fleet import generations
from eguard.fleet.aggregation import AggregationReport, Progress, run_aggregation
from eguard.fleet.changes import ChangedKeys, Noted
from eguard.fleet.cycle_memory import forget_voter
from eguard.fleet.cycle_plan import keys_of
from eguard.fleet.database import Database
from eguard.fleet.executors import EngineOptions
from eguard.fleet.ingest import Upload, take_uploads
from eguard.fleet.kernel import AggregationRules
from eguard.fleet.registration import register_agent
from eguard.fleet.retention import purge_baselines
from eguard.fleet.schema import HEAD_REVISION, stored_revision
from eguard.fleet.tables import endpoint_agent
from eguard.wire.baseline import BaselineRow, ReceivedBatch, RowRejection, UpsertResult
from eguard.wire.fleet import FleetRow, ImportSource


class FleetStore:
    """Baselines of all endpoints and the generations aggregated from them.

    Parameters
    ----------
    url : str
        ``sqlite:///PATH``, or ``sqlite://`` for a store in memory.
    clock : Clock, optional
        Where receive times come from; a simulated clock makes a replay reproducible.

    Notes
    -----
    Constraints that every implementation MUST keep:

    * an upload is on disk before its answer is returned, or nothing of it is;
    * per (agent, process key) the pair (incarnation, seq) never falls, whatever is repeated, reordered or lost;
    * process keys compare byte by byte;
    * readers see one generation whole; a cycle killed at any point leaves the previous one current;
    * at most one aggregation or rollback runs at a time.

    Examples
    --------
    >>> from eguard.wire import BaselineRow
    >>> row = BaselineRow(process_key="bash:sshd", event_distribution={"process_exec": 1.0}, sample_count=50,
    ...                   entropy_threshold=2.7, learned_at_unix=0.0, seq=1)
    >>> with FleetStore.create("sqlite://") as store:
    ...     for agent in ("a", "b", "c"):
    ...         _ = store.upsert_baselines(agent, "first", [row])
    ...     report = store.aggregate()
    ...     rows = store.fleet_rows()
    >>> report.generation, rows[0].process_key, rows[0].median_distribution, rows[0].agent_count
    (1, 'bash:sshd', {'process_exec': 1.0}, 3)
    """

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        self._database = Database(url)
        self._clock = clock or SystemClock()
        self._publishing = threading.Lock()
        self._changed_keys = ChangedKeys()

    @classmethod
    def create(cls, url: str, clock: Clock | None = None) -> Self:
        """Open a store and bring its tables up to date."""
        store = cls(url, clock)
        store.migrate()
        return store

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    @property
    def database(self) -> Database:
        """The database, for whoever keeps more in it than baselines."""
        return self._database

    def close(self) -> None:
        """Close all connections."""
        self._database.dispose()

    def migrate(self) -> str:
        """Bring the tables up to this version and return its revision; a second call changes nothing.

        Raises
        ------
        FleetStoreError
            The database was made by a later version.
        """
        with self._database.write() as connection:
            if stored_revision(connection) == HEAD_REVISION:
                return HEAD_REVISION
            from eguard.fleet.migrations import upgrade  # noqa: PLC0415 - takes long to load, and 11 MiB

            return upgrade(connection, self._clock.now())

    def register_agent(self, agent_id: str, incarnation: str, *, at: float | None = None) -> int:
        """Record a sign of life and return the ordinal of the incarnation, 1 for an agent's first."""
        now = self._time(at)
        return self._database.retrying(
            lambda connection: register_agent(connection, agent_id, incarnation, now), is_idempotent=True
        )

    def upsert_baselines(
        self, agent_id: str, incarnation: str, rows: Sequence[BaselineRow], *, at: float | None = None
    ) -> UpsertResult:
        """Store uploaded rows in one transaction.

        Parameters
        ----------
        agent_id, incarnation : str
            Who uploads, and the identity of its state folder. An incarnation that the store has not met supersedes all
            earlier ones.
        rows : sequence of BaselineRow
            Rows as the wire let them through.
        at : float, optional
            Receive time; the store's clock by default.

        Returns
        -------
        UpsertResult
            Counts of accepted, unchanged and stale rows, and rejections by position in `rows`.
        """
        now = self._time(at)
        return self._take([Upload(agent_id, incarnation, rows)], now)[0]

    def upsert_received(self, incarnation: str, batch: ReceivedBatch, *, at: float | None = None) -> UpsertResult:
        """Store the good rows of a batch as it was read; rejections of both kinds carry the body's indices."""
        return self.upsert_group([(batch, incarnation)], at=at)[0]

    def upsert_group(
        self, batches: Sequence[tuple[ReceivedBatch, str | None]], *, at: float | None = None
    ) -> list[UpsertResult]:
        """Store batches of several agents in one transaction: all of them are on disk afterwards, or none.

        A transaction that lost against another one, or lost its connection, runs again. If it had been committed and
        only the answer was lost, the rows of the first run are counted as unchanged.

        Parameters
        ----------
        batches : sequence of (ReceivedBatch, str or None)
            Each with the incarnation of the agent's state folder; None stands for the latest one known.
        at : float, optional
            Receive time; the store's clock by default.

        Returns
        -------
        list of UpsertResult
            One a batch; rejections carry the body's indices.
        """
        now = self._time(at)
        uploads = [Upload(batch.agent_id, incarnation, batch.baselines) for batch, incarnation in batches]
        results = self._take(uploads, now)
        return [_with_refusals(batch, result) for (batch, _), result in zip(batches, results, strict=True)]

    def _take(self, uploads: Sequence[Upload], now: float) -> list[UpsertResult]:
        """Store uploads and mark the keys whose votes they changed."""

        def store(connection: sa.Connection) -> tuple[list[UpsertResult], Noted]:
            changed: set[str] = set()
            results = take_uploads(connection, uploads, now, changed)
            return results, self._changed_keys.note(connection, changed)

        results, noted = self._database.retrying(store, is_idempotent=True)
        self._changed_keys.committed(noted)
        return results

    def quarantine(self, agent_id: str) -> None:
        """Take an agent's votes away; its rows stay for inspection.

        Raises
        ------
        FleetStoreError
            No such agent.
        """
        self._set_status(agent_id, "quarantined", self._clock.now())

    def release(self, agent_id: str) -> None:
        """Give a quarantined agent its votes back.

        Raises
        ------
        FleetStoreError
            No such agent.
        """
        self._set_status(agent_id, "active", None)

    def remove_agent(self, agent_id: str) -> None:
        """Forget an agent and everything that it uploaded."""

        def remove(connection: sa.Connection) -> None:
            # Once its rows are gone nobody can tell what it voted on.
            self._changed_keys.note(connection, keys_of(connection, [agent_id]))
            forget_voter(connection, agent_id)
            connection.execute(sa.delete(endpoint_agent).where(endpoint_agent.c.agent_id == agent_id))

        self._database.retrying(remove, is_idempotent=True)

    def purge_expired(self, *, at: float | None = None) -> int:
        """Delete baselines that were not updated for 30 days and return how many those were."""
        return purge_baselines(self._database, self._time(at))

    def aggregate(
        self,
        min_agents: int = 3,
        max_colluders: int = 1,
        *,
        min_samples: int = 30,
        min_mass: float = 0.5,
        active_seconds: float = 7 * 86_400.0,
        min_agent_age_seconds: float = 0.0,
        max_token_share: float = 0.1,
        progress: Progress | None = None,
        also: Callable[[sa.Connection], object] = lambda _: None,
        engine: EngineOptions | None = None,
        is_full: bool = False,
    ) -> AggregationReport:
        """Publish a new generation from the votes of all active agents.

        Parameters are those of `eguard.fleet.kernel.AggregationRules` and `eguard.fleet.aggregation.run_aggregation`.
        `also` is called in the transaction that publishes, here and below: what it writes is committed with the
        generation, and if it raises nothing is.

        Raises
        ------
        ConfigError
            A parameter is out of range.
        FleetStoreError
            Another aggregation or rollback is running, or the database refused.
        """
        rules = AggregationRules(
            min_agents=min_agents,
            max_colluders=max_colluders,
            min_samples=min_samples,
            min_mass=min_mass,
            active_seconds=active_seconds,
            min_agent_age_seconds=min_agent_age_seconds,
            max_token_share=max_token_share,
        )
        with _Exclusive(self._publishing):
            return run_aggregation(self._database, self._clock, rules, progress, also, engine=engine, is_full=is_full)

    def rollback(self, generation: int, also: Callable[[sa.Connection], object] = lambda _: None) -> int:
        """Publish the rows of an earlier generation anew and return the new generation's number.

        Raises
        ------
        FleetStoreError
            The generation is unknown or no longer kept, or an aggregation is running.
        """
        with _Exclusive(self._publishing), self._database.write() as connection:
            number = generations.roll_back(connection, generation, self._clock.now())
            also(connection)
        return number

    def import_rows(
        self,
        rows: Sequence[FleetRow],
        source_version: str,
        also: Callable[[sa.Connection], object] = lambda _: None,
        *,
        source: ImportSource = "import",
    ) -> int:
        """Publish rows of an operator's own as a new generation and return its number.

        Parameters
        ----------
        rows : sequence of FleetRow
            All keys of the generation, each once.
        source_version : str
            Which they are: a name or number of their origin's own.
        source : {"import", "workflow_bundle"}
            Where they come from.

        Raises
        ------
        FleetStoreError
            A key comes twice, or an aggregation is running.
        """
        with _Exclusive(self._publishing), self._database.write() as connection:
            number = generations.import_rows(connection, rows, source_version, self._clock.now(), source)
            also(connection)
        return number

    def pin_reference(
        self, generation: int | None = None, also: Callable[[sa.Connection], object] = lambda _: None
    ) -> int:
        """Make a generation (the current one by default) the reference of fleet health; return its number.

        Raises
        ------
        FleetStoreError
            The generation is unknown or no longer kept.
        """
        with self._database.write() as connection:
            chosen = generations.current_generation(connection) if generation is None else generation
            generations.pin_reference(connection, chosen)
            also(connection)
        return chosen

    def current_generation(self) -> int:
        """Return the number of the current generation, 0 before the first."""
        with self._database.read() as connection:
            return generations.current_generation(connection)

    def reference_generation(self) -> int:
        """Return the number of the pinned generation, 0 if none is."""
        with self._database.read() as connection:
            return generations.reference_generation(connection)

    def fleet_rows(
        self, generation: int | None = None, *, limit: int | None = None, cursor: str = ""
    ) -> list[FleetRow]:
        """Return published rows in key order: all, or at most `limit` of those after the key `cursor`.

        Raises
        ------
        FleetStoreError
            The generation is unknown or no longer kept.
        """
        with self._database.read() as connection:
            return generations.read_rows(connection, generation, limit, cursor)

    def current_page(self, *, limit: int, cursor: str = "") -> tuple[int, list[FleetRow]]:
        """Return the current generation's number and rows of it after the key `cursor`, from one snapshot."""
        with self._database.read() as connection:
            number = generations.current_generation(connection)
            return number, generations.read_rows(connection, None, limit, cursor)

    def fleet_details(self, generation: int | None = None) -> list[dict[str, Any]]:
        """Return every column of `fleet_baseline` for a generation: mass, continuous features and provenance too.

        Raises
        ------
        FleetStoreError
            The generation is unknown or no longer kept.
        """
        with self._database.read() as connection:
            return generations.read_details(connection, generation)

    def health_history(self, limit: int | None = None) -> list[dict[str, Any]]:
        """Return the rows of `fleet_health`, latest generation first."""
        with self._database.read() as connection:
            return generations.read_health(connection, limit)

    def _set_status(self, agent_id: str, status: str, quarantined_at: float | None) -> None:
        with self._database.write() as connection:
            changed = connection.execute(
                sa.update(endpoint_agent)
                .where(endpoint_agent.c.agent_id == agent_id)
                .values(status=status, quarantined_at=quarantined_at)
            )
            if changed.rowcount == 0:
                raise FleetStoreError(f"there is no agent {agent_id}", reason="unknown_agent", agent_id=agent_id)

    def _time(self, at: float | None) -> float:
        return self._clock.now() if at is None else at


def _with_refusals(batch: ReceivedBatch, result: UpsertResult) -> UpsertResult:
    """Return the answer to a batch as it was sent: its bad rows are named as well, all by their index in the body."""
    later = [RowRejection(batch.indices[row.index], row.code, row.detail) for row in result.rejected]
    rejected = sorted([*batch.rejected, *later], key=lambda rejection: rejection.index)
    return UpsertResult(result.accepted, result.unchanged, result.stale, rejected)


class _Exclusive:
    """Hold a lock that nobody waits for: whoever comes second is told so."""

    def __init__(self, lock: threading.Lock) -> None:
        self._lock = lock

    def __enter__(self) -> None:
        if not self._lock.acquire(blocking=False):
            raise FleetStoreError(
                "an aggregation or rollback is running",
                remedy="Wait until it has finished.",
                reason="aggregation_running",
            )

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()
