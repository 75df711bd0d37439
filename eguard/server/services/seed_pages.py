"""Pages of seeds as bytes, kept for as long as their generation is current.

Ten thousand agents fetch the same few pages. A generation never changes once it is published, so each of its pages is
read and encoded once; what is asked anew every time is only which generation is current.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final, NamedTuple

from eguard.fleet.store import FleetStore
from eguard.wire.bodies import encode_body
from eguard.wire.fleet import FleetPage

#: Together; the longest used are forgotten first.
MAX_KEPT_BYTES: Final = 4_194_304


class PageWish(NamedTuple):
    """Which page somebody asks for; nobody gets rows while seeds are switched off for it."""

    limit: int
    cursor: str = ""
    is_enabled: bool = True


class EncodedPage(NamedTuple):
    """A page as it goes out, and how many seeds are on it."""

    seeded: int
    body: bytes


class SeedPages:
    """The pages of the current generation.

    Parameters
    ----------
    store : FleetStore
        Where generations are.
    max_kept_bytes : int
        Bytes of pages kept.
    """

    def __init__(self, store: FleetStore, max_kept_bytes: int = MAX_KEPT_BYTES) -> None:
        self._store = store
        self._max_kept_bytes = max_kept_bytes
        self._lock = threading.Lock()
        self._generation = -1
        self._pages: OrderedDict[tuple[int, str], EncodedPage] = OrderedDict()
        self._kept_bytes = 0

    def pages(self, wishes: Sequence[PageWish]) -> list[EncodedPage]:
        """Return rows of the current generation after the key that each wish names, at most as many as it says."""
        current = self._store.current_generation()
        return [self._page(wish.limit, wish.cursor, current) if wish.is_enabled else _empty(current) for wish in wishes]

    def _page(self, limit: int, cursor: str, current: int) -> EncodedPage:
        with self._lock:
            found = self._pages.get((limit, cursor)) if current == self._generation else None
            if found is not None:
                self._pages.move_to_end((limit, cursor))
                return found
        generation, rows = self._store.current_page(limit=limit + 1, cursor=cursor)
        shown = rows[:limit]
        page = FleetPage(
            seeded=len(shown),
            generation=generation,
            seed_enabled=True,
            fleet_baselines=shown,
            next_cursor=shown[-1].process_key if len(rows) > limit else None,
        )
        encoded = EncodedPage(len(shown), encode_body(page))
        self._keep(generation, (limit, cursor), encoded)
        return encoded

    def _keep(self, generation: int, key: tuple[int, str], page: EncodedPage) -> None:
        with self._lock:
            if generation != self._generation:
                self._generation, self._kept_bytes = generation, 0
                self._pages.clear()
            if key in self._pages:
                return
            self._pages[key] = page
            self._kept_bytes += len(page.body)
            while self._kept_bytes > self._max_kept_bytes:
                self._kept_bytes -= len(self._pages.popitem(last=False)[1].body)


def _empty(generation: int) -> EncodedPage:
    page = FleetPage(seeded=0, generation=generation, seed_enabled=False, fleet_baselines=[])
    return EncodedPage(0, encode_body(page))
