"""A load test from its options to its report."""

from __future__ import annotations

import asyncio
import gc
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from eguard.errors import ConfigError
from eguard.simulate.load.agents import Surroundings
from eguard.simulate.load.bodies import make_bodies
from eguard.simulate.load.connection import ClientTls
from eguard.simulate.load.course import Course, Watch
from eguard.simulate.load.file_limit import raise_file_limit
from eguard.simulate.load.measures import Measures
from eguard.simulate.load.options import LoadOptions
from eguard.simulate.load.place import Place, database_counts, own_place
from eguard.simulate.load.remote import RemoteServer, remote_place

#: Objects made between two collections of the youngest: almost all die at once.
_GC_THRESHOLD: Final = 100_000
_REPORTED: Final = 100

Progress = Callable[[str, int, int], None]


def run_load(
    options: LoadOptions,
    *,
    folder: Path | None = None,
    server: RemoteServer | None = None,
    database_url: str = "",
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> dict[str, Any]:
    """Run a load test and return its report.

    Parameters
    ----------
    options : LoadOptions
    folder : Path, optional
        Where keys, database and the server's log are kept; a temporary one by default.
    server : RemoteServer, optional
        A server that runs already; one of the test's own by default.
    database_url : str
        The server's database, SQLite in the folder by default.
    progress : callable, optional
        Told how far the preparation is.
    watch : callable, optional
        Told every second how the run goes.

    Raises
    ------
    ConfigError
        Too many connections for this system, no profiles, a folder that is in use, or a kill switch for a server that
        is not the test's own.
    SimulationError
        The server does not start, or does not take the policy.
    """
    if server is not None and options.kill_switch:
        raise ConfigError(
            "the kill switch would stop the uploads of the other agents of that server too",
            remedy="Try it on a server of the test's own: leave --server out.",
            parameter="kill_switch",
        )
    raise_file_limit(options.connections)
    bodies = make_bodies(options)
    with ExitStack() as opened:
        root = folder or Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="eguard-load-")))
        root.mkdir(parents=True, exist_ok=True)
        if server is None:
            place = opened.enter_context(own_place(root.resolve(), options, bodies.seeds, database_url, progress))
        else:
            place = opened.enter_context(remote_place(root.resolve(), options, server, progress))
        tls = ClientTls(place.authority, root / "agent-connecting.pem")
        opened.callback(tls.close)
        if options.is_polling:
            _prepare(tls, place, options, progress)
        measures = Measures()
        around = Surroundings(options, place.target, tls, place.wallet, bodies, measures, first_life=place.life)
        gc.collect()
        gc.freeze()  # what is there by now stays
        threshold = gc.get_threshold()
        gc.set_threshold(_GC_THRESHOLD)
        try:
            course = asyncio.run(_run(around, place, watch))
        finally:
            gc.set_threshold(*threshold)
            gc.unfreeze()
        report = {
            "options": {**asdict(options), "recording": str(options.recording)},
            **measures.to_dict(),
            **course.report,
        }
        if place.settings is not None:
            report["database"] = database_counts(place.settings)
    return report


def _prepare(tls: ClientTls, place: Place, options: LoadOptions, progress: Progress | None) -> None:
    """Make the TLS of agents that stay before the load begins."""
    for number in range(options.agents):
        tls.prepare(number, place.wallet[number])
        if progress is not None and (number + 1) % _REPORTED == 0:
            progress("preparing connections", number + 1, options.agents)


async def _run(around: Surroundings, place: Place, watch: Watch | None) -> Course:
    course = Course(around, place, watch)
    await course.run()
    return course
