"""Signed policies: what a server signs, and what an agent demands before it reads a word of one.

An agent that follows a forged, foreign or outdated policy would upload where it was told not to. Everything here
refuses whole: there is no part of a policy that is taken when another part is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from eguard.errors import PolicyError, WireError
from eguard.policy.document import parse_policy_document
from eguard.wire.canonical import canonical_json
from eguard.wire.policy import PolicyPayload, SignedPolicy
from eguard.wire.strict_json import parse_strict_json

#: Cap on a payload: a whitelist of several thousand entries fits.
MAX_PAYLOAD_BYTES: Final = 1_000_000
_KEY_BYTES: Final = 32
_REMEDY: Final = (
    "The last good policy stays in force. If the server was restored or its keys were replaced, see "
    "`eguard policy reissue` and enrol the agent again if its keys are gone."
)


def public_key_text(key: Ed25519PrivateKey) -> str:
    """Return the public half as 64 hexadecimal digits."""
    return key.public_key().public_bytes_raw().hex()


def policy_key_id(public_key: str) -> str:
    """Return the name of a public key: the first 32 hexadecimal digits of the SHA-256 of its bytes.

    Examples
    --------
    >>> policy_key_id("00" * 32)
    '66687aadf862bd776c8fc18b8e9f8e20'
    """
    return hashlib.sha256(bytes.fromhex(public_key)).hexdigest()[:32]


def sign_policy(payload: PolicyPayload, key: Ed25519PrivateKey) -> SignedPolicy:
    """Return the payload's canonical text with an Ed25519 signature over its UTF-8.

    References
    ----------
    RFC 8032, Edwards-Curve Digital Signature Algorithm.
    """
    text = canonical_json(msgspec.to_builtins(payload))
    return SignedPolicy(
        payload=text.decode(), key_id=policy_key_id(public_key_text(key)), signature=key.sign(text).hex()
    )


def open_policy(
    signed: SignedPolicy, trusted_keys: Mapping[str, str], *, agent_id: str, minimum_revision: int
) -> PolicyPayload:
    """Return the payload of a signed policy if this agent may follow it.

    Parameters
    ----------
    signed : SignedPolicy
        As received.
    trusted_keys : mapping of str to str
        Public keys in hexadecimal by key id, from the enrolment and from earlier policies.
    agent_id : str
        This agent.
    minimum_revision : int
        Revision that is in force; the same revision is taken again, a lower one is not.

    Raises
    ------
    PolicyError
        ``context["reason"]`` is ``unknown_key``, ``bad_signature``, ``unreadable``, ``other_agent``,
        ``lower_revision`` or ``invalid_policy``.
    """
    text = _verified(signed, trusted_keys)
    payload = _read(text)
    if payload.agent_id != agent_id:
        raise _refusal("other_agent", f"the policy is for {payload.agent_id!r}, not for {agent_id!r}")
    if payload.revision < minimum_revision:
        raise _refusal(
            "lower_revision",
            f"the policy has revision {payload.revision}, below {minimum_revision}",
            revision=payload.revision,
            minimum_revision=minimum_revision,
        )
    parse_policy_document(payload.policy)
    for announced in payload.policy_keys:
        _public_key(announced.public_key)
    return payload


def _verified(signed: SignedPolicy, trusted_keys: Mapping[str, str]) -> bytes:
    trusted = trusted_keys.get(signed.key_id)
    if trusted is None:
        raise _refusal("unknown_key", f"the policy is signed with the key {signed.key_id[:64]!r}, which is not trusted")
    try:
        text, signature = signed.payload.encode(), bytes.fromhex(signed.signature)
        _public_key(trusted).verify(signature, text)
    except (InvalidSignature, ValueError):
        raise _refusal("bad_signature", "the policy's signature does not hold", key_id=signed.key_id) from None
    return text


def _read(text: bytes) -> PolicyPayload:
    try:
        return msgspec.convert(parse_strict_json(text, max_bytes=MAX_PAYLOAD_BYTES), PolicyPayload)
    except (WireError, msgspec.ValidationError) as error:
        raise _refusal("unreadable", f"the policy cannot be read: {error}") from error


def _public_key(text: str) -> Ed25519PublicKey:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != _KEY_BYTES:
        raise _refusal("unreadable", "a policy key is not 32 bytes in hexadecimal")
    return Ed25519PublicKey.from_public_bytes(raw)


def _refusal(reason: str, message: str, **context: Any) -> PolicyError:
    return PolicyError(message, remedy=_REMEDY, reason=reason, **context)
