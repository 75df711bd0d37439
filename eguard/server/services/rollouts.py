"""Rollouts: a policy's way from nobody to everybody, stage by stage, and back in one step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import sqlalchemy as sa

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.alarms import open_alarms
from eguard.fleet.database import Database
from eguard.fleet.tables import rollout
from eguard.policy import PolicyDocument
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.drift import require_no_open_alarm
from eguard.server.services.kill_switch import freeze_rollouts, policies_in_force, switch_off
from eguard.server.services.policy_state import StoredPolicy, load_state
from eguard.server.services.policy_view import PolicyView
from eguard.server.services.policy_writes import (
    Assigned,
    Authorship,
    is_switched_off,
    latest_policy,
    require_policy,
    revise,
    set_stage,
)
from eguard.server.services.revisions import lock_revisions
from eguard.server.services.rollback import Rollback, roll_back
from eguard.server.services.rollout_checks import DWELL_SECONDS, CheckState, StageBudget, next_stage
from eguard.server.services.rollout_status import RolloutView, look_at_rollout, rollout_ids

_Result = TypeVar("_Result")


class Step(NamedTuple):
    """A step that is asked for: to which share in percent, and whether it is forced, for what reason."""

    to_percent: float | None = None
    is_forced: bool = False
    reason: str = ""


class Rollouts:
    """The fleet's rollouts.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Wall time: stages last across restarts of the server.
    view : PolicyView
        Is told of changes.
    dwell_seconds : float
        Time in a stage before the next one.
    budget : StageBudget, optional
        Bounds of the checks.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        view: PolicyView,
        *,
        dwell_seconds: float = DWELL_SECONDS,
        budget: StageBudget | None = None,
    ) -> None:
        self._database = database
        self._clock = clock
        self._view = view
        self._dwell_seconds = dwell_seconds
        self._budget = budget or StageBudget()

    def status(self, policy_id: str | None = None) -> dict[str, Any]:
        """Return how every rollout, or that of one policy, stands.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_policy``.
        """
        with self._database.read() as connection:
            policy_ids = rollout_ids(connection) if policy_id is None else [policy_id]
            seen = [self._look(connection, each) for each in policy_ids]
        return {"rollouts": [self._describe(each) for each in seen], "dwell_seconds": self._dwell_seconds}

    def advance(self, principal: Principal, policy_id: str, step: Step) -> dict[str, Any]:
        """Take a rollout to its next stage: a new revision of its policy with both shares raised.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_policy``; 409 ``rollout_refused`` with every cause in ``errors`` (frozen, dwell, skip, and
            checks that are missed or unknown), which a reason can force; 409 ``rollout_complete``,
            ``rollout_backwards`` or ``switched_off``, which nothing can; 409 ``rollout_changed``: somebody else was
            faster.
        """
        with self._database.read() as connection:
            seen = self._look(connection, policy_id)
        target = self._target(seen, step)
        causes = self._causes(seen, target)
        if causes and not step.is_forced:
            raise ServerRefusalError(
                409,
                "rollout_refused",
                f"{policy_id} stays at {seen.stage_percent:g} %: {'; '.join(detail for _, detail in causes)}",
                errors=causes,
                remedy="Wait, mend the cause, or force the step with a reason, which is put on record.",
            )
        if step.is_forced and not step.reason.strip():
            raise ServerRefusalError(
                422, "reason_required", "a forced step needs a reason", errors=[("reason", "is empty")]
            )
        authorship = Authorship(principal, step.reason, self._clock.now())
        return self._changing(lambda connection: self._advance(connection, seen, target, causes, authorship))

    def freeze(self, principal: Principal, reason: str, policy_id: str | None = None) -> dict[str, Any]:
        """Hold every rollout, or that of one policy, where it is; what is frozen already stays as it was."""
        authorship = Authorship(principal, reason, self._clock.now())

        def write(connection: sa.Connection) -> dict[str, Any]:
            frozen = freeze_rollouts(connection, authorship, where=_of_policy(policy_id))
            if frozen:
                _record(connection, authorship, "rollout.freeze", policy_id, {"rollouts": frozen})
            return {"frozen": frozen}

        return self._changing(write)

    def resume(self, principal: Principal, reason: str, policy_id: str | None = None) -> dict[str, Any]:
        """Let frozen rollouts go on; the time in the stage and the checks still count.

        Raises
        ------
        ServerRefusalError
            409 ``drift_alarm_open``: the fleet's baseline moved, and nobody has said yet why.
        """
        authorship = Authorship(principal, reason, self._clock.now())

        def write(connection: sa.Connection) -> dict[str, Any]:
            require_no_open_alarm(connection)
            column = rollout.c
            wanted = sa.and_(column.frozen_at.is_not(None), _of_policy(policy_id))
            resumed = sorted(row[0] for row in connection.execute(sa.select(column.rollout_id).where(wanted)))
            if resumed:
                connection.execute(
                    sa.update(rollout).where(wanted).values(frozen_at=None, frozen_by=None, frozen_reason=None)
                )
                _record(connection, authorship, "rollout.resume", policy_id, {"rollouts": resumed})
            return {"resumed": resumed}

        return self._changing(write)

    def kill(self, principal: Principal, reason: str, policy_id: str | None = None) -> dict[str, Any]:
        """Switch a policy off, or every policy that agents may be sent, and freeze the rollouts.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_policy``.
        """
        authorship = Authorship(principal, reason, self._clock.now())

        def write(connection: sa.Connection) -> dict[str, Any]:
            lock_revisions(connection)
            if policy_id is not None:
                require_policy(connection, policy_id)
            state = load_state(connection)
            killed = policies_in_force(state) if policy_id is None else {policy_id}
            revisions = switch_off(connection, state, killed, authorship)
            why = authorship._replace(reason=f"kill switch: {reason}")
            frozen = freeze_rollouts(connection, why, where=_of_policy(policy_id))
            answered = {"revisions": [_named(stored) for stored in revisions], "frozen": frozen}
            if revisions or frozen:
                _record(connection, authorship, "policy.kill", policy_id, answered)
            return answered

        return self._changing(write)

    def roll_back(self, principal: Principal, policy_id: str, to: Assigned, reason: str) -> dict[str, Any]:
        """Walk the rollback of the manual in its order, in one transaction, and answer with every step.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_policy``: the policy, or the one to go back to.
        """
        authorship = Authorship(principal, reason, self._clock.now())

        def write(connection: sa.Connection) -> Rollback:
            done = roll_back(connection, policy_id, to, authorship)
            _record(connection, authorship, "policy.rollback", policy_id, done.detail)
            return done

        return {"policy_id": policy_id, "steps": self._changing(write).steps}

    def _look(self, connection: sa.Connection, policy_id: str) -> RolloutView:
        return look_at_rollout(connection, policy_id, self._clock.now(), self._budget)

    def _target(self, seen: RolloutView, step: Step) -> float:
        policy_id, here = seen.policy.policy_id, seen.stage_percent
        following = next_stage(here)
        if following is None:
            raise ServerRefusalError(409, "rollout_complete", f"{policy_id} is at 100 % already")
        if step.to_percent is not None and step.to_percent <= here:
            raise ServerRefusalError(
                409,
                "rollout_backwards",
                f"{policy_id} is at {here:g} %, and a step only goes forward",
                remedy="Use the rollback.",
            )
        if here > 0 and is_switched_off(seen.policy.document):
            raise ServerRefusalError(
                409,
                "switched_off",
                f"{policy_id} is switched off",
                remedy="Roll it back to its first stage, and begin from there.",
            )
        return following if step.to_percent is None else step.to_percent

    def _causes(self, seen: RolloutView, target: float) -> list[tuple[str, str]]:
        causes: list[tuple[str, str]] = []
        if seen.frozen_reason is not None:
            causes.append(("frozen", f"the rollout is frozen: {seen.frozen_reason}"))
        if seen.drift_alarms:
            causes.append(("drift_alarm", f"{seen.drift_alarms} alarms of drift are not resolved"))
        waited = self._clock.now() - seen.stage_since
        if waited < self._dwell_seconds:
            left = (self._dwell_seconds - waited) / 60.0
            causes.append(("dwell", f"{left:.1f} minutes of {self._dwell_seconds / 60.0:g} in this stage are left"))
        following = next_stage(seen.stage_percent)
        if target != following:
            causes.append(("skip", f"after {seen.stage_percent:g} % comes {following:g} %, not {target:g} %"))
        causes += [
            (check.name, f"{check.name} is {check.state}: {check.detail}")
            for check in seen.checks
            if check.state is not CheckState.OK
        ]
        return causes

    def _advance(
        self,
        connection: sa.Connection,
        seen: RolloutView,
        target: float,
        causes: list[tuple[str, str]],
        authorship: Authorship,
    ) -> dict[str, Any]:
        lock_revisions(connection)
        policy_id = seen.policy.policy_id
        held = require_policy(connection, policy_id)
        row = connection.execute(sa.select(rollout).where(rollout.c.rollout_id == held.rollout_id)).one_or_none()
        was_frozen = row is not None and row.frozen_at is not None and seen.frozen_reason is None
        has_alarm = not seen.drift_alarms and bool(open_alarms(connection))
        if held.revision != seen.policy.revision or was_frozen or has_alarm:
            raise ServerRefusalError(409, "rollout_changed", f"{policy_id} was changed meanwhile; look again")
        document = replace(
            _switched_on(connection, held), baseline_upload_canary_percent=target, fleet_seed_canary_percent=target
        )
        stored = revise(connection, held, document, authorship)
        set_stage(connection, stored, target, authorship.now)
        forced = [list(cause) for cause in causes]
        said = {"from_percent": seen.stage_percent, "to_percent": target, "revision": stored.revision}
        _record(connection, authorship, "policy.advance", policy_id, {**said, "forced": forced})
        cohort = seen.population.cohort(target)
        return {
            "policy_id": policy_id,
            "policy_version": stored.policy_version,
            "rollout_id": stored.rollout_id,
            "revision": stored.revision,
            "from_percent": seen.stage_percent,
            "stage_percent": target,
            "agents": len(seen.population),
            "cohort_size": len(cohort),
            "checks": [check.to_dict() for check in seen.checks],
            "forced": [detail for _, detail in causes],
        }

    def _describe(self, seen: RolloutView) -> dict[str, Any]:
        following = next_stage(seen.stage_percent)
        causes = [] if following is None else self._causes(seen, following)
        return seen.to_dict() | {
            "next_percent": following,
            "next_cohort_size": None if following is None else seen.population.size(following),
            "seconds_in_stage": max(0.0, self._clock.now() - seen.stage_since),
            "may_advance": following is not None and not causes and (seen.stage_percent == 0 or not seen.is_off),
            "causes": [{"code": code, "detail": detail} for code, detail in causes],
        }

    def _changing(self, write: Callable[[sa.Connection], _Result]) -> _Result:
        result = self._database.retrying(write)
        self._view.changed()
        return result


def _switched_on(connection: sa.Connection, held: StoredPolicy) -> PolicyDocument:
    """Return the document with the switches it had before it was switched off."""
    if not is_switched_off(held.document):
        return held.document
    before = latest_policy(connection, held.policy_id, held.policy_version, enabled=True)
    switches = before.document if before is not None else PolicyDocument(None, None)
    return replace(
        held.document,
        baseline_upload_enabled=switches.baseline_upload_enabled is not False,
        fleet_seed_enabled=switches.fleet_seed_enabled is not False,
    )


def _of_policy(policy_id: str | None) -> sa.ColumnElement[bool]:
    return sa.true() if policy_id is None else rollout.c.policy_id == policy_id


def _named(stored: StoredPolicy) -> dict[str, Any]:
    return {"policy_id": stored.policy_id, "policy_version": stored.policy_version, "revision": stored.revision}


def _record(
    connection: sa.Connection, authorship: Authorship, action: str, policy_id: str | None, detail: dict[str, Any]
) -> None:
    audit.record(
        connection,
        authorship.principal,
        action=action,
        object_type="policy",
        object_id=policy_id or "*",
        detail={**detail, "reason": authorship.reason},
        now=authorship.now,
    )
