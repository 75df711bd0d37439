"""Whether the server can do its work: one check for each thing that it cannot do without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from eguard.errors import EguardError
from eguard.fleet.schema import HEAD_REVISION, stored_revision
from eguard.server.context import ServerContext
from eguard.server.pki.files import pki_folder
from eguard.server.pki.folder import PkiFolder
from eguard.settings import ServerSettings


@dataclass(frozen=True, slots=True)
class Check:
    """A check's outcome; the `remedy` is empty where nothing failed."""

    name: str
    ok: bool
    detail: str = ""
    remedy: str = ""


def check_readiness(context: ServerContext) -> list[Check]:
    """Return the outcome of every check: the database answers, its tables are current, the authority is there.

    Details name no path, no address and no account: whoever reaches the port may read them.
    """
    return list(_outcomes(context))


def _outcomes(context: ServerContext) -> Iterator[Check]:
    found: str | None = None
    try:
        with context.database.read() as connection:
            found = stored_revision(connection)
        yield Check("database", ok=True)
    except EguardError as error:
        context.metrics.count_database_error(str(error.context.get("reason", "unknown")))
        yield Check(
            "database", ok=False, detail="does not answer", remedy="Check that it runs, and EGUARD_DATABASE_URL."
        )
        yield Check("migrations", ok=False, detail="unknown while the database does not answer")
    else:
        is_current = found == HEAD_REVISION
        yield Check(
            "migrations",
            ok=is_current,
            detail="" if is_current else f"the tables are at {found or 'nothing'}, not at {HEAD_REVISION}",
            remedy="" if is_current else "Run `eguard server migrate`.",
        )
    yield _attempt(
        "authority",
        lambda: _folder(context.settings).authority(),
        "Run `eguard server pki init`, or set EGUARD_PKI_PASSPHRASE.",
    )


def _attempt(name: str, look: Callable[[], object], remedy: str) -> Check:
    try:
        look()
    except EguardError:
        return Check(name, ok=False, detail="cannot be used", remedy=remedy)
    return Check(name, ok=True)


@lru_cache(maxsize=4)
def _folder(settings: ServerSettings) -> PkiFolder:
    """Return the authority's folder; it remembers what it opened, for a passphrase takes its time."""
    return pki_folder(settings)
