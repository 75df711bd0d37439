"""Checks of the exchange with the fleet: why a baseline is not uploaded, why a seed is not applied."""

from __future__ import annotations

from typing import Final

from eguard.baseline.facts import BaselineStatus
from eguard.errors import FleetStoreError
from eguard.operations.check import Finding, ok, skipped, warning
from eguard.operations.examination import Examination

_PERCENT: Final = "not every agent is chosen: {:g} % are, by a hash of EGUARD_AGENT_ID"


def check_baseline_upload(examination: Examination) -> Finding:
    """Check everything that an upload needs: switched on, in the canary, something new, and inside the caps."""
    settings = examination.settings
    if not settings.server:
        return skipped("EGUARD_SERVER is not set: this agent works alone and uploads nothing")
    switched_off = _switched_off(
        "BASELINE_UPLOAD", is_enabled=settings.baseline_upload_enabled, percent=settings.baseline_upload_canary_percent
    )
    return switched_off or _judge_backlog(examination)


def _switched_off(name: str, *, is_enabled: bool, percent: float) -> Finding | None:
    """Return how the settings stop one direction of the exchange, None if they do not."""
    if not is_enabled:
        return warning(
            f"EGUARD_{name}_ENABLED is off, and no policy lifts that",
            f"Set EGUARD_{name}_ENABLED=true, then restart the agent.",
        )
    if percent <= 0:
        return warning(
            f"EGUARD_{name}_CANARY_PERCENT is 0, and no policy lifts that",
            f"Set EGUARD_{name}_CANARY_PERCENT to a share above 0, then restart the agent.",
        )
    return None


def _judge_backlog(examination: Examination) -> Finding:
    settings = examination.settings
    if examination.store.recovered is None:
        return warning(
            "there is no readable baseline to upload from",
            "Start the agent and let it learn; see the check baseline_store.",
        )
    dirty, bodies, unsendable = _pending(examination)
    facts = examination.store.recovered.facts
    if not dirty and not facts.uploaded_sequence:
        return warning(
            f"nothing was learned yet that could be uploaded (no dirty keys), status {facts.status.name.lower()}",
            "Let the agent watch for a while: the events of a window that stays open are learned after "
            f"EGUARD_SETTLE_SECONDS={settings.settle_seconds:g}, and what it holds only once it has a verdict.",
        )
    if not dirty:
        return ok("everything learned is uploaded: no key has changed since (no dirty keys)")
    if unsendable:
        return warning(
            f"{len(unsendable)} of {dirty} changed keys fit no upload (a key too long, or a row over "
            f"EGUARD_BASELINE_UPLOAD_MAX_BYTES={settings.baseline_upload_max_bytes}), such as {unsendable[0][:80]!r}",
            "Raise EGUARD_BASELINE_UPLOAD_MAX_BYTES (1000000 is what a server takes by default), restart the agent.",
        )
    percent = settings.baseline_upload_canary_percent
    words = f"{dirty} changed keys wait, in {bodies} uploads of at most {settings.baseline_upload_max_bytes:,} bytes"
    return ok(words if percent >= 100 else f"{words}; {_PERCENT.format(percent)}")


def _pending(examination: Examination) -> tuple[int, int, list[str]]:
    """Return the keys that wait for an upload, the bodies they make, and the keys that fit into none."""
    from eguard.baseline.upload import pack_uploads, to_wire  # noqa: PLC0415 - numpy is not needed for the other checks

    settings, recovered = examination.settings, examination.store.recovered
    assert recovered is not None
    rows = to_wire(recovered.table)
    packed = pack_uploads(settings.agent_id, rows, max_bytes=settings.baseline_upload_max_bytes)
    return len(rows), len(packed.bodies), [row.process_key for row in packed.unsendable]


def check_fleet_seed(examination: Examination) -> Finding:
    """Check everything that a seed needs: switched on, in the canary, a status that takes one, and rows to take."""
    settings = examination.settings
    if not settings.server:
        return skipped("EGUARD_SERVER is not set: this agent works alone and gets no seeds")
    switched_off = _switched_off(
        "FLEET_SEED", is_enabled=settings.fleet_seed_enabled, percent=settings.fleet_seed_canary_percent
    )
    return switched_off or _judge_seeds(examination)


def _judge_seeds(examination: Examination) -> Finding:
    published = _published_rows(examination)
    if published == 0:
        return warning(
            "the fleet database publishes no rows (fleet_baseline is empty)",
            "At least three agents must have uploaded a key, and an aggregation must have run since.",
        )
    recovered = examination.store.recovered
    if recovered is None:
        return warning(
            "there is no readable baseline to seed",
            "Start the agent and let it learn; see the check baseline_store.",
        )
    seeds, status = recovered.table.seeds, recovered.facts.status
    there = "" if published is None else f"; the fleet publishes {published} rows"
    if len(seeds):
        return ok(f"{len(seeds)} seeds of generation {seeds.generation} are there, status {status.name.lower()}{there}")
    if status is BaselineStatus.ACTIVE:
        return ok(f"the baseline is active, and seeds are taken only while it is learning or stale{there}")
    percent = examination.settings.fleet_seed_canary_percent
    chosen = "" if percent >= 100 else f"; {_PERCENT.format(percent)}"
    return warning(
        f"status {status.name.lower()}, so seeds are wanted, and none was ever applied{there}{chosen}",
        "See that the server can be reached (checks server_*) and has rows in fleet_baseline: run this check on the "
        "server with EGUARD_DATABASE_URL set, which counts them.",
    )


def _published_rows(examination: Examination) -> int | None:
    """Return the rows of the current generation, None where the fleet database is not at hand."""
    url = examination.server_settings.database_url
    if not url or not examination.passed("database"):
        return None
    try:
        from eguard.operations.database import count_fleet_rows  # noqa: PLC0415 - SQLAlchemy may be missing

        return count_fleet_rows(url)
    except (ModuleNotFoundError, FleetStoreError):
        return None
