import stat

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from eguard.bundle.keys import generate_keys, load_keys
from eguard.errors import BundleError


def test_keys_are_private_and_kept(tmp_path):
    folder = tmp_path / "keys"
    first = generate_keys(folder)
    again = generate_keys(folder)
    assert {role: len(signers) for role, signers in first.items()} == {
        "root": 3,
        "targets": 1,
        "nightly": 1,
        "snapshot": 1,
        "timestamp": 1,
    }
    for role, signers in first.items():
        assert [s.public_key.keyid for s in signers] == [s.public_key.keyid for s in again[role]]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_missing_key_names_file_and_remedy(tmp_path):
    generate_keys(tmp_path)
    (tmp_path / "snapshot-1.pem").unlink()
    with pytest.raises(BundleError, match=r"snapshot-1\.pem") as caught:
        load_keys(tmp_path)
    assert "bundle init" in caught.value.remedy


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_damaged_key_is_a_clear_error(tmp_path, content):
    generate_keys(tmp_path)
    (tmp_path / "root-2.pem").write_bytes(content)
    with pytest.raises(BundleError, match="cannot read the signing key"):
        load_keys(tmp_path)


def test_other_kinds_of_keys_are_refused(tmp_path):
    generate_keys(tmp_path)
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "targets-1.pem").write_bytes(pem)
    with pytest.raises(BundleError, match="not an Ed25519 key"):
        load_keys(tmp_path)
