"""A bounded memory of recent answers, in two generations.

An exact least-recently-used order costs a relinking at every hit. Two generations give nearly the same for the price of
a dictionary look-up: when the young one is full it becomes the old one, and a hit in the old one moves the entry up.
Nothing used within the last half-capacity of new entries is ever forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class RecentCache(Generic[K, V]):
    """Remember at most `capacity` answers and, over all of them, at most `weight_limit` units of size.

    Parameters
    ----------
    capacity : int
        Entries kept, at least 2.
    weight_limit : int
        Sum of the weights of all entries.
    weigh : callable
        Weight of a key, at least 1; by default every entry weighs 1. An entry heavier than half the limit is not kept.

    Examples
    --------
    >>> cache: RecentCache[str, int] = RecentCache(capacity=4)
    >>> for name in "abc":
    ...     cache.put(name, ord(name))
    >>> cache.get("a"), len(cache)
    (97, 3)
    >>> cache.put("d", 0); cache.put("e", 0)
    >>> cache.get("b") is None, cache.get("a")
    (True, 97)
    """

    __slots__ = ("_half_capacity", "_half_weight", "_old", "_weigh", "_weight", "_young")

    def __init__(self, capacity: int, weight_limit: int = 1 << 25, weigh: Callable[[K], int] = lambda _: 1) -> None:
        self._half_capacity = max(capacity // 2, 1)
        self._half_weight = max(weight_limit // 2, 1)
        self._weigh = weigh
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._weight = 0

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: K) -> V | None:
        """Return the answer kept for `key`, or None."""
        value = self._young.get(key)
        if value is None:
            value = self._old.pop(key, None)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep an answer; None cannot be kept."""
        weight = self._weigh(key)
        if weight > self._half_weight:
            return
        if len(self._young) >= self._half_capacity or self._weight + weight > self._half_weight:
            self._old, self._young, self._weight = self._young, {}, 0
        self._young[key] = value
        self._weight += weight
