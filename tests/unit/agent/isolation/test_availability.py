"""Where there is no nftables, nothing is begun."""

import sys

import pytest

from eguard.agent.isolation import HostIsolation, Nft, RequestFile
from eguard.errors import IsolationUnavailableError

CALLS = {
    "isolate": lambda host: host.isolate(["192.0.2.1:443"]),
    "restore": lambda host: host.restore(),
    "allow": lambda host: host.allow(),
    "status": lambda host: host.status(),
}


@pytest.mark.parametrize("system", ["win32", "darwin"])
@pytest.mark.parametrize("call", CALLS)
def test_elsewhere_isolation_is_refused_and_nothing_is_made(tmp_path, monkeypatch, system, call):
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(IsolationUnavailableError, match=f"nftables, which {system} does not have"):
        CALLS[call](HostIsolation(Nft(), RequestFile(tmp_path / "nac")))
    assert not (tmp_path / "nac").exists()
