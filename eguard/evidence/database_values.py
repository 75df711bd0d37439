"""Values of a database as JSON has them."""

from __future__ import annotations

import json
import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any


def plain(value: Any) -> Any:
    r"""Return a value of a database as JSON has it; JSON in a text column is read.

    Examples
    --------
    >>> plain('{"a": 1}'), plain(b"\x01"), plain("x"), plain(float("nan"))
    ({'a': 1}, '01', 'x', 'nan')
    """
    if isinstance(value, str):
        return _read(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime | date):
        return str(value)
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _read(text: str) -> Any:
    """Return what a text says if it is a JSON object or list, and the text if it is not."""
    if text[:1] not in {"{", "["}:
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
