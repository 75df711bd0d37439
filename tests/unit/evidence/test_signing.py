"""Keys of evidence, and what their signatures are believed for."""

import json
import stat

import pytest

from eguard.bundle.keys import make_signer
from eguard.errors import EvidenceError
from eguard.evidence.signing import PUBLIC_NAME, Custody, build_statement, load_public_key, open_sealed, seal

TYPE = "urn:test:v1"


@pytest.fixture
def custody(tmp_path):
    return Custody(tmp_path / "evidence")


def sealed(custody, **predicate):
    return seal(build_statement({"x": "0" * 64}, TYPE, predicate), custody.signer())


def test_a_key_is_made_once_and_nobody_else_reads_it(custody):
    first = custody.signer().public_key.keyid
    assert custody.signer().public_key.keyid == first
    assert stat.S_IMODE(custody.key_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(custody.folder.stat().st_mode) == 0o700
    assert load_public_key(custody.folder / PUBLIC_NAME).keyid == first


def test_what_was_sealed_opens(custody):
    envelope = sealed(custody, a=1)
    assert open_sealed(envelope, custody.trusted_keys(), TYPE)["predicate"] == {"a": 1}


def test_another_machines_seal_counts_where_its_public_key_is_trusted(custody, tmp_path):
    other = Custody(tmp_path / "other")
    envelope = sealed(other)
    with pytest.raises(EvidenceError, match="not signed by a trusted key"):
        open_sealed(envelope, custody.trusted_keys(), TYPE)
    (custody.folder / "trusted").mkdir(parents=True)
    (custody.folder / "trusted" / "web.pem").write_bytes((other.folder / PUBLIC_NAME).read_bytes())
    assert open_sealed(envelope, custody.trusted_keys(), TYPE)


def test_a_swapped_public_file_trusts_nobody_new(custody, tmp_path):
    custody.signer()
    other = Custody(tmp_path / "other")
    other.signer()
    (custody.folder / PUBLIC_NAME).write_bytes((other.folder / PUBLIC_NAME).read_bytes())
    with pytest.raises(EvidenceError):
        open_sealed(sealed(other), custody.trusted_keys(), TYPE)


@pytest.mark.parametrize("field", ["payload", "payloadType", "signatures"])
def test_a_changed_envelope_does_not_open(custody, field):
    envelope = json.loads(sealed(custody, a=1))
    if field == "signatures":
        envelope[field][0]["sig"] = envelope[field][0]["sig"][::-1]
    else:
        envelope[field] = envelope[field][:-4] + "AAA="
    with pytest.raises(EvidenceError):
        open_sealed(json.dumps(envelope).encode(), custody.trusted_keys(), TYPE)


@pytest.mark.parametrize("envelope", [b"", b"{}", b"[]", b"null", b'{"payload": 1}', b"\xff"])
def test_what_is_no_envelope_is_refused(custody, envelope):
    custody.signer()
    with pytest.raises(EvidenceError):
        open_sealed(envelope, custody.trusted_keys(), TYPE)


def test_a_statement_of_something_else_is_refused_though_its_signature_holds(custody):
    with pytest.raises(EvidenceError, match="not of 'urn:other'"):
        open_sealed(sealed(custody), custody.trusted_keys(), "urn:other")


def test_without_a_key_nothing_is_believed(custody, tmp_path):
    with pytest.raises(EvidenceError):
        open_sealed(sealed(Custody(tmp_path / "other")), custody.trusted_keys(), TYPE)


def test_a_private_key_is_no_public_one(tmp_path):
    make_signer(tmp_path / "k.pem")
    with pytest.raises(EvidenceError, match="no public key"):
        load_public_key(tmp_path / "k.pem")
