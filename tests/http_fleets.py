"""Agents of a test's server, over mutual TLS, with the simulator's own client and the agent's own enrolment."""

import time
from contextlib import contextmanager

from server_place import CONSOLE

from eguard.simulate.http_fleet import HttpFleet, ServerAddress


class FleetOfPlace(HttpFleet):
    """`HttpFleet` of a `ServerPlace`, with tokens made at its console."""

    def __init__(self, place, folder):
        running = place.running
        address = ServerAddress(
            agents=f"https://127.0.0.1:{running.agent_port}",
            administration=f"https://127.0.0.1:{running.admin_port}",
            authority=place.authority_file,
            token=place.token(),
        )
        super().__init__(address, folder / "enrolled")
        self._place = place

    def token(self, max_uses=1, days=7.0):
        """Return the secret of a new enrolment token."""
        return self._place.context.enrolment.tokens.create(CONSOLE, max_uses=max_uses, days=days).secret


@contextmanager
def http_fleet(place, folder):
    """Yield a fleet without agents; its connections are closed at the end."""
    with FleetOfPlace(place, folder) as fleet:
        yield fleet


class ShiftedClock:
    """The machine's clock, some seconds off: days pass when a test says so.

    A certificate is dated by the server's clock and read by the machine's, so a story begins in the past.
    """

    def __init__(self, days_ago):
        self.shift = -86_400.0 * days_ago

    def now(self):
        return time.time() + self.shift

    def monotonic(self):
        return time.monotonic() + self.shift

    def advance(self, seconds):
        self.shift += seconds
