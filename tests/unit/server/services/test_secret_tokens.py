"""Secrets that the server gives out."""

import hashlib

import pytest

from eguard.server.services.secret_tokens import digest_of, identifier_of, is_secret, new_secret


def test_a_secret_has_256_random_bits_and_its_identifier_tells_none_of_them():
    secrets = [new_secret("enrol") for _ in range(50)]
    random = {secret.text.removeprefix(f"eguard-enrol-{secret.identifier}-") for secret in secrets}
    assert len(random) == 50
    assert all(len(text) == 43 for text in random)
    assert all(secret.text not in repr(secret) and secret.digest not in repr(secret) for secret in secrets)


def test_what_is_kept_is_a_hash():
    secret = new_secret("access")
    assert secret.digest == hashlib.sha256(secret.text.encode()).hexdigest()
    assert is_secret(secret.text, secret.digest)
    assert not is_secret(secret.text + "x", secret.digest)


@pytest.mark.parametrize("kind", ["enrol", "access"])
def test_the_kind_is_part_of_the_secret(kind):
    other = {"enrol": "access", "access": "enrol"}[kind]
    secret = new_secret(kind)
    assert identifier_of(kind, secret.text) == secret.identifier
    assert identifier_of(other, secret.text) is None


@pytest.mark.parametrize("text", ["", "x", "eguard-enrol-", "eguard-enrol-" + "0" * 16 + "-" + "a" * 42, "\ud800", "é"])
def test_what_is_no_secret_has_no_identifier_and_can_be_hashed(text):
    assert identifier_of("enrol", text) is None
    assert len(digest_of(text)) == 64
