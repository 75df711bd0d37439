"""What a policy says: switches, shares of the fleet, and the mode of the baseline. Read strictly, by name.

The same reader judges what an operator posts and what an agent was sent, so that neither acts on a document that the
other would have refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, Final

from eguard.errors import PolicyError

#: BLAKE2b takes keys of at most so many bytes, and the rollout id is the key.
MAX_ROLLOUT_ID_BYTES: Final = 64
#: Id of the policy of agents that were given no other.
DEFAULT_POLICY_ID: Final = "default"


class BaselineMode(StrEnum):
    """What an agent does once with its baseline when a policy asks for it.

    ``learning`` archives the counts and starts the learning window anew, ``force_active`` ends learning with what is
    there, ``skip_learning`` makes an empty store active on seeds alone.
    """

    LEARNING = "learning"
    FORCE_ACTIVE = "force_active"
    SKIP_LEARNING = "skip_learning"


@dataclass(frozen=True, slots=True)
class PolicyDocument:
    """A policy. A field that is None was not given: the startup setting of the agent stands.

    Parameters
    ----------
    baseline_upload_enabled, fleet_seed_enabled : bool, optional
        Switches of the two directions of the exchange.
    baseline_upload_canary_percent, fleet_seed_canary_percent : float, optional
        Shares of agents that take part, in [0, 100] in steps of 0.01.
    bundle_canary_percent : float, optional
        Share of agents that take the candidate bundle; without it 100.
    rollout_id : str, optional
        Salt of the canary buckets, 1 to 64 bytes; without it the policy's id.
    baseline_mode : BaselineMode, optional
        Applied once, at the revision that asks for it.
    """

    baseline_upload_enabled: bool | None = None
    fleet_seed_enabled: bool | None = None
    baseline_upload_canary_percent: float | None = None
    fleet_seed_canary_percent: float | None = None
    bundle_canary_percent: float | None = None
    rollout_id: str | None = None
    baseline_mode: BaselineMode | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the fields that were given, as plain values.

        Examples
        --------
        >>> parse_policy_document({"fleet_seed_canary_percent": 5}).to_json()
        {'fleet_seed_canary_percent': 5.0}
        """
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: str(value) if isinstance(value, BaselineMode) else value
            for name, value in given.items()
            if value is not None
        }


def parse_policy_document(value: object) -> PolicyDocument:
    """Return the document that `value` holds.

    Parameters
    ----------
    value : object
        What a JSON reader returned: an object whose fields are those of `PolicyDocument`.

    Raises
    ------
    PolicyError
        It is no object, a field is unknown, or a value is not what its field takes. ``errors`` names every such
        field; ``context["reason"]`` is ``invalid_policy``.

    Notes
    -----
    A switch is true or false: neither ``1`` nor ``"true"`` is one. A percentage is a finite number, not text. There is
    no null: a field that is not to be set is left out.

    References
    ----------
    Operations manual, sections 3.2, 6.2 and 12.

    Examples
    --------
    >>> parse_policy_document({"baseline_upload_enabled": False}).baseline_upload_enabled
    False
    >>> parse_policy_document({"fleet_seed_canary_percent": 101, "colour": "red"})
    Traceback (most recent call last):
        ...
    eguard.errors.PolicyError: colour: unknown field; fleet_seed_canary_percent: 101 is not between 0 and 100
    """
    if not isinstance(value, dict):
        raise _invalid([("policy_json", f"expected an object, not {_kind(value)}")])
    faults: list[tuple[str, str]] = []
    read: dict[str, Any] = {}
    for name in sorted(value, key=str):
        reader = _READERS.get(name)
        if reader is None:
            faults.append((str(name)[:80], "unknown field"))
            continue
        try:
            read[name] = reader(value[name])
        except ValueError as error:
            faults.append((name, str(error)))
    if faults:
        raise _invalid(faults)
    return PolicyDocument(**read)


def _invalid(faults: list[tuple[str, str]]) -> PolicyError:
    return PolicyError(
        "; ".join(f"{name}: {detail}" for name, detail in faults),
        errors=faults,
        remedy=f"Correct the named fields; a policy has {', '.join(_READERS)}.",
        reason="invalid_policy",
    )


def _kind(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "text", list: "a list", dict: "an object"}
    return names.get(type(value), "null" if value is None else "something else")


def _unexpected(wanted: str, value: object) -> ValueError:
    return ValueError(f"expected {wanted}, not {_kind(value)}")


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        raise _unexpected("true or false", value)
    return value


def check_percent(value: object) -> float:
    """Return a share in percent, or raise ``ValueError`` with what is wrong with it.

    Examples
    --------
    >>> check_percent(5), check_percent(33.33)
    (5.0, 33.33)
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _unexpected("a number", value)
    if not (isinstance(value, int) or math.isfinite(value)):
        raise ValueError("not a finite number")
    if not 0 <= value <= 100:
        raise ValueError(f"{value:.12g} is not between 0 and 100" if abs(value) < 1e300 else "not between 0 and 100")
    # The nearest double to a number of two decimals is what rounding to two decimals gives, and nothing else is.
    if round(value, 2) != value:
        raise ValueError(f"{value!r} is finer than steps of 0.01")
    return float(value) + 0.0  # -0.0 becomes 0.0


def _rollout_id(value: object) -> str:
    if not isinstance(value, str):
        raise _unexpected("text", value)
    return check_rollout_id(value)


def _mode(value: object) -> BaselineMode:
    if not isinstance(value, str) or value not in set(BaselineMode):
        raise ValueError(f"expected one of {', '.join(BaselineMode)}")
    return BaselineMode(value)


def check_rollout_id(text: str) -> str:
    """Return a rollout id, or raise ``ValueError`` with what is wrong with it.

    Examples
    --------
    >>> check_rollout_id("mlops-rollout")
    'mlops-rollout'
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("not text that UTF-8 can hold") from None
    if not 1 <= size <= MAX_ROLLOUT_ID_BYTES:
        raise ValueError(f"has {size} bytes, not 1 to {MAX_ROLLOUT_ID_BYTES}")
    if not text.isprintable():
        raise ValueError("has characters that cannot be printed")
    return text


_READERS: Final[dict[str, Callable[[object], Any]]] = {
    "baseline_upload_enabled": _switch,
    "fleet_seed_enabled": _switch,
    "baseline_upload_canary_percent": check_percent,
    "fleet_seed_canary_percent": check_percent,
    "bundle_canary_percent": check_percent,
    "rollout_id": _rollout_id,
    "baseline_mode": _mode,
}
