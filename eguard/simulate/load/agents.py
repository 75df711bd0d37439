"""A simulated agent: it tells the server what a real one tells it, and remembers as little as it can."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Final

from eguard.agent.control.backoff import Backoff
from eguard.simulate.load.answers import Answer
from eguard.simulate.load.bodies import UploadBodies
from eguard.simulate.load.connection import AgentConnection, ClientTls, LoadFailureError, Target
from eguard.simulate.load.measures import Measures
from eguard.simulate.load.options import POLL_SECONDS, LoadOptions, life_name
from eguard.simulate.load.requests import checked, get, get_page, post, read_beat, read_page, read_policy, read_result
from eguard.simulate.load.wallet import Wallet
from eguard.wire.bodies import encode_body
from eguard.wire.control import Heartbeat

REQUEST_SECONDS: Final = 30.0
#: Handshakes under way at once. Real agents have a processor each; here all share one, and a server that has accepted
#: thousands of connections whose clients do not come to speak would give them up for a fault that is not its own.
HANDSHAKES: Final = 512
_GRACE_SECONDS: Final = 15.0
_PAGE_ROWS: Final = 512
_DISABLED: Final = "403_baseline_upload_disabled"
_NO_CONTENT: Final = 204
_VERSION: Final = "load"


@dataclass(slots=True)
class Surroundings:
    """What all agents of a run share."""

    options: LoadOptions
    target: Target
    tls: ClientTls
    wallet: Wallet
    bodies: UploadBodies
    measures: Measures
    turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(HANDSHAKES))
    #: Number of everybody's first incarnation.
    first_life: int = 1
    #: Uploads may be refused from here on: the switch was flipped.
    is_switched_off: bool = False


class SimulatedAgent:
    """One agent.

    Parameters
    ----------
    around : Surroundings
    number : int

    Attributes
    ----------
    revision : int
        Of the policy that it has, -1 before the first.
    away_until : float or None
        When it comes back, on the loop's clock; set by whoever cuts its connection.
    owes_upload : bool
        It uploads as soon as it is connected.
    arrived_at : float or None
        When its first packet went out when it last came.
    served_at : float or None
        When everything was answered that it wanted when it last came.
    """

    __slots__ = (
        "_around",
        "_beat_at",
        "_connection",
        "_doing",
        "_is_counted",
        "_loop",
        "_sequence",
        "_upload_at",
        "_wants_uploads",
        "arrived_at",
        "away_until",
        "incarnation",
        "informed_at",
        "number",
        "owes_upload",
        "revision",
        "served_at",
    )

    def __init__(self, around: Surroundings, number: int) -> None:
        self._around = around
        self._loop = asyncio.get_running_loop()
        self._connection = AgentConnection(around.target, around.tls)
        self._doing = ""
        self._is_counted = False
        self._sequence = 0
        self._wants_uploads = True
        self._beat_at = self._upload_at = 0.0
        self.number = number
        self.incarnation = around.first_life
        self.revision = -1
        self.away_until: float | None = None
        self.owes_upload = True
        self.arrived_at: float | None = None
        self.served_at: float | None = None
        self.informed_at: float | None = None

    @property
    def agent_id(self) -> str:
        """Its name."""
        return self._around.options.agent_id(self.number)

    @property
    def is_connected(self) -> bool:
        """Whether it has a connection, as far as it knows."""
        return self._connection.is_open

    @property
    def is_waiting(self) -> bool:
        """Whether it waits for its policy."""
        return self._doing == "poll" and self._is_counted

    async def live(self) -> None:
        """Connect, report, wait for the policy; come back after failures as real agents do; until cancelled."""
        backoff: Backoff | None = None
        try:
            while True:
                try:
                    await self._stay_away()
                    await self.connect()
                    await self._catch_up()
                    backoff = None
                    await self._stay()
                except LoadFailureError as failure:
                    self.disconnect()
                    if self.away_until is not None:
                        backoff = None  # somebody cut the connection on purpose
                        continue
                    self.note_failure(failure)
                    backoff = backoff or Backoff(random.Random(self.number))  # noqa: S311 - spreads load
                    await asyncio.sleep(backoff.failed())
                    self._around.measures.returns += 1
        finally:
            self.disconnect()

    async def visit(self, due_at: float) -> None:
        """Connect, upload, fetch the seeds, leave."""
        measures = self._around.measures
        measures.note("late", max(0.0, self._loop.time() - due_at))
        try:
            await self.connect()
            await self._exchange()
            measures.note("visit", self._loop.time() - due_at)
        except LoadFailureError as failure:
            self.note_failure(failure)
        finally:
            self.disconnect()

    def cut(self, away_until: float, *, is_abrupt: bool) -> None:
        """Take the agent off the net until then."""
        self.away_until = away_until
        self.served_at = self.arrived_at = None
        self.disconnect(is_abrupt=is_abrupt)

    def forget_state(self) -> None:
        """Lose the state folder: another incarnation, and sequence numbers from the start."""
        self.incarnation += 1
        self._sequence = 0
        self.owes_upload = True

    async def connect(self) -> None:
        """Open the connection, once it is this agent's turn."""
        self._doing = "connect"
        async with self._around.turns:
            began = self._loop.time()
            if self.arrived_at is None:
                self.arrived_at = began
            await self._connection.open(self._around.wallet[self.number], self.number)
        if self.away_until is not None:
            raise LoadFailureError("cut")
        self._is_counted = True
        self._around.measures.connection(+1)
        self._around.measures.note("connect", self._loop.time() - began)

    async def upload(self) -> bool:
        """Upload once; return whether it was taken. It is not sent where the policy does not want it."""
        around = self._around
        if not self._wants_uploads:
            around.measures.uploads_withheld += 1
            return False
        self._sequence += 1
        number = self.number % around.options.agents
        body = around.bodies.upload(number, self.agent_id, self._sequence)
        try:
            result = read_result(await self._ask("upload", post("baseline/batch", body, self._incarnation())))
        except LoadFailureError as failure:
            if failure.kind == _DISABLED and around.is_switched_off:
                around.measures.uploads_refused += 1
                return False
            raise
        profiles = around.measures.profiles
        profiles.sent += around.bodies.keys.shape[1]
        profiles.accepted += result.accepted
        profiles.unchanged += result.unchanged
        profiles.stale += result.stale
        profiles.rejected += len(result.rejected)
        return True

    async def fetch(self) -> int:
        """Fetch the fleet's seeds, page by page; return how many there were."""
        rows = 0
        cursor: str | None = None
        while True:
            seeded, cursor = read_page(await self._ask("fetch", get_page(_PAGE_ROWS, cursor)))
            rows += seeded
            if cursor is None:
                return rows

    async def _exchange(self) -> None:
        await self.upload()
        if self._around.options.fetches:
            await self.fetch()

    async def _catch_up(self) -> None:
        """Do what an agent does that was just connected."""
        await self._beat()
        if self.owes_upload:
            await self._exchange()
            self.owes_upload = False
            self._upload_at = self._loop.time() + self._around.options.interval_seconds
        self.served_at = self._loop.time()

    async def _stay(self) -> None:
        while True:
            now = self._loop.time()
            if now >= self._upload_at:
                await self._exchange()
                self._upload_at = now + self._around.options.interval_seconds
            if now >= self._beat_at:
                await self._beat()
            until = min(self._beat_at, self._upload_at) - self._loop.time()
            await self._poll(min(max(until, 1.0), POLL_SECONDS))

    async def _stay_away(self) -> None:
        until, self.away_until = self.away_until, None
        if until is not None:
            await asyncio.sleep(until - self._loop.time())

    async def _beat(self) -> None:
        beat = Heartbeat(
            agent_id=self.agent_id,
            incarnation=self._incarnation(),
            agent_version=_VERSION,
            policy_revision=max(self.revision, 0),
            baseline_status="active",
            cpu_fraction=0.01,
            rss_bytes=80_000_000,
            events_total=1000 * self._sequence,
        )
        answer = read_beat(await self._ask("heartbeat", post("heartbeat", encode_body(beat))))
        self._beat_at = self._loop.time() + self._around.options.heartbeat_seconds
        if answer.policy_revision > self.revision:
            self._take_policy(await self._ask("policy", get(f"policy?revision={self.revision}")))

    async def _poll(self, wait_seconds: float) -> None:
        """Wait for another policy."""
        self._doing = "poll"
        request = get(f"policy?revision={self.revision}&wait={wait_seconds:.3f}")
        self._around.measures.wait(+1)
        try:
            answer = checked(await self._connection.ask(request, wait_seconds + _GRACE_SECONDS))
        finally:
            self._around.measures.wait(-1)
        self._take_policy(answer)

    def _take_policy(self, answer: Answer) -> None:
        if answer.status != _NO_CONTENT:
            self.revision, self._wants_uploads = read_policy(answer)
            self.informed_at = self._loop.time()

    async def _ask(self, operation: str, request: bytes) -> Answer:
        self._doing = operation
        began = self._loop.time()
        answer = checked(await self._connection.ask(request, REQUEST_SECONDS))
        self._around.measures.note(operation, self._loop.time() - began)
        return answer

    def _incarnation(self) -> str:
        return life_name(self.incarnation)

    def note_failure(self, failure: LoadFailureError) -> None:
        """Count what went wrong, under what the agent was doing."""
        self._around.measures.fail(self._doing, failure.kind)

    def disconnect(self, *, is_abrupt: bool = False) -> None:
        """End the connection if there is one."""
        if self._is_counted:
            self._is_counted = False
            self._around.measures.connection(-1)
        self._connection.close(is_abrupt=is_abrupt)
