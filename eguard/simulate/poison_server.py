"""A server program for a poisoned fleet, with as many sites as enrolment tokens, and the campaign against it."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from eguard.clock import SystemClock
from eguard.fleet.database import Database
from eguard.server.principal import SYSTEM
from eguard.server.services.enrolment_tokens import EnrolmentTokens
from eguard.settings import ServerSettings
from eguard.simulate.http_fleet import HttpFleet, ServerAddress
from eguard.simulate.poison_http import Campaign, HttpPoisonSettings, choose_target
from eguard.simulate.programs import Service, run_command

Progress = Callable[[str, int, int], None]

#: Enrolment tokens that the agents come by, one a site: so many that no token's share is reached.
SITES: Final = 20


def simulate_poison_over_http(settings: HttpPoisonSettings, progress: Progress | None = None) -> dict[str, Any]:
    """Start a server in a temporary folder, enrol the agents, attack, and return what was published.

    Returns
    -------
    dict
        JSON values: the settings, the server, one row an attack and share, and whether each was within its bound.

    Raises
    ------
    ConfigError
        There are no profiles or too few hosts.
    SimulationError
        The server did not start, or did not take an upload.
    """
    started = time.monotonic()
    rng = np.random.default_rng(settings.seed)
    target = choose_target(settings, rng, progress)
    with tempfile.TemporaryDirectory(prefix="eguard-poison-") as place:
        folder = Path(place)
        with _server(folder) as (address, tokens), HttpFleet(address, folder / "agents") as fleet:
            for number in range(settings.agents):
                fleet.enrol(f"agent-{number:04d}", tokens[number % SITES])
                if progress is not None:
                    progress("agents enrol", number + 1, settings.agents)
            campaign = Campaign(fleet, target, rng)
            campaign.upload_honestly(progress)
            rows = [
                row for share in sorted(settings.shares) for row in campaign.attack(share, settings.attacks, progress)
            ]
    return {
        "settings": {**asdict(settings), "profiles": str(settings.profiles)},
        "process_key": target.process_key,
        "real_hosts": target.real_hosts,
        "agents": settings.agents,
        "enrolment_tokens": SITES,
        "server": address.agents,
        "rows": rows,
        "within_bound": all(row["within_bound"] for row in rows),
        "seconds": time.monotonic() - started,
    }


@contextmanager
def _server(folder: Path) -> Iterator[tuple[ServerAddress, list[str]]]:
    """Run `eguard server run` and yield where it listens, and the enrolment tokens of the sites."""
    state = folder / "server"
    environment = {
        "EGUARD_SERVER_STATE_PATH": str(state),
        "EGUARD_AGENT_LISTEN": "127.0.0.1:0",
        "EGUARD_ADMIN_LISTEN": "127.0.0.1:0",
        # Nobody waits a day for a simulation.
        "EGUARD_AGGREGATION_MIN_AGENT_AGE_SECONDS": "0",
    }
    run_command(["server", "pki", "init", "--name", "127.0.0.1"], environment)
    server = Service("the server", ["server", "run"], environment, folder / "server.log")
    try:
        said = server.wait_for("server is listening")
        secret = folder / "operator.token"
        run_command(
            ["server", "token", "access", "create", "operator", "--role", "admin", "--out", str(secret)], environment
        )
        yield (
            ServerAddress(
                agents=f"https://127.0.0.1:{said['agent_port']}",
                administration=f"https://127.0.0.1:{said['admin_port']}",
                authority=state / "pki" / "ca.pem",
                token=secret.read_text(encoding="utf-8").strip(),
            ),
            _enrolment_tokens(state),
        )
    finally:
        server.stop()


def _enrolment_tokens(state: Path) -> list[str]:
    """Do what `eguard server token create` does, once a site; twenty programs one after the other would take long."""
    database = Database(ServerSettings(server_state_path=state, database_url="").fleet_url)
    try:
        tokens = EnrolmentTokens(database, SystemClock())
        return [tokens.create(SYSTEM, max_uses=100_000, note=f"site {site + 1}").secret for site in range(SITES)]
    finally:
        database.dispose()
