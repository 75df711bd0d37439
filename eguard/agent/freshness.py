"""How long the metadata that an agent has verified last are good for, without asking the repository."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Timestamp


def is_expired(client_dir: Path, now_unix: float) -> bool:
    """Tell whether the last verified timestamp has expired. One that is missing or unreadable has.

    Parameters
    ----------
    client_dir : Path
        State folder of a `BundleClient`.
    now_unix : float
        Seconds since the epoch.
    """
    try:
        timestamp = Metadata[Timestamp].from_file(str(client_dir / "metadata" / "timestamp.json")).signed
    except (RepositoryError, OSError):
        return True
    return timestamp.expires.replace(tzinfo=UTC).timestamp() <= now_unix
