"""What every route reaches: the services, and threads to run them in.

Work of the control plane has threads of its own, so that heartbeats, policies and administration are answered while
uploads queue for theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Final, ParamSpec, TypeVar

import anyio.to_thread
from anyio import CapacityLimiter
from fastapi import Depends
from starlette.requests import Request

from eguard.clock import Clock
from eguard.errors import ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.store import FleetStore
from eguard.server.gathering import Gathering
from eguard.server.principal import Principal
from eguard.server.services.audit import record
from eguard.server.services.seed_pages import EncodedPage, PageWish
from eguard.server.services.sent_policies import Controls
from eguard.settings import ServerSettings

if TYPE_CHECKING:
    from eguard.server.metrics import Metrics
    from eguard.server.services.access import Access
    from eguard.server.services.alerts import Alerts
    from eguard.server.services.audit import Audit
    from eguard.server.services.calibrations import Calibrations
    from eguard.server.services.canary_watch import CanaryWatch
    from eguard.server.services.candidates import Candidates
    from eguard.server.services.certificates import Certificates, CertificateState
    from eguard.server.services.commands import Commands
    from eguard.server.services.delivery import Delivery
    from eguard.server.services.endpoints import Endpoints
    from eguard.server.services.enrolment import Enrolment
    from eguard.server.services.event_search import EventSearch
    from eguard.server.services.events import Events
    from eguard.server.services.feedback import Feedback
    from eguard.server.services.fleet import Fleet
    from eguard.server.services.heartbeats import Beat
    from eguard.server.services.ingest import Ingest
    from eguard.server.services.inventory import Inventory
    from eguard.server.services.policies import Policies
    from eguard.server.services.policy_board import PolicyBoard
    from eguard.server.services.policy_keys import PolicyKeys
    from eguard.server.services.promotions import Promotions
    from eguard.server.services.rollouts import Rollouts
    from eguard.server.services.scheduler import Scheduler
    from eguard.server.services.signal_counts import SignalCounts
    from eguard.server.services.signals import Signals
    from eguard.server.services.whitelist import Whitelist
    from eguard.wire.control import HeartbeatAnswer
    from eguard.wire.policy import SignedPolicy

CONTROL_THREADS: Final = 16
#: What is answered together at most: other writers, other threads and the event loop want their turn.
HEARTBEATS_AT_ONCE: Final = 64
CERTIFICATES_AT_ONCE: Final = 256
POLICIES_AT_ONCE: Final = 32
CONTROLS_AT_ONCE: Final = 256
PAGES_AT_ONCE: Final = 64
BULK_THREADS: Final = 8
#: Bodies that may wait for a thread; the next one is told to come back.
BULK_QUEUE: Final = 512

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


@dataclass(slots=True)
class ServerContext:
    """The server's parts.

    Attributes
    ----------
    settings, clock, database, store
        What the parts are made of.
    heartbeats, certificate_states, signed_policies, controls, seed_pages
        What agents ask for by the thousand, answered many at a time.
    the others
        Services, one a noun, as `eguard.server.assembly` puts them together.
    """

    settings: ServerSettings
    clock: Clock
    database: Database
    store: FleetStore
    audit: Audit
    access: Access
    certificates: Certificates
    enrolment: Enrolment
    endpoints: Endpoints
    inventory: Inventory
    policies: Policies
    policy_keys: PolicyKeys
    policy_board: PolicyBoard
    rollouts: Rollouts
    events: Events
    event_search: EventSearch
    feedback: Feedback
    whitelist: Whitelist
    commands: Commands
    scheduler: Scheduler
    fleet: Fleet
    ingest: Ingest
    signals: Signals
    metrics: Metrics
    delivery: Delivery
    counts: SignalCounts
    alerts: Alerts
    calibrations: Calibrations
    candidates: Candidates
    promotions: Promotions
    canary_watch: CanaryWatch
    heartbeats: Gathering[Beat, HeartbeatAnswer] = field(init=False, repr=False)
    certificate_states: Gathering[str, CertificateState] = field(init=False, repr=False)
    signed_policies: Gathering[str, SignedPolicy] = field(init=False, repr=False)
    controls: Gathering[str, Controls] = field(init=False, repr=False)
    seed_pages: Gathering[PageWish, EncodedPage] = field(init=False, repr=False)
    _control: CapacityLimiter | None = field(default=None, repr=False)
    _bulk: CapacityLimiter | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.heartbeats = Gathering(self.control, self.endpoints.heartbeats, HEARTBEATS_AT_ONCE)
        self.certificate_states = Gathering(self.control, self.certificates.states_of, CERTIFICATES_AT_ONCE)
        self.signed_policies = Gathering(self.control, self.policies.signed_for_all, POLICIES_AT_ONCE)
        self.controls = Gathering(self.control, self.policies.controls_for_all, CONTROLS_AT_ONCE)
        self.seed_pages = Gathering(self.control, self.fleet.pages, PAGES_AT_ONCE)

    async def control(
        self, work: Callable[_Arguments, _Result], *args: _Arguments.args, **named: _Arguments.kwargs
    ) -> _Result:
        """Run something short of the control plane in a thread."""
        if self._control is None:
            self._control = CapacityLimiter(CONTROL_THREADS)
        return await anyio.to_thread.run_sync(partial(work, *args, **named), limiter=self._control)

    async def bulk(
        self, work: Callable[_Arguments, _Result], *args: _Arguments.args, **named: _Arguments.kwargs
    ) -> _Result:
        """Run something of the data plane in a thread.

        Raises
        ------
        ServerRefusalError
            503 ``busy``, with a time to come back: too much waits already.
        """
        if self._bulk is None:
            self._bulk = CapacityLimiter(BULK_THREADS)
        if self._bulk.statistics().tasks_waiting >= BULK_QUEUE:
            raise ServerRefusalError(503, "busy", "the server has too much to take in; come back")
        return await anyio.to_thread.run_sync(partial(work, *args, **named), limiter=self._bulk)

    def note_refused_identity(self, principal: Principal, claimed: str) -> None:
        """Put on record that an agent spoke for another."""
        now = self.clock.now()
        with self.database.write() as connection:
            record(
                connection,
                principal,
                action="identity.refused",
                object_type="agent",
                object_id=claimed,
                detail={"certificate": principal.credential},
                now=now,
            )


def _of_request(request: Request) -> ServerContext:
    context: ServerContext = request.app.state.context
    return context


Ctx = Annotated[ServerContext, Depends(_of_request)]
