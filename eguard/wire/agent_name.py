"""An agent's name in its certificate: the one subject alternative name that says who it is.

A name that can be a DNS name is written as one, any other as ``urn:eguard:agent:`` and the name percent-encoded. Every
agent name has exactly one such form, so that two certificates never name one agent in two ways.
"""

from __future__ import annotations

import re
from typing import Final, Literal
from urllib.parse import quote, unquote

URN_PREFIX: Final = "urn:eguard:agent:"

NameKind = Literal["dns", "uri"]

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")


def certificate_name(agent_id: str) -> tuple[NameKind, str]:
    """Return kind and value of the subject alternative name of an agent.

    Examples
    --------
    >>> certificate_name("web-7.example")
    ('dns', 'web-7.example')
    >>> certificate_name("front desk")
    ('uri', 'urn:eguard:agent:front%20desk')
    """
    if _DNS_NAME.fullmatch(agent_id):
        return "dns", agent_id
    return "uri", URN_PREFIX + quote(agent_id, safe="")


def agent_id_of_name(kind: NameKind, value: str) -> str | None:
    """Return the agent that a subject alternative name names; none if it is written in any other form.

    Examples
    --------
    >>> agent_id_of_name("uri", "urn:eguard:agent:front%20desk")
    'front desk'
    >>> agent_id_of_name("uri", "urn:eguard:agent:web-7")  # that one is written as a DNS name
    >>> agent_id_of_name("dns", "*.example")
    """
    agent_id = value if kind == "dns" else unquote(value.removeprefix(URN_PREFIX), errors="replace")
    return agent_id if agent_id and certificate_name(agent_id) == (kind, value) else None
