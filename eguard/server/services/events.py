"""Telemetry: alerts and calibration samples on their way into the database, one transaction a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from eguard.clock import Clock, SystemClock
from eguard.detection.suppression import Suppressor
from eguard.fleet.database import Database
from eguard.fleet.tables import calibration_sample, endpoint_agent, endpoint_event
from eguard.server.services.alert_rows import ReadAlert, event_row, read_alert
from eguard.server.services.calibration_samples import store_samples
from eguard.server.services.incidents import Grouping
from eguard.server.services.whitelist import entries_for
from eguard.wire.telemetry import (
    CalibrationBatch,
    TelemetryAnswer,
    TelemetryBatch,
    TelemetryRejection,
)

#: Ids asked for at once; SQLite takes 32,766 values in a statement, MariaDB more.
_IDS_A_QUERY: Final = 1000


class Events:
    """What agents report.

    Parameters
    ----------
    database : Database
        The fleet's database.
    clock : Clock, optional
        Where receive times come from.

    Notes
    -----
    An alert's id is the event's id: what arrives twice is stored once, whatever was lost on the way. The receive time
    rules: an alert from a host whose clock runs ahead counts as of its arrival when incidents are formed.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self._database = database
        self._clock = clock or SystemClock()

    def take(self, agent_id: str, batch: TelemetryBatch) -> TelemetryAnswer:
        """Store the good alerts of a batch, with their incidents, and name the bad ones.

        Parameters
        ----------
        agent_id : str
            Who sends them, from the certificate.
        batch : TelemetryBatch
            The body.

        Returns
        -------
        TelemetryAnswer
            Rejections carry the alert's index and a code: those of `eguard.server.services.alert_rows.read_alert`, and
            ``event_id_taken`` where another agent's alert has the id.

        Raises
        ------
        FleetStoreError
            The database refused; nothing of the batch was stored.
        """
        rejected: list[TelemetryRejection] = []
        good: dict[int, ReadAlert] = {}
        for index, body in enumerate(batch.alerts):
            read = read_alert(body)
            if isinstance(read, ReadAlert):
                good[index] = read
            else:
                rejected.append(TelemetryRejection(index, *read))
        if not good:
            return TelemetryAnswer(accepted=0, duplicate=0, rejected=rejected)

        def store(connection: sa.Connection) -> tuple[list[ReadAlert], int, list[TelemetryRejection]]:
            group = _lock_agent(connection, agent_id)
            owners = _owners(connection, endpoint_event, "event_id", [read.alert.alert_id for read in good.values()])
            sorted_out = _unknown(good, owners, agent_id)
            self._store(connection, agent_id, group, sorted_out[0])
            return sorted_out

        fresh, duplicate, taken = self._database.retrying(store, is_idempotent=True)
        rejected = sorted([*rejected, *taken], key=lambda rejection: rejection.index)
        return TelemetryAnswer(accepted=len(fresh), duplicate=duplicate, rejected=rejected)

    def take_samples(self, agent_id: str, batch: CalibrationBatch) -> TelemetryAnswer:
        """Store the calibration samples of a batch; one that is there already is a duplicate.

        Returns
        -------
        TelemetryAnswer
            Rejections carry the sample's index and a code of `calibration_samples.store_samples`.

        Raises
        ------
        FleetStoreError
            The database refused; nothing of the batch was stored.
        """
        now = self._clock.now()

        def store(connection: sa.Connection) -> TelemetryAnswer:
            _lock_agent(connection, agent_id)
            owners = _owners(connection, calibration_sample, "sample_id", [each.sample_id for each in batch.samples])
            return store_samples(connection, agent_id, batch.samples, owners, now)

        return self._database.retrying(store, is_idempotent=True)

    def _store(self, connection: sa.Connection, agent_id: str, group: str, fresh: Sequence[ReadAlert]) -> None:
        if not fresh:
            return
        now = self._clock.now()
        suppressor = Suppressor(entries_for(connection, agent_id, group, now))
        timed = sorted(
            ((min(read.alert.observed_at_unix, now), read) for read in fresh),
            key=lambda pair: (pair[0], pair[1].alert.alert_id),
        )
        grouping = Grouping(connection, agent_id, timed[0][0], timed[-1][0])
        rows = []
        for at, read in timed:
            suppressed_by = suppressor.match(read.alert)
            incident_id = grouping.place(read, at, is_suppressed=suppressed_by is not None)
            rows.append(
                event_row(read, agent_id, received_at=now, incident_id=incident_id, suppressed_by=suppressed_by)
            )
        grouping.save()
        connection.execute(sa.insert(endpoint_event), rows)


def _lock_agent(connection: sa.Connection, agent_id: str) -> str:
    """Lock the agent's row, so that its batches follow each other, and return its group ("" while it has no row)."""
    column = endpoint_agent.c
    query = sa.select(column.group).where(column.agent_id == agent_id).with_for_update()
    return str(connection.execute(query).scalar() or "")


def _owners(connection: sa.Connection, table: sa.Table, key: str, ids: Sequence[str]) -> dict[str, str]:
    """Return the agents that stored those of the ids that are there."""
    column = table.c[key]
    owners: dict[str, str] = {}
    for start in range(0, len(ids), _IDS_A_QUERY):
        query = sa.select(column, table.c.agent_id).where(column.in_(ids[start : start + _IDS_A_QUERY]))
        owners.update((row[0], row[1]) for row in connection.execute(query))
    return owners


def _unknown(
    good: dict[int, ReadAlert], owners: dict[str, str], agent_id: str
) -> tuple[list[ReadAlert], int, list[TelemetryRejection]]:
    """Return the alerts that are not there yet, the number of those that are, and those whose id is another agent's."""
    fresh: list[ReadAlert] = []
    duplicate = 0
    taken: list[TelemetryRejection] = []
    for index, read in good.items():
        owner = owners.get(read.alert.alert_id)
        if owner is None:
            owners[read.alert.alert_id] = agent_id
            fresh.append(read)
        elif owner == agent_id:
            duplicate += 1
        else:
            taken.append(TelemetryRejection(index, "event_id_taken", "alert_id: another agent's alert has it"))
    return fresh, duplicate, taken
