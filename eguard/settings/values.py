"""Types of settings that are written as text: switches, optional paths, lists, and finite numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AllowInfNan, BeforeValidator
from pydantic_settings import NoDecode

_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})


def parse_switch(value: Any) -> bool | None:
    """Return what a switch says; upper and lower case are the same. ValueError for any other word.

    Examples
    --------
    >>> parse_switch("on"), parse_switch("0"), parse_switch(False)
    (True, False, False)
    """
    if value is None or isinstance(value, bool):
        return value
    text = str(value).lower()
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError("a switch is one of 1, true, yes, on, 0, false, no, off")


def _refuse_switch(value: Any) -> Any:
    """Keep ``true`` in a file from counting as the number 1."""
    if isinstance(value, bool):
        raise ValueError("a number is wanted, not a switch")  # noqa: TRY004 - only ValueError reaches the message
    return value


def _split_names(value: Any) -> Any:
    """Take ``a, b`` for a list of two; empty parts are dropped."""
    if isinstance(value, str):
        return tuple(part for part in map(str.strip, value.split(",")) if part)
    return value


def _path_or_none(value: Any) -> Any:
    """Take the empty text for no path: ``EGUARD_TLS_CERT=`` in a unit file means none."""
    return None if value == "" else _checked_path(value)


def _refuse_empty_path(value: Any) -> Any:
    if value == "":
        raise ValueError("a path is wanted; the empty text would mean the current folder")
    return _checked_path(value)


def _checked_path(value: Any) -> Any:
    if "\x00" in str(value):
        raise ValueError("a path holds no zero bytes")
    return value


#: ``1/true/yes/on`` and ``0/false/no/off``; everything else is refused.
Switch = Annotated[bool, BeforeValidator(parse_switch)]
OptionalSwitch = Annotated[bool | None, BeforeValidator(parse_switch)]
#: Numbers; never a switch, never NaN or infinite.
WholeNumber = Annotated[int, BeforeValidator(_refuse_switch)]
Number = Annotated[float, AllowInfNan(allow_inf_nan=False), BeforeValidator(_refuse_switch)]
#: Names separated by commas in the environment, a list in a file.
NameList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_names)]
FolderPath = Annotated[Path, BeforeValidator(_refuse_empty_path)]
OptionalPath = Annotated[Path | None, BeforeValidator(_path_or_none)]
