import hashlib
import json

import pytest
from securesystemslib.signer import CryptoSigner

from eguard.bundle.provenance import build_statement, sign_statement, verify_statement
from eguard.errors import BundleSignatureError
from eguard.wire.canonical import canonical_json

STATEMENT = build_statement(
    subjects={"b.json": b"b", "a.json": b"a"},
    inputs={"data/raw/x": "0" * 64},
    parameters={"base": {"seed": 7}},
    revision="abc",
    version="0.1.0",
)


def test_statement_names_subjects_and_inputs_by_sha256():
    assert [s["name"] for s in STATEMENT["subject"]] == ["a.json", "b.json"]
    assert STATEMENT["subject"][0]["digest"] == {"sha256": hashlib.sha256(b"a").hexdigest()}
    build = STATEMENT["predicate"]["buildDefinition"]
    assert build["resolvedDependencies"] == [{"name": "data/raw/x", "digest": {"sha256": "0" * 64}}]
    assert build["externalParameters"] == {"base": {"seed": 7}}


def test_signed_statement_verifies_with_either_key_and_both():
    signers = [CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()]
    envelope = sign_statement(canonical_json(STATEMENT), signers)
    keys = [signer.public_key for signer in signers]
    assert verify_statement(envelope, keys, threshold=2) == STATEMENT
    assert verify_statement(envelope, keys[:1]) == STATEMENT


def test_altered_or_foreign_envelopes_are_refused():
    signer, other = CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()
    envelope = json.loads(sign_statement(canonical_json(STATEMENT), [signer]))
    altered = {**envelope, "payload": envelope["payload"][:-4] + "AAAA"}
    for bad, key in ((altered, signer), (envelope, other), ({}, signer), ([], signer)):
        with pytest.raises(BundleSignatureError, match="provenance"):
            verify_statement(json.dumps(bad).encode(), [key.public_key])
