"""The server's parts, put together in one place and taken apart in the opposite order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from eguard.clock import Clock, SystemClock
from eguard.errors import ConfigError
from eguard.fleet.store import FleetStore
from eguard.server.context import ServerContext
from eguard.server.metrics import Metrics
from eguard.server.pki.files import pki_folder
from eguard.server.services.access import Access
from eguard.server.services.alerts import Alerts
from eguard.server.services.audit import Audit
from eguard.server.services.calibrations import Calibrations
from eguard.server.services.canary_watch import CanaryWatch
from eguard.server.services.candidate_files import FOLDER_NAME as CANDIDATES_NAME
from eguard.server.services.candidate_files import CandidateFiles
from eguard.server.services.candidates import Candidates
from eguard.server.services.certificates import Certificates
from eguard.server.services.commands import Commands, pending_counts
from eguard.server.services.delivery import Delivery
from eguard.server.services.endpoints import Endpoints
from eguard.server.services.enrolment import Enrolment
from eguard.server.services.event_search import EventSearch
from eguard.server.services.events import Events
from eguard.server.services.feedback import Feedback
from eguard.server.services.fleet import Fleet
from eguard.server.services.ingest import Ingest
from eguard.server.services.inventory import Inventory
from eguard.server.services.policy_assembly import open_policies
from eguard.server.services.promotions import Promotions
from eguard.server.services.scheduler import Scheduler
from eguard.server.services.served_bundle import ServedBundle
from eguard.server.services.signal_counts import SignalCounts
from eguard.server.services.signals import Signals
from eguard.server.services.whitelist import Whitelist
from eguard.server.sinks import open_sinks
from eguard.server.tasks import TASKS
from eguard.settings import ServerSettings, load_nightly_settings

KEYS_NAME: Final = "keys"
_FOLDER_MODE: Final = 0o700


def prepare_folder(settings: ServerSettings) -> None:
    """Make the server's state folder, closed to other users.

    Raises
    ------
    ConfigError
        It cannot be made or written.
    """
    folder = settings.server_state_path
    try:
        folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        (folder / KEYS_NAME).mkdir(mode=_FOLDER_MODE, exist_ok=True)
    except OSError as error:
        raise _unusable(settings, error.strerror or str(error)) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unusable(settings, "it is not writable")


@contextmanager
def open_context(settings: ServerSettings, clock: Clock | None = None) -> Iterator[ServerContext]:
    """Open everything that routes and tasks need; the database is brought up to date first.

    Raises
    ------
    ConfigError
        The state folder or a key cannot be used.
    FleetStoreError
        The database cannot be used, or a later version made it.
    """
    prepare_folder(settings)
    clock = clock or SystemClock()
    with FleetStore.create(settings.fleet_url, clock) as store:
        yield assemble(settings, store, clock)


def assemble(settings: ServerSettings, store: FleetStore, clock: Clock) -> ServerContext:
    """Return the parts on a database whose tables are there."""
    database, folder = store.database, pki_folder(settings)
    policies = open_policies(database, clock, settings.server_state_path / KEYS_NAME)
    certificates = Certificates(database, clock)
    metrics = Metrics(database, clock)
    scheduler = Scheduler(database, TASKS, clock)
    counts = SignalCounts(database, clock, scheduler.server_id)
    candidates = Candidates(database, clock, CandidateFiles(settings.server_state_path / CANDIDATES_NAME))
    served = ServedBundle(settings.repository, settings.server_state_path / KEYS_NAME, clock)
    promotions = Promotions(database, clock, candidates, served)
    return ServerContext(
        settings=settings,
        clock=clock,
        database=database,
        store=store,
        audit=Audit(database, clock),
        access=Access(database, clock),
        certificates=certificates,
        enrolment=Enrolment(
            database,
            clock,
            authority=folder.authority,
            trust_pem=folder.trust_pem,
            policy_keys=policies.keys.trusted,
            bundle_root=lambda: trusted_root(settings),
        ),
        endpoints=Endpoints(
            database,
            clock,
            revisions_for=policies.policies.revisions_for,
            pending_commands=pending_counts,
            count=counts.add,
            moved=policies.view.changed,
            revoked=certificates.forget,
        ),
        inventory=Inventory(database, clock),
        policies=policies.policies,
        policy_keys=policies.keys,
        policy_board=policies.board,
        rollouts=policies.rollouts,
        events=Events(database, clock),
        event_search=EventSearch(database, clock),
        feedback=Feedback(database, clock),
        whitelist=Whitelist(database, clock),
        commands=Commands(database, clock),
        scheduler=scheduler,
        fleet=Fleet(store, clock, settings),
        ingest=Ingest(store, settings.upload_max_bytes),
        signals=Signals(database, clock, counts.flush),
        metrics=metrics,
        counts=counts,
        alerts=Alerts(database, clock, may_seed=policies.policies.may_seed, flush=counts.flush),
        calibrations=Calibrations(database, clock, served),
        candidates=candidates,
        promotions=promotions,
        canary_watch=CanaryWatch(
            database, clock, candidates, served, promotions, output_root=lambda: load_nightly_settings().output_root
        ),
        delivery=Delivery(database, clock, open_sinks(settings), metrics.count_notification),
    )


def trusted_root(settings: ServerSettings) -> str | None:
    """Return the first root metadata of the served repository: agents follow its successors from there."""
    try:
        return (settings.repository / "metadata" / "1.root.json").read_text(encoding="utf-8")
    except OSError:
        return None


def _unusable(settings: ServerSettings, why: str) -> ConfigError:
    return ConfigError(
        f"the server's state folder {settings.server_state_path} cannot be used: {why}",
        remedy="Run it as the user that owns the folder, or set EGUARD_SERVER_STATE_PATH to another.",
    )
