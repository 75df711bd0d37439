"""A policy on its way to an agent: signed text, read only after the signature held.

The signature covers the text of `payload` byte for byte, so nothing depends on how two JSON writers order or round.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from eguard.wire.baseline import Count, WireName
from eguard.wire.control import PolicyKey

WhitelistKind = Literal["process_key", "hash", "domain", "ip", "rule"]


class WhitelistEntry(Struct, frozen=True, kw_only=True):
    """What is not to be alerted on, as far as it concerns the agent that it is sent to."""

    entry_id: str
    kind: WhitelistKind
    value: str
    expires_at_unix: float | None = None


class PolicyPayload(Struct, frozen=True, kw_only=True):
    """What is signed.

    Attributes
    ----------
    revision : int
        Rises with everything that changes what this agent is told: policies, assignments, groups, whitelist. An agent
        refuses a lower one.
    mode_revision : int
        Revision at which `baseline_mode` was asked for; applied once.
    agent_id, group : str
        Whom it is for.
    policy : dict
        The policy document, as `eguard.policy.document` reads it.
    policy_keys : tuple of PolicyKey
        Keys that the agent trusts from now on; a new key is announced by the old one.
    """

    revision: Count
    mode_revision: Count
    policy_id: str
    policy_version: str
    rollout_id: str
    agent_id: WireName
    group: str
    policy: dict[str, Any]
    whitelist: list[WhitelistEntry] = []
    policy_keys: tuple[PolicyKey, ...] = ()


class SignedPolicy(Struct, frozen=True, kw_only=True):
    """`payload` is the JSON text of a `PolicyPayload`; `signature` is Ed25519 over its UTF-8, in hexadecimal."""

    payload: Annotated[str, Meta(max_length=1_000_000)]
    key_id: str
    signature: str
