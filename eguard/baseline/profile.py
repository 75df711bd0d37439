"""The baseline of one endpoint: what each process key does, as arrays indexed by slot.

Scoring and learning are separate calls. `ProfileTable.slots_for` says where the keys of a batch live and marks them as
seen; layers score against the arrays as they stand; only then does `ProfileTable.observe` learn what was not held
back. What a fleet seed says about a key (`prior`) is kept beside the counts and never added to them: uploads carry an
agent's own events alone, or the fleet would hear its own echo.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from eguard.baseline.held import HeldWindows
from eguard.baseline.moments import MomentColumns, group_starts
from eguard.baseline.priors import PriorTable
from eguard.baseline.slots import ProcessKey, SlotIndex
from eguard.estimators import dirichlet_posterior, seed_concentration
from eguard.events import N_EVENT_CLASSES

#: Most profiles one endpoint keeps.
DEFAULT_CAPACITY: Final = 4096
#: Columns that windows are compared with and learned into; the moments belong to them too.
_LEARNING_COLUMNS: Final = ("counts", "sample_count", "last_learned", "relearn_since", "prior", "prior_generation")
#: What each column holds in a slot that nobody has: shape of a row, and value.
_EMPTY: Final[dict[str, tuple[tuple[int, ...], int | float]]] = {
    "counts": ((N_EVENT_CLASSES,), 0),
    "sample_count": ((), 0),
    "first_seen": ((), np.inf),
    "last_seen": ((), -np.inf),
    "last_learned": ((), np.nan),
    "prior": ((N_EVENT_CLASSES,), 0.0),
    "prior_generation": ((), 0),
    "relearn_since": ((), np.nan),
    "seq": ((), 0),
    "dirty_since": ((), 0),
}
#: Slots with memory at first; few machines ever have as many process keys.
_INITIAL_SLOTS: Final = 512


class ProfileTable:
    """Profiles of at most `capacity` process keys.

    Parameters
    ----------
    capacity : int
        Most keys tracked; the least recently seen one is evicted and counted. At most 65,536.

    Attributes
    ----------
    counts : ndarray of int64, shape (n_slots, 8)
        Own events learned, by class. Arrays have room for `n_slots` slots, which doubles up to the capacity as keys
        come: hold the table, not its arrays.
    sample_count : ndarray of int64, shape (n_slots,)
        Own events learned.
    first_seen, last_seen : ndarray of float64
        Seconds since the epoch, of any sighting; +-inf where a slot is free.
    last_learned : ndarray of float64
        Time of the latest event learned; NaN before the first.
    interarrival, payload : MomentColumns
        Moments of log1p(seconds since the key's previous event) and log1p(payload bytes).
    prior : ndarray of float64, shape (n_slots, 8)
        Mean of the fleet seed; zeros where there is none.
    prior_generation : ndarray of int64
        Fleet generation of the seed; 0 where there is none.
    relearn_since : ndarray of float64
        Since when a key is learning anew after a drift alarm; NaN otherwise.
    seq, dirty_since : ndarray of int64
        Sequence number of the latest change, and of the first change not uploaded yet (0 when clean).
    held : HeldWindows
        Events of alerting windows, kept out of the counts until they are adjudicated.
    seeds : PriorTable
        Seeds of the current fleet generation, those for keys not seen yet included.
    evicted : list of (key, slot)
        Evictions of the latest `slots_for`, for whoever keeps state by slot beside this table.

    Examples
    --------
    >>> table = ProfileTable(capacity=16)
    >>> slots = table.slots_for([("sh", "cron"), ("sh", "cron")], np.array([100.0, 160.0]))
    >>> table.observe(slots, np.array([0, 3]), np.array([100.0, 160.0]), np.array([0, 500]))
    >>> table.counts[slots[0]].tolist()
    [1, 0, 0, 1, 0, 0, 0, 0]
    """

    counts: NDArray[np.int64]
    sample_count: NDArray[np.int64]
    first_seen: NDArray[np.float64]
    last_seen: NDArray[np.float64]
    last_learned: NDArray[np.float64]
    prior: NDArray[np.float64]
    prior_generation: NDArray[np.int64]
    relearn_since: NDArray[np.float64]
    seq: NDArray[np.int64]
    dirty_since: NDArray[np.int64]

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        if capacity > np.iinfo(np.uint16).max + 1:
            raise ValueError(f"capacity must be at most 65536, got {capacity}")
        self.index = SlotIndex(capacity)
        n_slots = min(capacity, _INITIAL_SLOTS)
        for name, (row, empty) in _EMPTY.items():
            setattr(self, name, np.full((n_slots, *row), empty))
        self.interarrival = MomentColumns(n_slots)
        self.payload = MomentColumns(n_slots)
        self.held = HeldWindows()
        self.seeds = PriorTable(max_rows=4 * capacity)
        self.evicted: list[tuple[ProcessKey, int]] = []
        self.sequence = 0
        self.evictions_total = 0
        self.untracked_events_total = 0
        self.clock_steps_total = 0

    def __len__(self) -> int:
        return len(self.index)

    @property
    def capacity(self) -> int:
        """Most keys tracked."""
        return self.index.capacity

    def reserve(self, n_slots: int) -> None:
        """Have room for at least `n_slots` slots; never more than the capacity."""
        size = len(self.seq)
        if n_slots <= size:
            return
        while size < n_slots:
            size *= 2
        size = min(size, self.capacity)
        for name, (row, empty) in _EMPTY.items():
            grown = np.full((size, *row), empty)
            grown[: len(getattr(self, name))] = getattr(self, name)
            setattr(self, name, grown)
        self.interarrival.grow(size)
        self.payload.grow(size)

    def learning_columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by slot that windows are compared with and learned into, by name, at their full length."""
        self.reserve(self.capacity)
        columns: dict[str, NDArray[Any]] = {name: getattr(self, name) for name in _LEARNING_COLUMNS}
        for owner in ("interarrival", "payload"):
            moments: MomentColumns = getattr(self, owner)
            columns |= {f"{owner}.{name}": column for name, column in moments.columns().items()}
        return columns

    def adopt(self, columns: Mapping[str, NDArray[Any]]) -> None:
        """Go on in other arrays, with what they hold, such as copies of `learning_columns` in shared memory."""
        for name in _LEARNING_COLUMNS:
            setattr(self, name, columns[name])
        self.interarrival = MomentColumns.over(columns, "interarrival.")
        self.payload = MomentColumns.over(columns, "payload.")

    def slots_for(self, keys: Collection[ProcessKey], times: NDArray[np.float64]) -> NDArray[np.intp]:
        """Return the slot of each event's key and mark the keys as seen; new keys get a slot and their seed.

        Parameters
        ----------
        keys : collection of (comm, parent comm)
            One a event, in the order of delivery.
        times : ndarray of float64
            Seconds since the epoch.

        Returns
        -------
        ndarray of intp
            Slots; -1 only where one batch holds more distinct keys than the table has slots. They stay valid until
            the next call.
        """
        assignment = self.index.assign(keys)
        slots = assignment.slots
        self.evicted = assignment.evicted
        self.evictions_total += len(assignment.evicted)
        if assignment.evicted:
            self._clear([slot for _, slot in assignment.evicted])
        if assignment.created:
            self.reserve(max(assignment.created) + 1)
        tracked = slots >= 0
        if not tracked.all():
            self.untracked_events_total += int(np.count_nonzero(~tracked))
            np.minimum.at(self.first_seen, slots[tracked], times[tracked])
            np.maximum.at(self.last_seen, slots[tracked], times[tracked])
        else:
            np.minimum.at(self.first_seen, slots, times)
            np.maximum.at(self.last_seen, slots, times)
        for slot in assignment.created:
            self._take_seed(slot)
        return slots

    def observe(
        self,
        slots: NDArray[np.intp],
        classes: NDArray[np.integer],
        times: NDArray[np.float64],
        payload_bytes: NDArray[np.integer],
    ) -> None:
        """Learn a batch of events.

        Parameters
        ----------
        slots : ndarray of intp, shape (n,)
            From `slots_for`; events with a negative slot are skipped.
        classes : ndarray of int, shape (n,)
            Event classes; events with `UNCOUNTED` (-1) are skipped.
        times : ndarray of float64, shape (n,)
            Seconds since the epoch, in the order of delivery.
        payload_bytes : ndarray of int, shape (n,)
            Bytes sent and received; 0 means that the event carries no payload and adds nothing to its moments.

        Notes
        -----
        A key's inter-arrival time is the difference to its previous event as delivered. Where time steps back there is
        none, and `clock_steps_total` counts it. O(n) in array operations, whatever the number of keys.
        """
        counted = np.flatnonzero((slots >= 0) & (classes >= 0))
        if not len(counted):
            return
        # A stable sort of 16-bit integers is a radix sort: grouping costs a few microseconds.
        order = counted[np.argsort(slots[counted].astype(np.uint16), kind="stable")]
        ordered = slots[order]
        starts = group_starts(ordered)
        touched = ordered[starts]
        np.add.at(self.counts.reshape(-1), ordered * N_EVENT_CLASSES + classes[order], 1)
        self.sample_count[touched] += np.diff(starts, append=len(ordered))
        self._learn_gaps(ordered, starts, times[order])
        payload = payload_bytes[order]
        carrying = np.flatnonzero(payload > 0)
        self.payload.add(ordered[carrying], np.log1p(payload[carrying].astype(np.float64)))
        self.mark_changed(touched)

    def _learn_gaps(self, slots: NDArray[np.intp], starts: NDArray[np.intp], times: NDArray[np.float64]) -> None:
        gaps = np.empty(len(times))
        gaps[1:] = np.diff(times)
        gaps[starts] = times[starts] - self.last_learned[slots[starts]]
        ends = np.append(starts[1:], len(slots)) - 1
        self.last_learned[slots[ends]] = times[ends]
        self.clock_steps_total += int(np.count_nonzero(gaps < 0.0))
        valid = np.flatnonzero(gaps >= 0.0)  # neither a first event (NaN) nor a step back
        self.interarrival.add(slots[valid], np.log1p(gaps[valid]))

    def learn_counts(self, slots: NDArray[np.intp], counts: NDArray[np.int64]) -> None:
        """Add whole rows of counts, shape (n, 8): windows that were held back and are released."""
        np.add.at(self.counts, slots, counts)
        np.add.at(self.sample_count, slots, counts.sum(axis=1))
        self.mark_changed(np.unique(slots))

    def adjudicate(self, window_id: str, *, is_benign: bool) -> bool:
        """Learn a held window if its alert was benign, else drop it; return whether events were learned."""
        window = self.held.find(window_id)
        if window is None:
            return False
        slots = self.index.lookup([window.key])
        if not is_benign or slots[0] < 0:  # an evicted key has no profile left to add to
            self.held.discard(window_id)
            return False
        self.held.release(window_id)
        self.learn_counts(slots, window.counts[None, :])
        return True

    def relearn(self, slot: int, now: float) -> NDArray[np.int64]:
        """Start a key anew after a drift alarm and return the counts it had. Its seed stays."""
        archived: NDArray[np.int64] = self.counts[slot].copy()
        self._forget_learned([slot])
        self.relearn_since[slot] = now
        self.mark_changed(np.array([slot], dtype=np.intp))
        return archived

    def seed(self, priors: dict[ProcessKey, NDArray[np.float64]], generation: int) -> int:
        """Put the seeds of one fleet generation in the place of all earlier ones; return how many keys hold one now.

        Keys without a seed in this generation lose the one they had. Counts do not change.
        """
        self.seeds.replace(priors, generation)
        for slot in self.index.used().tolist():
            before = self.prior_generation[slot]
            self._take_seed(slot)
            # A mature profile gives its seed no weight, so the change is not worth an upload.
            changed = self.prior_generation[slot] != before
            if changed and self.sample_count[slot] > 0 and seed_concentration(self.sample_count[slot]) > 0.0:
                self.mark_changed(np.array([slot], dtype=np.intp))
        return int(np.count_nonzero(self.prior_generation))

    def restore_seeds(self) -> None:
        """Give every profile the prior that `seeds` holds for its key, as at the time it was seeded or created."""
        for slot in self.index.used().tolist():
            self._take_seed(slot)

    def posterior(self, slots: NDArray[np.intp]) -> NDArray[np.float64]:
        """Return the posterior mean distribution of each slot, shape (n, 8).

        The seed counts as `seed_concentration(sample_count)` events; without a seed the result is the local frequency,
        and uniform for a key that has neither seed nor events.
        """
        counts = self.counts[slots]
        total = self.sample_count[slots]
        seeded = self.prior_generation[slots] > 0
        uniform = np.full(N_EVENT_CLASSES, 1.0 / N_EVENT_CLASSES)
        means = np.where(seeded[:, None], self.prior[slots], uniform)
        kappa = np.where(seeded, seed_concentration(total), np.where(total > 0, 0.0, 1.0))
        return np.asarray(dirichlet_posterior(means, counts, kappa))

    def dirty_slots(self) -> NDArray[np.intp]:
        """Return the slots changed since their last acknowledged upload, oldest change first."""
        slots = np.flatnonzero(self.dirty_since)
        return slots[np.argsort(self.dirty_since[slots], kind="stable")]

    def acknowledge(self, keys: Sequence[ProcessKey], seqs: Sequence[int]) -> None:
        """Mark uploads as taken by the server; a key that changed since it was sent stays dirty."""
        for slot, seq in zip(self.index.lookup(keys).tolist(), seqs, strict=True):
            if slot >= 0:
                self.dirty_since[slot] = 0 if self.seq[slot] == seq else max(self.dirty_since[slot], seq + 1)

    def hold_back(self, window_id: str, slot: int, counts: NDArray[np.int64], held_at: float) -> None:
        """Keep the events of a window of the key in `slot` apart until it is adjudicated; what waited too long goes."""
        self.held.expire(held_at)
        self.held.hold(window_id, self.index.key_of(slot), counts, held_at)

    def mark_changed(self, slots: NDArray[np.intp]) -> None:
        """Give `slots`, distinct ones that have just learned or changed otherwise, the next sequence number."""
        self.sequence += 1
        self.seq[slots] = self.sequence
        self.dirty_since[slots[self.dirty_since[slots] == 0]] = self.sequence

    def _take_seed(self, slot: int) -> None:
        prior = self.seeds.find(self.index.key_of(slot))
        self.prior[slot] = 0.0 if prior is None else prior
        self.prior_generation[slot] = 0 if prior is None else self.seeds.generation

    def _clear(self, slots: list[int]) -> None:
        self._forget_learned(slots)
        self.first_seen[slots] = np.inf
        self.last_seen[slots] = -np.inf
        self.relearn_since[slots] = np.nan
        self.prior[slots] = 0.0
        self.prior_generation[slots] = 0
        self.seq[slots] = 0
        self.dirty_since[slots] = 0

    def _forget_learned(self, slots: list[int]) -> None:
        self.counts[slots] = 0
        self.sample_count[slots] = 0
        self.last_learned[slots] = np.nan
        self.interarrival.reset(slots)
        self.payload.reset(slots)
