"""The wallet: every agent's own key and certificate, and nobody else's to read."""

import stat

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from eguard.errors import ConfigError
from eguard.simulate.load.wallet import Wallet, WalletIndex, new_keys, read_index, write_index


def test_each_agent_gets_its_own_back(tmp_path):
    keys = list(new_keys(3))
    with Wallet(tmp_path / "agents.pem") as wallet:
        for number, key in enumerate(keys):
            wallet.add(key, f"CERTIFICATE {number}\n" * (number + 1))
        assert len(wallet) == 3
        for number, key in reversed(list(enumerate(keys))):
            pem, _, certificate = wallet[number].partition(b"-----END EC PRIVATE KEY-----\n")
            kept = load_pem_private_key(pem + b"-----END EC PRIVATE KEY-----\n", None)
            assert kept.private_numbers() == key.private_numbers()
            assert certificate == f"CERTIFICATE {number}\n".encode() * (number + 1)
        with pytest.raises(IndexError):
            wallet[3]
    assert stat.S_IMODE((tmp_path / "agents.pem").stat().st_mode) == 0o600


def test_a_wallet_can_be_opened_again(tmp_path):
    with Wallet(tmp_path / "agents.pem") as wallet:
        wallet.add(next(new_keys(1)), "C")
        first, ends = wallet[0], list(wallet.ends)
    write_index(tmp_path / "agents.json", WalletIndex("https://a:1", "load", 1, ends))
    index = read_index(tmp_path / "agents.json")
    assert (index.server, index.prefix, index.uses) == ("https://a:1", "load", 1)
    with Wallet(tmp_path / "agents.pem", index.ends) as wallet:
        assert wallet[0] == first
        wallet.add(next(new_keys(1)), "D")
        assert wallet[0] == first
        assert wallet[1].endswith(b"D")


def test_an_index_that_is_none_is_refused(tmp_path):
    assert read_index(tmp_path / "none.json") is None
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ConfigError):
        read_index(tmp_path / "bad.json")
