"""Values of a database as JSON has them."""

from __future__ import annotations

import json
from datetime import date, datetime
from decimal import Decimal
from typing import Any


def plain(value: Any) -> Any:
    r"""Return a value of a database as JSON has it; JSON in a text column is read.

    Examples
    --------
    >>> plain('{"a": 1}'), plain(b"\x01"), plain("x")
    ({'a': 1}, '01', 'x')
    """
    if isinstance(value, str) and value[:1] in {"{", "["}:
        try:
            return json.loads(value)
        except ValueError:
            return value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime | date):
        return value.isoformat(" ") if isinstance(value, datetime) else value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value
