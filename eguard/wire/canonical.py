"""Canonical JSON: one value, one sequence of bytes. What is hashed or signed is written in this form."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def canonical_json(value: Any) -> bytes:
    r"""Return `value` as UTF-8 JSON with sorted keys, no blanks and a final newline.

    Floats are written in their shortest round-trip form, so that equal doubles give equal bytes on every machine.

    Raises
    ------
    ValueError
        `value` holds NaN or an infinity: neither exists in JSON.

    Examples
    --------
    >>> canonical_json({"b": 0.1, "a": [1, None]})
    b'{"a":[1,null],"b":0.1}\n'
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode() + b"\n"


def canonical_sha256(value: Any) -> str:
    """Return the SHA-256 of `value` in canonical form, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
