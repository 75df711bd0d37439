"""Which held windows are in the store's files, and what has changed since."""

from __future__ import annotations

from eguard.baseline.changes import HELD, RELEASED, encode_held, encode_ids
from eguard.baseline.held import HeldWindow, HeldWindows


class HeldJournal:
    """Compares what is held with what was written, so that windows may come, go and expire by whatever way.

    Parameters
    ----------
    held : HeldWindows
        What is held; as it stands now it is in the files.
    """

    def __init__(self, held: HeldWindows) -> None:
        self._held = held
        self._written: dict[str, HeldWindow] = dict(held.items())

    def is_changed(self) -> bool:
        """Return whether anything is to be written."""
        current = self._held.items()
        return len(current) != len(self._written) or any(self._written.get(name) is not kept for name, kept in current)

    def take_changes(self) -> dict[int, bytes]:
        """Return the blocks that bring the files up to date, and count them as written."""
        current = dict(self._held.items())
        released = [name for name, window in self._written.items() if current.get(name) is not window]
        added = [(name, window) for name, window in current.items() if self._written.get(name) is not window]
        self._written = current
        return {RELEASED: encode_ids(released), HELD: encode_held(added)}
