"""The watch over candidates: every minute, what agents report, and a halt where it says that a candidate does harm.

It also keeps registry and repository together. Of the stable release the repository is right: whoever holds the release
key may publish one. Of the candidate the registry is right: one that nobody is on record for is taken out. Each change
leaves its audit record in the transaction that makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from eguard.bundle.promotion import Served
from eguard.clock import Clock
from eguard.errors import EguardError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import ml_candidate
from eguard.server.principal import SYSTEM
from eguard.server.services.candidate_checks import HALTING, judge_candidate, looks_due
from eguard.server.services.candidate_files import latest_night
from eguard.server.services.candidates import (
    Build,
    Candidates,
    change_stage,
    read_candidate,
    record_candidate,
    staged_candidate,
)
from eguard.server.services.notifications import notify
from eguard.server.services.promotion_view import measures_of, place_of, stage_name
from eguard.server.services.promotions import Promotions
from eguard.server.services.rollout_checks import CheckState, StageCheck
from eguard.server.services.served_bundle import ServedBundle

_log = structlog.get_logger("eguard.server")
_MAX_REASON = 255


class CanaryWatch:
    """Looks after candidates.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Wall time.
    candidates, served, promotions
        The registry, the repository, and what else changes them.
    output_root : callable
        Returns the folder of nightly runs.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        candidates: Candidates,
        served: ServedBundle,
        promotions: Promotions,
        *,
        output_root: Callable[[], Path],
    ) -> None:
        self._database = database
        self._clock = clock
        self._candidates = candidates
        self._served = served
        self._promotions = promotions
        self._output_root = output_root
        self._trouble = ""

    def look(self) -> dict[str, Any]:
        """Look once, and return what was found and done.

        Raises
        ------
        EguardError
            A candidate should be taken back and cannot be.
        """
        found: dict[str, Any] = {}
        if self._served.is_there:
            served = self._promotions.adopt()
            found |= self._repaired(served) or self._judged(served)
            if served.is_nightly_late:
                found |= self._renewed()
        found |= self._register_night()
        return found or {"skipped": "agents have no candidate beside the stable release"}

    def _judged(self, served: Served) -> dict[str, Any]:
        now = self._clock.now()
        with self._database.read() as connection:
            staged = staged_candidate(connection)
            if staged is None:
                return {}
            measures = measures_of(connection, staged, now)
        assert measures is not None
        due = looks_due(now - staged["stage_since"])
        is_new_look = due > staged["looks"]
        checks = judge_candidate(measures, self._promotions.budget, due)
        # Between two looks at the rate its test says nothing: only what is looked at spends of the false alarms.
        bad = [
            check
            for check in checks
            if check.name in HALTING
            and check.state is CheckState.MISSED
            and (is_new_look or check.name != "alert_rate")
        ]
        if bad:
            self._halt(staged, bad, served)
        elif is_new_look:
            self._count_look(staged, due)
        state = "halted" if bad else stage_name(place_of(staged))
        return {"candidate_id": staged["candidate_id"], "state": state, "checks": [each.to_dict() for each in checks]}

    def _halt(self, staged: sa.RowMapping, bad: list[StageCheck], served: Served) -> None:
        now, candidate_id = self._clock.now(), str(staged["candidate_id"])
        reason = "; ".join(check.detail for check in bad)[:_MAX_REASON]
        values = {"stage": "halted", "percent": 0.0, "stage_since": now, "stage_by": SYSTEM.name, "reason": reason}

        def write(connection: sa.Connection) -> None:
            if not _is_unchanged(connection, staged):
                return
            change_stage(connection, candidate_id, values)
            title = f"candidate {candidate_id} (model {staged['model_version']}) was halted: {reason}"
            detail = {"candidate_id": candidate_id, "percent": staged["percent"], "checks": [c.to_dict() for c in bad]}
            notify(connection, kind="candidate_halted", severity="critical", title=title, detail=detail, now=now)
            told = {"from_stage": staged["stage"], "from_percent": staged["percent"], "failed": detail["checks"]}
            record_candidate(connection, SYSTEM, "candidate.halt", {**staged, **values, **told}, now)
            self._withdraw(connection, candidate_id, served)

        self._database.retrying(write)
        _log.error("halted candidate", candidate_id=candidate_id, percent=staged["percent"], reason=reason)

    def _repaired(self, served: Served) -> dict[str, Any]:
        """Bring registry and repository together about the candidate; return what was done, nothing if they agree."""
        with self._database.read() as connection:
            staged = staged_candidate(connection)
        listing = served.listing
        if staged is None and listing is None:
            return {}
        if staged is not None and listing is None:
            return self._note_unlisted(staged)
        assert listing is not None
        listed = (listing.manifest_sha256, listing.percent)
        if staged is not None and listed == (staged["digest"], float(staged["percent"])):
            return {}
        return self._relist(staged, {"digest": listed[0], "percent": listed[1]}, served)

    def _note_unlisted(self, staged: sa.RowMapping) -> dict[str, Any]:
        now, candidate_id = self._clock.now(), str(staged["candidate_id"])
        reason = "the repository lists it no more: another release was published"
        values = {"stage": "withdrawn", "percent": 0.0, "stage_since": now, "stage_by": SYSTEM.name, "reason": reason}

        def write(connection: sa.Connection) -> None:
            if _is_unchanged(connection, staged):
                change_stage(connection, candidate_id, values)
                record_candidate(connection, SYSTEM, "candidate.withdraw", {**staged, **values}, now)

        self._database.retrying(write)
        _log.warning("candidate is not listed any more", candidate_id=candidate_id)
        return {"candidate_id": candidate_id, "state": "withdrawn"}

    def _relist(self, staged: sa.RowMapping | None, listed: Mapping[str, Any], served: Served) -> dict[str, Any]:
        """Have the repository list what the registry knows of, and put on record what it listed instead."""
        now = self._clock.now()
        files = None if staged is None else self._candidates.files.read(staged["files"])
        candidate_id = str(listed["digest"])[:16] if staged is None else str(staged["candidate_id"])

        def write(connection: sa.Connection) -> None:
            told = {"candidate_id": candidate_id, **listed, "reason": "listed without a decision on record"}
            record_candidate(connection, SYSTEM, "candidate.repair", told, now)
            self._served.publish(served.files, files, 0.0 if staged is None else float(staged["percent"]))

        self._database.retrying(write)
        _log.warning("repaired the candidate's listing", candidate_id=candidate_id, listed=listed["digest"])
        return {"candidate_id": candidate_id, "state": "repaired"}

    def _withdraw(self, connection: sa.Connection, candidate_id: str, served: Served) -> None:
        versions = self._served.publish(served.files, None, 0.0)
        wanted = ml_candidate.c.candidate_id == candidate_id
        connection.execute(sa.update(ml_candidate).where(wanted).values(versions=versions))

    def _renewed(self) -> dict[str, Any]:
        """Sign the models' metadata anew before agents call them expired; what they list stays."""
        served = self._served.read()
        with self._database.read() as connection:
            staged = staged_candidate(connection)
        files = None if staged is None else self._candidates.files.read(staged["files"])
        try:
            self._served.publish(served.files, files, 0.0 if staged is None else float(staged["percent"]))
        except ServerRefusalError as error:
            self._log_once("the models' metadata were not signed anew", error.message)
            return {"not_renewed": error.message}
        _log.info("signed the models' metadata anew")
        return {"renewed": True}

    def _log_once(self, event: str, reason: str) -> None:
        if reason != self._trouble:
            self._trouble = reason
            _log.error(event, reason=reason)

    def _count_look(self, staged: sa.RowMapping, looks: int) -> None:
        def write(connection: sa.Connection) -> None:
            if _is_unchanged(connection, staged):
                wanted = ml_candidate.c.candidate_id == staged["candidate_id"]
                connection.execute(sa.update(ml_candidate).where(wanted).values(looks=looks))

        self._database.retrying(write, is_idempotent=True)

    def _register_night(self) -> dict[str, Any]:
        """Enter what the last successful night left, if it is not known; trouble with it is no reason to watch less."""
        try:
            night = latest_night(self._output_root(), self._candidates.is_known_run)
            if night is None:
                return {}
            build = Build(night.files, "nightly", night.run_id, tuple(night.gates))
            row = self._candidates.register(SYSTEM, build)
        except (EguardError, OSError) as error:
            self._log_once("the night's result cannot be registered", str(error))
            return {"night_refused": str(error)}
        _log.info("registered candidate", candidate_id=row["candidate_id"], stage=row["stage"], run_id=night.run_id)
        return {"registered": row["candidate_id"], "stage": row["stage"]}


def _is_unchanged(connection: sa.Connection, seen: sa.RowMapping) -> bool:
    """Return whether a candidate is where it was when it was judged, and keep its row for this transaction."""
    query = sa.select(ml_candidate).where(ml_candidate.c.candidate_id == seen["candidate_id"]).with_for_update()
    connection.execute(query).all()
    held = read_candidate(connection, str(seen["candidate_id"]))
    return all(held[name] == seen[name] for name in ("stage", "percent", "stage_since"))
