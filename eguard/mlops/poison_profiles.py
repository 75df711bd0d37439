"""Real host profiles, and cohorts of any size resampled from them.

A profile is what one host counted for one process key, over the wire's eight classes. The shipped captures have at
most 19 hosts with enough events on one key, so larger cohorts are resampled: every simulated agent takes after a real
host drawn with replacement, has that host's number of events, and its own behaviour is a Dirichlet draw around the
host's counts (the Bayesian bootstrap), from which its events are drawn. Hosts therefore differ as real hosts do, an
agent with few events is as noisy as the host it takes after, and a class that a host never used stays unused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from eguard.errors import ConfigError
from eguard.events import N_EVENT_CLASSES
from eguard.events.parsers import ParseReport, read_batches
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_baseline
from eguard.wire.process_key import encode_process_key

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]
Progress = Callable[[str, int, int], None]

#: Endpoint telemetry of 23 laboratory hosts, as shipped.
SHIPPED_PROFILES: Final = Path("data/raw/endpoint-events/events.csv.gz")
#: Events that a host needs behind a profile to vote on its key, as in the fleet's aggregation.
MIN_SAMPLES: Final = 30
_SQLITE_HEADER: Final = b"SQLite format 3\x00"


@dataclass(frozen=True, slots=True)
class KeyProfiles:
    """The hosts that may vote on one process key.

    Attributes
    ----------
    process_key : str
        As on the wire.
    hosts : tuple of str
        In order.
    counts : ndarray of int64, shape (n_hosts, 8)
        Events by class; every host has at least the minimum.
    """

    process_key: str
    hosts: tuple[str, ...]
    counts: Counts

    @property
    def shares(self) -> Floats:
        """Return the hosts' distributions, shape (n_hosts, 8)."""
        shares: Floats = self.counts / self.counts.sum(axis=1, keepdims=True)
        return shares


@dataclass(frozen=True, slots=True)
class Cohort:
    """Simulated agents that vote on one process key.

    Attributes
    ----------
    behaviours : ndarray of shape (n_agents, 8)
        The distribution that each agent's events are drawn from.
    sample_counts : ndarray of int64, shape (n_agents,)
        Events behind each vote.
    counts : ndarray of int64, shape (n_agents, 8)
        Those events by class.
    """

    behaviours: Floats
    sample_counts: Counts
    counts: Counts

    @property
    def votes(self) -> Floats:
        """Return what the agents upload, shape (n_agents, 8)."""
        votes: Floats = self.counts / self.sample_counts[:, None]
        return votes


def read_profiles(
    path: Path, *, min_hosts: int, min_samples: int = MIN_SAMPLES, progress: Progress | None = None
) -> list[KeyProfiles]:
    """Return the process keys that enough hosts may vote on, those with the most hosts first.

    Parameters
    ----------
    path : Path
        A fleet store (``fleet.db``): what its agents uploaded. Or a log in any format that the parsers know: its events
        are counted.
    min_hosts : int
        Least hosts of a key.
    min_samples : int
        Least events of a host.
    progress : callable, optional
        Told how many events were counted; their total is not known before the end.

    Raises
    ------
    ConfigError
        The file is not there, or none of its keys has enough hosts.
    ParseError
        The file can be read as neither.
    """
    if not path.is_file():
        raise ConfigError(
            f"there are no host profiles at {path}",
            remedy="Run from the project's folder, or name a fleet store or an event log with --profiles.",
            path=str(path),
        )
    with path.open("rb") as file:
        is_store = file.read(len(_SQLITE_HEADER)) == _SQLITE_HEADER
    by_key = _stored_counts(path) if is_store else _counted_events(path, progress)
    found = [
        KeyProfiles(key, tuple(hosts), np.stack(list(hosts.values())))
        for key, hosts in ((key, _voters(hosts, min_samples)) for key, hosts in sorted(by_key.items()))
        if len(hosts) >= min_hosts
    ]
    if not found:
        raise ConfigError(
            f"no process key in {path} has {min_hosts} hosts with {min_samples} events each",
            remedy="Use telemetry of more hosts or of a longer time.",
            min_hosts=min_hosts,
            min_samples=min_samples,
        )
    return sorted(found, key=lambda profiles: -len(profiles.hosts))


def resample_cohort(profiles: KeyProfiles, n_agents: int, rng: np.random.Generator) -> Cohort:
    """Draw a cohort that differs as the real hosts do; the module's docstring says how.

    References
    ----------
    D. B. Rubin, "The Bayesian bootstrap", Annals of Statistics 9, 1981.

    Examples
    --------
    >>> hosts = KeyProfiles("sh:cron", ("a", "b"), np.array([[90, 10] + [0] * 6, [30, 0, 20] + [0] * 5]))
    >>> cohort = resample_cohort(hosts, 50, np.random.default_rng(0))
    >>> cohort.votes.shape, sorted(set(cohort.sample_counts.tolist())), cohort.counts[:, 3:].sum().item()
    ((50, 8), [50, 100], 0)
    """
    chosen = rng.integers(len(profiles.hosts), size=n_agents)
    # A gamma of shape 0 is 0: classes that the host never used stay out.
    gammas = rng.standard_gamma(profiles.counts[chosen].astype(np.float64))
    behaviours = gammas / gammas.sum(axis=1, keepdims=True)
    sample_counts = profiles.counts[chosen].sum(axis=1)
    return Cohort(behaviours, sample_counts, rng.multinomial(sample_counts, behaviours))


def _voters(hosts: dict[str, Counts], min_samples: int) -> dict[str, Counts]:
    return {host: counts for host, counts in sorted(hosts.items()) if counts.sum() >= min_samples}


def _counted_events(path: Path, progress: Progress | None) -> dict[str, dict[str, Counts]]:
    """Count a log's events by key, host and class, as an agent's profile would."""
    tally: Counter[tuple[str, str, str, int]] = Counter()
    report = ParseReport()
    for batch in read_batches(path, report=report):
        tally.update(zip(batch.comm, batch.parent_comm, batch.host_id, batch.event_class.tolist(), strict=True))
        if progress is not None:
            progress("counting events", report.accepted, report.accepted)
    by_key: dict[str, dict[str, Counts]] = {}
    for (comm, parent, host, event_class), count in tally.items():
        if event_class >= 0:
            hosts = by_key.setdefault(encode_process_key(comm, parent), {})
            hosts.setdefault(host, np.zeros(N_EVENT_CLASSES, np.int64))[event_class] += count
    return by_key


def _stored_counts(path: Path) -> dict[str, dict[str, Counts]]:
    """Return the counts behind the uploads of a fleet store: share times events is a whole number again."""
    row = endpoint_baseline.c
    query = sa.select(row.process_key, row.agent_id, row.distribution_vector, row.sample_count)
    database = Database(f"sqlite:///{path}")
    by_key: dict[str, dict[str, Counts]] = {}
    try:
        with database.read() as connection:
            for key, agent, vector, samples in connection.execute(query):
                shares = np.frombuffer(vector, dtype="<f4").astype(np.float64)
                by_key.setdefault(key, {})[agent] = np.rint(shares * samples).astype(np.int64)
    finally:
        database.dispose()
    return by_key


def choose_key(profiles: Sequence[KeyProfiles], wanted: str | None) -> KeyProfiles:
    """Return the profiles of one key; those with the most hosts by default.

    Raises
    ------
    ConfigError
        No such key among them.
    """
    if wanted is None:
        return profiles[0]
    for candidate in profiles:
        if candidate.process_key == wanted:
            return candidate
    known = ", ".join(candidate.process_key for candidate in profiles[:10])
    raise ConfigError(
        f"no process key {wanted!r} has enough hosts", remedy=f"Choose one of: {known}.", process_key=wanted
    )
