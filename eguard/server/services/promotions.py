"""Promotions: a candidate's way from the shadow through the canary to every agent, and back in one step.

What agents are offered is changed inside the transaction that records the decision, after its audit record: if the
record cannot be written or the repository refuses, nothing was decided and nothing changed. A transaction that is lost
after the repository changed is made good by the watch (`eguard.server.services.canary_watch`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from eguard.bundle.promotion import Served
from eguard.clock import Clock
from eguard.errors import BundleError, ConfigError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import ml_candidate
from eguard.policy.document import check_percent
from eguard.server.principal import SYSTEM, Principal
from eguard.server.services.candidate_checks import CandidateBudget
from eguard.server.services.candidates import (
    Build,
    Candidates,
    candidate_view,
    change_stage,
    read_candidate,
    record_candidate,
    staged_candidate,
    supersede,
)
from eguard.server.services.promotion_view import (
    NOWHERE,
    SHADOW,
    STABLE,
    CandidateLook,
    look_at_candidate,
    missed,
    next_place,
    place_of,
    stage_name,
)
from eguard.server.services.rollout_checks import DWELL_SECONDS
from eguard.server.services.rollouts import Step
from eguard.server.services.served_bundle import ServedBundle

_column = ml_candidate.c


class Promotions:
    """What becomes of candidates.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Wall time: stages last across restarts of the server.
    candidates : Candidates
        The registry.
    served : ServedBundle
        The repository that agents are served.
    dwell_seconds : float
        Time in a stage before the next one.
    budget : CandidateBudget, optional
        Bounds of the checks.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        candidates: Candidates,
        served: ServedBundle,
        *,
        dwell_seconds: float = DWELL_SECONDS,
        budget: CandidateBudget | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._candidates = candidates
        self._served = served
        self._dwell_seconds = dwell_seconds
        self.budget = budget or CandidateBudget()

    def show(self, candidate_id: str) -> dict[str, Any]:
        """Return a candidate, its history, what agents report of it, and what keeps it from its next stage.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_candidate``.
        """
        with self._database.read() as connection:
            seen = self._look(connection, candidate_id)
        following = next_place(seen.place)
        causes = [] if following is None else self._causes(seen, following)
        return {
            **self._candidates.row(candidate_id),
            **seen.to_dict(),
            "causes": [{"code": code, "detail": detail} for code, detail in causes],
        }

    def promote(self, principal: Principal, candidate_id: str, step: Step) -> dict[str, Any]:
        """Take a candidate to its next stage, or to another share: the shadow (0), 1, 5, 20 percent, all agents.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_candidate``; 409 ``promotion_refused`` with every cause in ``errors`` (dwell, skip, holds, and
            checks that are missed or unknown), which a reason can force; 409 ``candidate_refused``, ``gates_missed``,
            ``another_candidate``, ``already_stable``, ``candidate_damaged``, ``no_room``, ``no_bundles``,
            ``other_release``, ``bundle_expired`` or ``bundle_repository``, which nothing can; 409
            ``candidate_changed``: somebody else was faster.
        """
        with self._database.read() as connection:
            seen = self._look(connection, candidate_id)
        target = _target(seen, step)
        causes = self._causes(seen, target)
        if causes and not step.is_forced:
            raise ServerRefusalError(
                409,
                "promotion_refused",
                f"{seen.row['candidate_id']} stays {stage_name(seen.place)}: {'; '.join(each for _, each in causes)}",
                errors=causes,
                remedy="Wait, mend the cause, or force the step with a reason, which is put on record.",
            )
        if step.is_forced and not step.reason.strip():
            raise ServerRefusalError(
                422, "reason_required", "a forced step needs a reason", errors=[("reason", "is empty")]
            )
        offered, files = self.adopt(), self._files_of(seen.row)
        now = self._clock.now()

        def write(connection: sa.Connection) -> dict[str, Any]:
            _lock_candidates(connection)
            held = read_candidate(connection, candidate_id)
            if any(held[name] != seen.row[name] for name in ("stage", "percent", "stage_since")):
                raise ServerRefusalError(409, "candidate_changed", "the candidate was changed meanwhile; look again")
            _refuse_another(connection, held)
            values = _stage_values(target, principal, step.reason, now)
            if target >= STABLE:
                supersede(connection, principal, now)
            change_stage(connection, held["candidate_id"], values)
            told = {"from_stage": held["stage"], "from_percent": held["percent"], "forced": [list(c) for c in causes]}
            record_candidate(connection, principal, "candidate.promote", {**held, **values, **told}, now)
            stable, staged = (files, None) if target >= STABLE else (offered.files, files)
            return self._publish(connection, held, stable, staged, target)

        changed = self._database.retrying(write)
        return changed | {"from": stage_name(seen.place), "forced": [detail for _, detail in causes]}

    def roll_back(self, principal: Principal, to: str | None, reason: str) -> dict[str, Any]:
        """Take back the candidate that agents have beside the stable release, or go back to an earlier stable release.

        The second happens without such a candidate, or with `to`: the old files are offered under new versions.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_candidate``; 409 ``no_earlier_release``, ``already_stable`` or ``not_released``, and as
            `promote` of the repository.
        """
        offered = self.adopt()
        now = self._clock.now()
        with self._database.read() as connection:
            staged = staged_candidate(connection)
            target = None if staged is not None and to is None else _earlier_release(connection, to)
        files = None if target is None else self._files_of(target)

        def write(connection: sa.Connection) -> dict[str, Any]:
            _lock_candidates(connection)
            present = staged_candidate(connection)
            if _id_of(present) != _id_of(staged):
                raise ServerRefusalError(409, "candidate_changed", "the candidate was changed meanwhile; look again")
            withdrawn = _id_of(present)
            values = {"percent": 0.0, "stage_since": now, "stage_by": principal.name, "reason": reason}
            if withdrawn is not None:
                change_stage(connection, withdrawn, {**values, "stage": "withdrawn"})
            if target is None or files is None:
                assert present is not None
                told = {**present, **values, "stage": "withdrawn", "from_stage": present["stage"]}
                record_candidate(connection, principal, "candidate.rollback", told, now)
                return self._publish(connection, present, offered.files, None, NOWHERE)
            replaced = supersede(connection, principal, now, stage="withdrawn", reason=reason)
            change_stage(connection, target["candidate_id"], _stage_values(STABLE, principal, reason, now))
            told = {**target, "stage": "stable", "reason": reason, "withdrawn": withdrawn, "replaced": replaced}
            record_candidate(connection, principal, "candidate.rollback", told, now)
            return self._publish(connection, target, files, None, STABLE)

        done = self._database.retrying(write)
        return done | {"withdrawn": _id_of(staged)}

    def adopt(self) -> Served:
        """Enter the release that agents are offered, where somebody published it with the release key, and return it.

        Raises
        ------
        ServerRefusalError
            As `ServedBundle.read`; 409 ``no_room``: its files cannot be kept.
        """
        offered = self._served.read()
        try:
            self._candidates.adopt(SYSTEM, Build(offered.files, "published"))
        except ConfigError as error:
            raise ServerRefusalError(409, "no_room", f"{error.message}. {error.remedy}") from error
        return offered

    def _files_of(self, row: sa.RowMapping) -> dict[str, bytes]:
        try:
            return self._candidates.files.read(row["files"])
        except BundleError as error:
            message = f"{error.message}. {error.remedy}" if error.remedy else error.message
            raise ServerRefusalError(409, "candidate_damaged", message) from error

    def _look(self, connection: sa.Connection, candidate_id: str) -> CandidateLook:
        return look_at_candidate(connection, candidate_id, self._clock.now(), self.budget)

    def _causes(self, seen: CandidateLook, target: float) -> list[tuple[str, str]]:
        if target < seen.place:
            return []  # fewer agents have it then
        causes = list(seen.holds)
        if seen.row["stage"] in {"halted", "withdrawn"}:
            causes.append((seen.row["stage"], f"it was {seen.row['stage']}: {seen.row['reason']}"))
        waited = self._clock.now() - seen.row["stage_since"]
        if seen.measures is not None and waited < self._dwell_seconds:
            left = (self._dwell_seconds - waited) / 60.0
            causes.append(("dwell", f"{left:.1f} minutes of {self._dwell_seconds / 60.0:g} in this stage are left"))
        following = next_place(seen.place)
        if target != following:
            causes.append(("skip", f"after {stage_name(seen.place)} comes {stage_name(following)}"))
        return causes + missed(seen.checks)

    def _publish(
        self,
        connection: sa.Connection,
        row: Mapping[str, Any] | sa.RowMapping,
        stable: Mapping[str, bytes],
        staged: Mapping[str, bytes] | None,
        place: float,
    ) -> dict[str, Any]:
        """Change what agents are offered, as the last thing that can fail, and return the candidate as it is then."""
        versions = self._served.publish(stable, staged, max(place, SHADOW))
        wanted = _column.candidate_id == row["candidate_id"]
        connection.execute(sa.update(ml_candidate).where(wanted).values(versions=versions))
        return candidate_view(read_candidate(connection, str(row["candidate_id"])))


def _id_of(row: sa.RowMapping | None) -> str | None:
    return None if row is None else str(row["candidate_id"])


def _target(seen: CandidateLook, step: Step) -> float:
    row, following = seen.row, next_place(seen.place)
    if row["stage"] == "refused":
        raise ServerRefusalError(409, "candidate_refused", f"no agent would take it: {row['reason']}")
    if not row["gates_passed"]:
        raise ServerRefusalError(
            409, "gates_missed", "its model missed a quality gate; no gate is lowered to promote one"
        )
    if following is None:
        raise ServerRefusalError(
            409, "already_stable", "every agent is offered it already; to go back, use the rollback"
        )
    target = following if step.to_percent is None else _share(step.to_percent)
    if target == seen.place:
        raise ServerRefusalError(409, "same_stage", f"it is {stage_name(seen.place)} already")
    return target


def _share(percent: float) -> float:
    try:
        return check_percent(percent)
    except ValueError as error:
        raise ServerRefusalError(
            422, "invalid_percent", f"to_percent: {error}", errors=[("to_percent", str(error))]
        ) from error


def _stage_values(target: float, principal: Principal, reason: str, now: float) -> dict[str, Any]:
    stage = "stable" if target >= STABLE else "canary" if target > SHADOW else "shadow"
    values: dict[str, Any] = {"stage": stage, "percent": target, "stage_since": now}
    values |= {"stage_by": principal.name, "reason": reason[:255]}
    return values | ({"stable_at": now} if stage == "stable" else {})


def _lock_candidates(connection: sa.Connection) -> None:
    """Keep the registry for this transaction alone."""
    connection.execute(sa.select(_column.candidate_id).order_by(_column.candidate_id).with_for_update()).all()


def _refuse_another(connection: sa.Connection, held: sa.RowMapping) -> None:
    other = staged_candidate(connection)
    if other is not None and other["candidate_id"] != held["candidate_id"]:
        raise ServerRefusalError(
            409,
            "another_candidate",
            f"agents have candidate {other['candidate_id']} already ({stage_name(place_of(other))}); promote it, or "
            "take it back: eguard ml rollback",
        )


def _earlier_release(connection: sa.Connection, to: str | None) -> sa.RowMapping:
    if to is not None:
        row = read_candidate(connection, to)
        if row["stage"] == "stable":
            raise ServerRefusalError(409, "already_stable", f"{row['candidate_id']} is what every agent is offered")
        if row["stable_at"] is None:
            raise ServerRefusalError(
                409, "not_released", f"{row['candidate_id']} was never stable; promote it: eguard ml promote"
            )
        return row
    query = sa.select(ml_candidate).where(_column.stage == "superseded").order_by(_column.stable_at.desc())
    earlier = connection.execute(query.limit(1)).mappings().one_or_none()
    if earlier is None:
        raise ServerRefusalError(
            409, "no_earlier_release", "there is no earlier release in the registry, and no candidate beside this one"
        )
    return earlier
