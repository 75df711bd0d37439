"""Checks of the exchange with the fleet: why a baseline is not uploaded, why a seed is not applied."""

from __future__ import annotations

from typing import Final

from eguard.baseline.facts import BaselineStatus
from eguard.errors import EguardError, FleetStoreError, ServerRefusalError
from eguard.operations.check import Finding, ok, skipped, warning
from eguard.operations.database import count_fleet_rows, url_of
from eguard.operations.enrolment import judge_refusal
from eguard.operations.examination import Examination
from eguard.operations.permission import allowance, refusal
from eguard.wire.fleet import MAX_PAGE_BYTES, FleetPage, decode_fleet_page

_START: Final = "Start the agent, or its service: sudo eguard agent run"
_NO_BASELINE: Final = "Start the agent and let it learn; see the check baseline_store."
_REFUSED_PROFILES: Final = (
    "See `server refused baseline profiles` and `baseline profile is too large to upload` in the agent's log; the "
    "server's cap is EGUARD_UPLOAD_MAX_BYTES there."
)
_WAY: Final = "See the checks server_* and control_plane."


def check_baseline_upload(examination: Examination) -> Finding:
    """Check everything that an upload needs: allowed by all, something new, inside the caps, and an agent at work."""
    if not examination.settings.server:
        return skipped(f"{examination.alone} and uploads nothing")
    return refusal(examination, "upload") or _judge_backlog(examination)


def _judge_backlog(examination: Examination) -> Finding:
    settings, recovered = examination.settings, examination.store.recovered
    if recovered is None:
        return warning("there is no readable baseline to upload from", _NO_BASELINE)
    status = recovered.facts.status.name.lower()
    dirty, bodies, unsendable = _pending(examination)
    if unsendable:
        return warning(
            f"{len(unsendable)} of {dirty} changed keys fit no upload (a key too long, or a row over "
            f"EGUARD_BASELINE_UPLOAD_MAX_BYTES={settings.baseline_upload_max_bytes}), such as {unsendable[0][:80]!r}",
            "Raise EGUARD_BASELINE_UPLOAD_MAX_BYTES (1000000 is what a server takes by default), restart the agent.",
        )
    allowed = allowance(examination, "upload")
    if dirty:
        words = (
            f"{dirty} changed keys wait, in {bodies} uploads of at most {settings.baseline_upload_max_bytes:,} bytes"
        )
        return _judge_waiting(examination, f"{words}; {allowed}; status {status}")
    if not recovered.facts.uploaded_sequence:
        return warning(
            f"nothing was learned yet that could be uploaded (no dirty keys), status {status}; {allowed}",
            "Let the agent watch for a while: the events of a window that stays open are learned after "
            f"EGUARD_SETTLE_SECONDS={settings.settle_seconds:g}, and what it holds only once it has a verdict.",
        )
    return ok(
        f"everything learned is uploaded: no key has changed since (no dirty keys); {allowed}; status {status}"
    )  # fmt: skip


def _judge_waiting(examination: Examination, words: str) -> Finding:
    """Return whether what waits will leave, by what the agent says of its last uploads."""
    status = examination.status
    duty, uploads = status.duty("baseline upload"), status.control.uploads
    causes: list[tuple[str, str]] = []
    if not status.is_running:
        causes.append((status.idle, _START))
    if duty.last_error:
        causes.append((f"the latest upload failed: {duty.last_error}", _WAY))
    if uploads.get("oversized", 0) or uploads.get("set_aside", 0):
        set_aside, oversized = uploads.get("set_aside", 0), uploads.get("oversized", 0)
        refused = f"{set_aside} profiles as they are, {oversized} times one as too large (payload_too_large)"
        causes.append((f"the server refused {refused}", _REFUSED_PROFILES))
    if causes:
        return warning(
            f"{words}. But {'; '.join(cause for cause, _ in causes)}", " ".join(remedy for _, remedy in causes)
        )
    return ok(f"{words}; the agent looks every {examination.settings.baseline_upload_seconds:g} s")


def _pending(examination: Examination) -> tuple[int, int, list[str]]:
    """Return the keys that wait for an upload, the bodies they make, and the keys that fit into none."""
    from eguard.baseline.upload import pack_uploads, to_wire  # noqa: PLC0415 - numpy is not needed for the other checks

    settings, recovered = examination.settings, examination.store.recovered
    assert recovered is not None
    rows = to_wire(recovered.table)
    packed = pack_uploads(settings.agent_id, rows, max_bytes=settings.baseline_upload_max_bytes)
    return len(rows), len(packed.bodies), [row.process_key for row in packed.unsendable]


def check_fleet_seed(examination: Examination) -> Finding:
    """Check everything that a seed needs: allowed by all, a status that takes one, and rows to take."""
    if not examination.settings.server:
        return skipped(f"{examination.alone} and gets no seeds")
    return refusal(examination, "seed") or _judge_rows(examination)


def _judge_rows(examination: Examination) -> Finding:
    try:
        page = _first_page(examination) if examination.may_ask else None
        unasked = "the server was not asked for its rows"
    except ServerRefusalError as error:
        return judge_refusal(error, examination.settings.agent_id)
    except EguardError as error:
        page, unasked = None, f"the server could not be asked for its rows ({error.message})"
    if page is not None and not page.seed_enabled:
        return warning(
            "the server gives this agent no seeds (seed_enabled=false), though the policy that it has here allows them",
            "See the check policy, and what the server sends this agent: eguard policy show --agent "
            f"{examination.settings.agent_id}",
        )
    rows = _rows_in_database(examination) if page is None else len(page.fleet_baselines)
    if rows == 0:
        return warning(
            f"the {'fleet database' if page is None else 'server'} publishes no rows (fleet_baseline is empty)",
            "Enough agents must have uploaded a key (EGUARD_AGGREGATION_MIN_AGENTS on the server, enrolled for "
            "EGUARD_AGGREGATION_MIN_AGENT_AGE_SECONDS), and an aggregation must have run since: eguard fleet aggregate",
        )
    if page is not None:
        return _judge_seeds(examination, f"the server has rows of generation {page.generation}")
    return _judge_seeds(examination, unasked if rows is None else f"the fleet publishes {rows} rows")


def _judge_seeds(examination: Examination, published: str) -> Finding:
    recovered = examination.store.recovered
    if recovered is None:
        return warning("there is no readable baseline to seed", _NO_BASELINE)
    seeds, status = recovered.table.seeds, recovered.facts.status
    words = f"status {status.name.lower()}; {published}; {allowance(examination, 'seed')}"
    if len(seeds):
        return ok(f"{len(seeds)} seeds of generation {seeds.generation} are there; {words}")
    if status is BaselineStatus.ACTIVE:
        return ok(f"the baseline is active, and seeds are taken only while it is learning or stale; {words}")
    wanted = f"seeds are wanted, and none was ever applied; {words}"
    look = examination.status
    if not look.is_running:
        return warning(f"{wanted}. But {look.idle}", _START)
    error = look.duty("fleet seeds").last_error
    if error:
        return warning(f"{wanted}. But the latest look failed: {error}", _WAY)
    return warning(
        wanted,
        f"The agent looks every EGUARD_FLEET_SEED_SECONDS={examination.settings.fleet_seed_seconds:g}: if nothing has "
        "changed after that, see the checks server_* and `applied fleet baseline seed profiles` in its log.",
    )


def _first_page(examination: Examination) -> FleetPage:
    answer = examination.questions.ask("/endpoint/baseline/fleet", {"limit": 1}, max_bytes=MAX_PAGE_BYTES)
    return decode_fleet_page(answer.body)


def _rows_in_database(examination: Examination) -> int | None:
    """Return the rows of the current generation, None where the fleet database is not at hand."""
    url = url_of(examination)
    if not url or not examination.passed("database"):
        return None
    try:
        return count_fleet_rows(url)
    except (ModuleNotFoundError, FleetStoreError):
        return None
