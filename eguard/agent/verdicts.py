"""Verdicts on alerts, left by an analyst on this machine for the agent that runs on it.

A verdict decides what becomes of the window that was held back for its alert. It lies in a folder, one file each, until
the agent has done what it says; so it may be given while no agent runs, and survives a crash at any moment.
"""

from __future__ import annotations

import enum
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import structlog

from eguard.agent.private_files import make_private_folder, write_private
from eguard.baseline.store import BaselineStore

FOLDER_NAME: Final = "verdicts"
_SUFFIX: Final = ".json"
_log = structlog.get_logger("eguard.agent")


class Verdict(enum.StrEnum):
    """What an analyst makes of an alert."""

    TRUE_POSITIVE = "true_positive"
    FALSE_POSITIVE = "false_positive"
    BENIGN = "benign"


class GivenVerdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verdict on one alert, and the window that was held back for it."""

    alert_id: str
    window_id: str
    verdict: Verdict
    by: str = ""
    given_at_unix: float = 0.0

    @property
    def is_benign(self) -> bool:
        """Whether the window may be learned."""
        return self.verdict is not Verdict.TRUE_POSITIVE


class VerdictBox:
    """The folder of verdicts that wait for the agent.

    Parameters
    ----------
    folder : Path
        Made, for its user alone, when the first verdict is given.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> box = VerdictBox(Path(mkdtemp()) / "verdicts")
    >>> box.give("alert-1", "0.3", Verdict.BENIGN, by="alice")
    >>> [(given.window_id, given.is_benign) for _, given in box.waiting()]
    [('0.3', True)]
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def give(self, alert_id: str, window_id: str, verdict: Verdict, *, by: str = "") -> None:
        """Leave a verdict and return once it is on the disk; a later one on the same alert replaces it."""
        make_private_folder(self._folder)
        given = GivenVerdict(alert_id, window_id, verdict, by, time.time())
        name = hashlib.sha256(alert_id.encode(errors="surrogatepass")).hexdigest()[:32]
        write_private(self._folder / f"{name}{_SUFFIX}", msgspec.json.encode(given))

    def waiting(self) -> Iterator[tuple[Path, GivenVerdict]]:
        """Iterate over the verdicts, oldest first; what is none is put aside and logged."""
        if not self._folder.is_dir():
            return
        found = []
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            try:
                found.append((path, msgspec.json.decode(path.read_bytes(), type=GivenVerdict)))
            except msgspec.DecodeError as error:
                path.replace(path.with_suffix(".unreadable"))
                _log.error("verdict cannot be read", file=path.name, reason=str(error))
        yield from sorted(found, key=lambda pair: pair[1].given_at_unix)

    def apply(self, store: BaselineStore) -> int:
        """Do what the verdicts say and return how many there were.

        A held window is learned or dropped durably before its verdict goes; a verdict that is done twice after a crash
        changes nothing the second time.

        Raises
        ------
        BaselineStoreError
            The store failed. The verdict stays for the next time.
        """
        done = 0
        for path, given in self.waiting():
            was_held = given.window_id in store.table.held
            was_learned = store.adjudicate(given.window_id, is_benign=given.is_benign) if was_held else False
            path.unlink()
            done += 1
            _log.info(
                "applied verdict",
                alert_id=given.alert_id,
                verdict=str(given.verdict),
                by=given.by,
                window="learned" if was_learned else "dropped" if was_held else "not held any more",
            )
        return done
