"""When a task is due: every so often, or by a line of cron in the server's local time.

Local time has nights of 23 and of 25 hours. A daily line fires once in each of them: a time that the clock skips is
taken at the end of the gap, one that it shows twice the first time.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Final, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

from eguard.errors import ConfigError

_EVERY: Final = re.compile(r"every (\d{1,5})([smhd])")
_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LOCALTIME: Final = Path("/etc/localtime")


class Schedule(Protocol):
    """Tells when a task is due next."""

    def next_after(self, now_unix: float) -> float:
        """Return the first time after `now_unix`, in seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Every:
    """Due a fixed time after it last began."""

    seconds: float

    def next_after(self, now_unix: float) -> float:
        """Return `now_unix` and the interval."""
        return now_unix + self.seconds


@dataclass(frozen=True, slots=True)
class Cron:
    """Due at the times that a line of cron names, in a time zone."""

    expression: str
    zone: tzinfo

    def next_after(self, now_unix: float) -> float:
        """Return the next time that the line names."""
        # Begun within an hour that the clock shows twice, the iterator's first answer may lie in that hour's first
        # showing, which is over.
        now = datetime.fromtimestamp(now_unix, self.zone)
        return next(due for moment in CronSim(self.expression, now) if (due := moment.timestamp()) > now_unix)


def parse_schedule(text: str, zone: tzinfo) -> Schedule:
    """Return the schedule that a text describes: ``every 6h`` (s, m, h, d), or five fields of cron.

    Raises
    ------
    ConfigError
        It is neither.

    Examples
    --------
    >>> parse_schedule("every 6h", UTC).next_after(100.0)
    21700.0
    >>> parse_schedule("30 2 * * *", UTC).next_after(0.0) / 3600.0
    2.5
    """
    every = _EVERY.fullmatch(text)
    if every and int(every[1]):
        return Every(int(every[1]) * _SECONDS[every[2]])
    try:
        CronSim(text, datetime(2026, 1, 1, tzinfo=zone))
    except CronSimError as error:
        raise ConfigError(
            f"{text!r} is no schedule: {error}", remedy="Write `every 6h`, or five fields of cron such as `30 2 * * *`."
        ) from error
    return Cron(text, zone)


def local_zone() -> tzinfo:
    """Return the time zone of this machine, with its rules: TZ, else /etc/localtime, else UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ConfigError(
                f"TZ={name} is no time zone of this machine", remedy="Name one such as Europe/Berlin, or unset TZ."
            ) from error
    try:
        with _LOCALTIME.open("rb") as stream:
            return ZoneInfo.from_file(stream, key=_key_of(_LOCALTIME))
    except (OSError, ValueError):
        return UTC


def _key_of(path: Path) -> str:
    _, found, key = str(path.resolve()).rpartition("/zoneinfo/")
    return key if found else str(path)
