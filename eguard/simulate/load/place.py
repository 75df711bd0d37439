"""A server of the load test's own: keys and certificates made on the spot, and a program apart that can be measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from eguard.clock import SystemClock
from eguard.fleet.database import Database
from eguard.fleet.store import FleetStore
from eguard.fleet.tables import endpoint_agent, endpoint_baseline
from eguard.server.assembly import assemble, prepare_folder
from eguard.server.context import ServerContext
from eguard.server.pki.files import pki_folder
from eguard.server.principal import Principal, Role
from eguard.server.services.bulk_certificates import GROUP, BulkCertificates
from eguard.server.services.heartbeats import Beat
from eguard.settings import ServerSettings
from eguard.simulate.load.connection import Target
from eguard.simulate.load.options import LoadOptions, life_name
from eguard.simulate.load.wallet import Wallet, new_keys
from eguard.simulate.programs import Service
from eguard.wire.control import Heartbeat
from eguard.wire.fleet import FleetRow

Progress = Callable[[str, int, int], None]

_CONSOLE: Final = Principal("load-test", Role.ADMIN, credential="console")
_HOST: Final = "127.0.0.1"
#: From one address a machine has some 28,000 ports for connections to one other; several have several times that.
_AGENTS_A_SOURCE: Final = 5000
#: The server's default cap, and what is left for others.
_DEFAULT_CONNECTIONS: Final = 12_000
_SPARE: Final = 100


@dataclass(slots=True)
class Place:
    """A server that answers, and what a load test needs of it.

    Attributes
    ----------
    target : Target
        Of the agents.
    authority : Path
        What the server's certificate is checked against.
    admin_port : int
        0 where the administration listener cannot be used.
    admin_token : str
        For the administration listener.
    process_id : int
        The server's, 0 where it is not this machine's to measure.
    life : int
        Number of everybody's first incarnation.
    settings : ServerSettings or None
        Of a server of the test's own.
    """

    target: Target
    authority: Path
    wallet: Wallet
    admin_port: int = 0
    admin_token: str = ""
    process_id: int = 0
    life: int = 1
    settings: ServerSettings | None = None


@contextmanager
def own_place(
    folder: Path,
    options: LoadOptions,
    seeds: list[FleetRow],
    database_url: str = "",
    progress: Progress | None = None,
) -> Iterator[Place]:
    """Make an authority, certificates for all agents and a generation of seeds; run a server; end it.

    Raises
    ------
    ConfigError
        The folder holds a server already.
    SimulationError
        The server does not start.
    """
    settings = ServerSettings(server_state_path=folder / "server", database_url=database_url)
    prepare_folder(settings)
    pki_folder(settings).create([_HOST], time.time())
    with Wallet(folder / "agents.pem") as wallet:
        with FleetStore.create(settings.fleet_url) as store:
            context = assemble(settings, store, SystemClock())
            issue_all(context, wallet, options, progress)
            if not options.is_polling:
                introduce_all(context, options, progress)
            context.fleet.import_rows(_CONSOLE, seeds, "load-test", "seeds for a load test")
            token = context.access.tokens.create(_CONSOLE, "load-test", Role.ADMIN).secret
        cap = max(_DEFAULT_CONNECTIONS, options.connections + _SPARE)
        service = Service(
            "server",
            ["server", "run"],
            {
                "EGUARD_SERVER_STATE_PATH": str(settings.server_state_path),
                "EGUARD_DATABASE_URL": database_url,
                "EGUARD_AGENT_LISTEN": f"{_HOST}:0",
                "EGUARD_ADMIN_LISTEN": f"{_HOST}:0",
                "EGUARD_MAX_CONNECTIONS": str(cap),
            },
            folder / "server.log",
        )
        try:
            ports = service.wait_for("server is listening")
            yield Place(
                Target(_HOST, int(ports["agent_port"]), sources_for(options.connections)),
                pki_folder(settings).trust_file,
                wallet,
                int(ports["admin_port"]),
                token,
                service.pid,
                settings=settings,
            )
        finally:
            service.stop()


def issue_all(context: ServerContext, wallet: Wallet, options: LoadOptions, progress: Progress | None) -> None:
    """Give every agent a key and a certificate, and one more that looks when uploads are refused."""
    total = options.agents + 1
    bulk = BulkCertificates(context.database, context.clock, pki_folder(context.settings).authority)
    for start in range(0, total, GROUP):
        numbers = range(start, min(start + GROUP, total))
        keys = list(new_keys(len(numbers)))
        names = [options.agent_id(number) for number in numbers]
        named = [(name, key.public_key()) for name, key in zip(names, keys, strict=True)]
        for key, issued in zip(keys, bulk.issue(_CONSOLE, named), strict=True):
            wallet.add(key, issued.pem)
        if progress is not None:
            progress("issuing certificates", len(wallet), total)


def introduce_all(context: ServerContext, options: LoadOptions, progress: Progress | None) -> None:
    """Have the server hear of every agent: those that come every quarter of an hour have been there before."""
    for start in range(0, options.agents, GROUP):
        numbers = range(start, min(start + GROUP, options.agents))
        names = [options.agent_id(number) for number in numbers]
        context.endpoints.heartbeats([Beat(Principal(name, Role.AGENT), _first_heartbeat(name)) for name in names])
        if progress is not None:
            progress("introducing agents", numbers.stop, options.agents)


def _first_heartbeat(agent_id: str) -> Heartbeat:
    return Heartbeat(
        agent_id=agent_id,
        incarnation=life_name(1),
        agent_version="load",
        policy_revision=0,
        baseline_status="active",
        cpu_fraction=0.01,
        rss_bytes=80_000_000,
        events_total=0,
    )


def sources_for(connections: int) -> tuple[str, ...]:
    """Return loopback addresses to connect from, so many that no one runs out of ports.

    Examples
    --------
    >>> sources_for(100), sources_for(12_000)
    ((), ('127.0.0.1', '127.0.0.2', '127.0.0.3'))
    """
    if connections <= _AGENTS_A_SOURCE:
        return ()
    return tuple(f"127.0.0.{number}" for number in range(1, -(-connections // _AGENTS_A_SOURCE) + 1))


def database_counts(settings: ServerSettings) -> dict[str, Any]:
    """Return what the database holds after a run."""
    database = Database(settings.fleet_url)
    try:
        with database.read() as connection:
            agents = connection.execute(sa.select(sa.func.count()).select_from(endpoint_agent)).scalar_one()
            rows = connection.execute(sa.select(sa.func.count()).select_from(endpoint_baseline)).scalar_one()
    finally:
        database.dispose()
    return {"agents": int(agents), "profiles": int(rows)}
