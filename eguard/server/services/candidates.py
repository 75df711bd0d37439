"""The registry of candidates: every model that may go to agents, what speaks for it, and what was decided about it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from eguard.bundle.manifest import MANIFEST_NAME, Manifest
from eguard.clock import Clock
from eguard.errors import EguardError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import audit_log, ml_candidate
from eguard.server.principal import Principal
from eguard.server.services import audit
from eguard.server.services.candidate_files import CandidateFiles, refusal_of
from eguard.server.services.row_view import row_view

ID_CHARACTERS: Final = 16
OBJECT_TYPE: Final = "candidate"
#: Stages in which agents have it beside the stable release.
STAGED: Final = ("shadow", "canary")
_MAX_REASON: Final = 255
_MAX_LISTED: Final = 500

_column = ml_candidate.c


@dataclass(frozen=True, slots=True)
class Build:
    """A bundle that is to be registered: its files by name, where it comes from, and what its evaluation said."""

    files: Mapping[str, bytes]
    source: str
    run_id: str | None = None
    gates: tuple[Mapping[str, Any], ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest's bytes, which are canonical in every bundle that was built."""
        return hashlib.sha256(self.files[MANIFEST_NAME]).hexdigest()


class Candidates:
    """The registry.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        For records.
    files : CandidateFiles
        Where the bytes are kept.
    """

    def __init__(self, database: Database, clock: Clock, files: CandidateFiles) -> None:
        self._database = database
        self._clock = clock
        self.files = files

    def rows(self, limit: int = _MAX_LISTED) -> list[dict[str, Any]]:
        """Return candidates, the newest first."""
        query = sa.select(ml_candidate).order_by(_column.registered_at.desc(), _column.candidate_id)
        with self._database.read() as connection:
            return [candidate_view(row) for row in connection.execute(query.limit(limit)).mappings()]

    def row(self, candidate_id: str) -> dict[str, Any]:
        """Return one candidate with all that was decided about it, the oldest decision first.

        Raises
        ------
        ServerRefusalError
            404 ``unknown_candidate``.
        """
        with self._database.read() as connection:
            found = candidate_view(read_candidate(connection, candidate_id))
            return found | {"history": _history(connection, found["candidate_id"])}

    def register(self, principal: Principal, build: Build) -> dict[str, Any]:
        """Keep a bundle's files and enter it as a candidate; one that is known already stays as it is.

        A bundle that agents would refuse is entered as ``refused``, with why.

        Raises
        ------
        ConfigError
            Its files cannot be kept; nothing was entered.
        """
        refusal = refusal_of(build.files)
        digests = self.files.keep(build.files)
        now = self._clock.now()

        def write(connection: sa.Connection) -> dict[str, Any]:
            known = connection.execute(
                sa.select(ml_candidate).where(_column.digest == build.digest)
            ).mappings().one_or_none()  # fmt: skip
            if known is None:
                values = candidate_values(build, digests, refusal, principal, now)
                connection.execute(sa.insert(ml_candidate).values(values))
                record_candidate(connection, principal, "candidate.register", values, now)
            return candidate_view(read_candidate(connection, build.digest[:ID_CHARACTERS]))

        return self._database.retrying(write)

    def adopt(self, principal: Principal, build: Build) -> None:
        """Enter the release that agents are offered as the stable one, if it is not; the one before it is superseded.

        Raises
        ------
        ConfigError
            Its files cannot be kept; nothing was entered.
        """
        query = sa.select(ml_candidate).where(_column.digest == build.digest)
        with self._database.read() as connection:
            known = connection.execute(query).mappings().one_or_none()
        if known is not None and known["stage"] == "stable":
            return
        refusal = refusal_of(build.files)
        digests = self.files.keep(build.files)
        now = self._clock.now()

        def write(connection: sa.Connection) -> None:
            found = connection.execute(query.with_for_update()).mappings().one_or_none()
            if found is not None and found["stage"] == "stable":
                return
            stable = {"stage": "stable", "percent": 100.0, "stage_since": now, "stage_by": principal.name}
            stable |= {"stable_at": now}
            values = candidate_values(build, digests, refusal, principal, now) | stable
            replaced = supersede(connection, principal, now)
            if found is None:
                connection.execute(sa.insert(ml_candidate).values(values))
            else:
                change_stage(connection, found["candidate_id"], stable)
            record_candidate(connection, principal, "candidate.adopt", {**values, "replaced": replaced}, now)

        self._database.retrying(write)

    def is_known_run(self, run_id: str) -> bool:
        """Return whether a night's result was registered."""
        query = sa.select(_column.candidate_id).where(_column.run_id == run_id).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None


def candidate_values(
    build: Build, digests: Mapping[str, str], refusal: EguardError | None, principal: Principal, now: float
) -> dict[str, Any]:
    """Return the row of a candidate that was not there before."""
    try:
        manifest: Manifest | None = Manifest.from_bytes(build.files[MANIFEST_NAME])
    except EguardError:
        manifest = None
    return {
        "candidate_id": build.digest[:ID_CHARACTERS],
        "digest": build.digest,
        "model_version": "" if manifest is None else manifest.model_version[:128],
        "contract_hash": "" if manifest is None else manifest.feature_contract_sha256[:64],
        "source": build.source,
        "run_id": build.run_id,
        "gates_passed": manifest is not None and manifest.promoted and _are_met(build),
        "gates": [dict(gate) for gate in build.gates],
        "files": dict(digests),
        "registered_at": now,
        "registered_by": principal.name,
        "stage": "registered" if refusal is None else "refused",
        "percent": 0.0,
        "stage_since": now,
        "stage_by": principal.name,
        "reason": "" if refusal is None else refusal.message[:_MAX_REASON],
        "looks": 0,
        "stable_at": None,
        "versions": None,
    }


def _are_met(build: Build) -> bool:
    """Return whether all gates that are named were met; a night has to name some, a release is its signers' word."""
    return all(gate.get("passed") is True for gate in build.gates) and (bool(build.gates) or build.source != "nightly")


def read_candidate(connection: sa.Connection, candidate_id: str) -> sa.RowMapping:
    """Return a candidate's row; the whole digest names it, too.

    Raises
    ------
    ServerRefusalError
        404 ``unknown_candidate``.
    """
    query = sa.select(ml_candidate).where(sa.or_(_column.candidate_id == candidate_id, _column.digest == candidate_id))
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise ServerRefusalError(404, "unknown_candidate", f"there is no candidate {candidate_id[:80]}")
    return row


def staged_candidate(connection: sa.Connection) -> sa.RowMapping | None:
    """Return the candidate that agents have beside the stable release, if there is one."""
    query = sa.select(ml_candidate).where(_column.stage.in_(STAGED)).order_by(_column.stage_since.desc())
    return connection.execute(query.limit(1)).mappings().one_or_none()


def change_stage(connection: sa.Connection, candidate_id: str, values: Mapping[str, Any]) -> None:
    """Put a candidate into another stage; the looks at its alert rate begin anew."""
    connection.execute(
        sa.update(ml_candidate).where(_column.candidate_id == candidate_id).values({"looks": 0, **values})
    )


def supersede(
    connection: sa.Connection, principal: Principal, now: float, *, stage: str = "superseded", reason: str = ""
) -> str | None:
    """Take the stable candidate's place away and return its id."""
    found = connection.execute(sa.select(_column.candidate_id).where(_column.stage == "stable")).scalars().all()
    for candidate_id in found:
        values = {"stage": stage, "percent": 0.0, "stage_since": now, "stage_by": principal.name, "reason": reason}
        change_stage(connection, candidate_id, values)
    return found[0] if found else None


def record_candidate(
    connection: sa.Connection, principal: Principal, action: str, detail: Mapping[str, Any], now: float
) -> None:
    """Put on record what was decided about a candidate; `detail` names it and holds what changed."""
    shown = ("digest", "model_version", "stage", "percent", "run_id", "gates_passed", "reason", "versions")
    extra = ("from_stage", "from_percent", "forced", "withdrawn", "replaced", "checks", "failed")
    audit.record(
        connection,
        principal,
        action=action,
        object_type=OBJECT_TYPE,
        object_id=detail["candidate_id"],
        detail={name: detail[name] for name in (*shown, *extra) if name in detail},
        now=now,
    )


def candidate_view(row: Mapping[str, Any] | sa.RowMapping) -> dict[str, Any]:
    """Return a row as people and programs read it."""
    return row_view(row, ml_candidate)


def _history(connection: sa.Connection, candidate_id: str) -> list[dict[str, Any]]:
    log = audit_log.c
    query = (
        sa.select(log.sequence, log.at, log.principal, log.action, log.detail)
        .where(log.object_type == OBJECT_TYPE, log.object_id == candidate_id)
        .order_by(log.sequence.desc())
        .limit(_MAX_LISTED)
    )
    rows = connection.execute(query).all()
    return [
        {
            "sequence": row.sequence,
            "at_unix": row.at,
            "principal": row.principal,
            "action": row.action,
            "detail": row.detail,
        }
        for row in reversed(rows)
    ]
