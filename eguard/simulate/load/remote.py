"""A server that runs already: the simulated agents enrol with a token, once, and keep what they were given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from eguard.agent.control.client import ControlClient
from eguard.agent.control.credentials import server_address, trusting_context
from eguard.simulate.load.connection import Target
from eguard.simulate.load.options import LoadOptions, life_name
from eguard.simulate.load.place import Place, sources_for
from eguard.simulate.load.wallet import Wallet, WalletIndex, new_keys, read_index, write_index
from eguard.wire.agent_name import certificate_name
from eguard.wire.control import EnrolmentAnswer, EnrolmentRequest

Progress = Callable[[str, int, int], None]

_AT_ONCE: Final = 4
_GROUP: Final = 64
_INDEX_NAME: Final = "agents.json"
_WALLET_NAME: Final = "agents.pem"
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost"})


@dataclass(frozen=True, slots=True)
class RemoteServer:
    """Where a server is, what its certificate is checked against, and the token's secret that lets agents in."""

    url: str
    authority: Path
    token: str


@contextmanager
def remote_place(
    folder: Path, options: LoadOptions, server: RemoteServer, progress: Progress | None = None
) -> Iterator[Place]:
    """Enrol the agents that the folder does not hold yet, and yield the server.

    Every run is another life of its agents, with sequence numbers of its own.

    Raises
    ------
    ConfigError
        The address is not https, or the folder's agents are those of another server.
    ServerRefusalError, ServerUnavailableError
        The token does not let them in. Those who are in stay in the folder.
    """
    host, port, _ = server_address(server.url)
    index_path = folder / _INDEX_NAME
    index = read_index(index_path)
    if index is None or (index.server, index.prefix) != (server.url, options.prefix):
        index = WalletIndex(server.url, options.prefix, 0, [0])
    with Wallet(folder / _WALLET_NAME, index.ends) as wallet:
        index.uses += 1
        try:
            _enrol_missing(wallet, index.uses, options, server, progress)
        finally:
            index.ends = wallet.ends
            write_index(index_path, index)
        sources = sources_for(options.connections) if host in _LOOPBACK else ()
        yield Place(Target(host, port, sources), server.authority, wallet, life=1000 * index.uses)


def _enrol_missing(
    wallet: Wallet, uses: int, options: LoadOptions, server: RemoteServer, progress: Progress | None
) -> None:
    client = ControlClient(server.url, trusting_context(server.authority))
    try:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            while len(wallet) < options.agents:
                numbers = range(len(wallet), min(len(wallet) + _GROUP, options.agents))
                keys = list(new_keys(len(numbers)))
                requests = [
                    _request(key, options.agent_id(number), life_name(1000 * uses), server.token)
                    for key, number in zip(keys, numbers, strict=True)
                ]
                answers = pool.map(lambda each: client.post("/endpoint/enroll", each, EnrolmentAnswer), requests)
                for key, answer in zip(keys, answers, strict=True):
                    wallet.add(key, answer.certificate_pem)
                if progress is not None:
                    progress("enrolling agents", len(wallet), options.agents)
    finally:
        client.close()


def _request(key: ec.EllipticCurvePrivateKey, agent_id: str, incarnation: str, token: str) -> EnrolmentRequest:
    kind, value = certificate_name(agent_id)
    name = x509.DNSName(value) if kind == "dns" else x509.UniformResourceIdentifier(value)
    signing = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName([name]), critical=True)
        .sign(key, hashes.SHA256())
    )
    return EnrolmentRequest(
        token=token,
        agent_id=agent_id,
        csr_pem=signing.public_bytes(Encoding.PEM).decode(),
        incarnation=incarnation,
        hostname="load-test",
        os_type="simulated",
    )
