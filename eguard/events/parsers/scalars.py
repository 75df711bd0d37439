"""Numbers, times and names as logs spell them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from eguard.errors import ParseError

#: Fields of a record by name, as text.
Fields = dict[str, str]
_T = TypeVar("_T")
#: First second of the year 10000; a later time is a mistake.
END_OF_TIME_UNIX: Final = 253_402_300_800.0
_LARGEST_INTEGER: Final = 2**63 - 1


class Memo(dict[str, _T], Generic[_T]):
    """Remembers what a function of one string returned; forgets everything when it grows too large.

    Columns of logs repeat themselves. As a mapping it is fast where it counts: ``list(map(memo.__getitem__, column))``.

    Parameters
    ----------
    function : callable
        Computes the value of a string not seen before.
    capacity : int
        Entries that are kept at most.
    """

    def __init__(self, function: Callable[[str], _T], capacity: int = 1 << 18) -> None:
        super().__init__()
        self._function = function
        self._capacity = capacity

    def __missing__(self, text: str) -> _T:
        if len(self) >= self._capacity:
            self.clear()
        value = self[text] = self._function(text)
        return value


def time_from_iso(text: str) -> float:
    """Return seconds since the epoch of an ISO 8601 time. One without an offset is UTC.

    Raises
    ------
    ParseError
        It is not a date and time between 1970 and 9999; ``context["reason"]`` is ``bad_time``.

    Examples
    --------
    >>> time_from_iso("2020-08-01T05:52:11"), time_from_iso("2020-10-19 12:28:44.333Z")
    (1596261131.0, 1603110524.333)
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        seconds = moment.timestamp()
    except (TypeError, ValueError, OverflowError) as error:
        raise _refused("bad_time", text) from error
    if not 0.0 <= seconds < END_OF_TIME_UNIX:
        raise _refused("bad_time", text)
    return seconds


def time_from_seconds(value: Any) -> float:
    """Return a time given in seconds since the epoch, as text or number; raises `ParseError` as `time_from_iso`."""
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refused("bad_time", value) from error
    if not 0.0 <= seconds < END_OF_TIME_UNIX:
        raise _refused("bad_time", value)
    return seconds


def whole_number(value: Any, *, largest: int = _LARGEST_INTEGER) -> int:
    """Return a count, pid or port: decimal or ``0x`` hexadecimal text, or a number; absent (empty, ``-``) is 0.

    Raises
    ------
    ParseError
        It is no whole number from 0 to `largest`; ``context["reason"]`` is ``bad_number``.

    Examples
    --------
    >>> whole_number("0x16fc"), whole_number("5884"), whole_number("-"), whole_number(80)
    (5884, 5884, 0, 80)
    """
    if value is None or value in ("", "-"):
        return 0
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise _refused("bad_number", value)
    try:
        number = int(value, 16) if isinstance(value, str) and value[:2] in {"0x", "0X"} else int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refused("bad_number", value) from error
    if not 0 <= number <= largest:
        raise _refused("bad_number", value)
    return number


def port_number(value: Any) -> int:
    """Return a port, 0 to 65,535; raises `ParseError` as `whole_number`."""
    return whole_number(value, largest=65_535)


def seconds_span(value: Any) -> float:
    """Return a duration in seconds, absent is 0; raises `ParseError` (``bad_number``) if negative or not finite."""
    if value is None or value in ("", "-"):
        return 0.0
    try:
        seconds = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise _refused("bad_number", value) from error
    if not 0.0 <= seconds < math.inf:
        raise _refused("bad_number", value)
    return seconds


def base_name(path: str) -> str:
    r"""Return the last part of a Windows or POSIX path, its case unchanged.

    Examples
    --------
    >>> base_name("C:\\Windows\\System32\\cmd.exe"), base_name("/bin/dash"), base_name("System")
    ('cmd.exe', 'dash', 'System')
    """
    return path[max(path.rfind("\\"), path.rfind("/")) + 1 :]


def known(text: str | None) -> str:
    """Return text, with the marks for "absent" (``-`` and ``?``) as the empty string."""
    return "" if text is None or text in {"-", "?"} else text


def text_of(value: Any) -> str:
    """Return a value of a JSON record as text; lists are joined by commas, what is nested deeper is left out.

    Examples
    --------
    >>> text_of(["a", 1, None, {"b": 2}]), text_of(True), text_of(None), text_of(0.5)
    ('a,1', 'true', '', '0.5')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(text_of(item) for item in value if isinstance(item, str | int | float))
    return str(value) if isinstance(value, int | float) else ""


def text_fields(record: Mapping[str, Any]) -> Fields:
    """Return the values of a record as text; what is null is dropped."""
    return {
        name: value if type(value) is str else text_of(value) for name, value in record.items() if value is not None
    }


def _refused(reason: str, value: Any) -> ParseError:
    return ParseError(f"{reason.replace('_', ' ')}: {text_of(value)[:80]!r}", reason=reason)
