"""Ways to a running server that its own clients do not take: forged certificates, raw bytes, stored state as it is."""

import json
import socket
import ssl

import httpx2

from eguard.clock import SystemClock
from eguard.server.pki.request import make_key_and_request, read_request

#: What a client sees when a handshake or a connection is broken off.
BROKEN_OFF = (httpx2.ConnectError, httpx2.ReadError, httpx2.RemoteProtocolError, httpx2.WriteError)


def bearer(secret):
    """Return the headers of an access token."""
    return {"Authorization": f"Bearer {secret}"}


def issue_unrecorded(place, agent_id, authority, *, now=None, days=90.0):
    """Issue a certificate behind the database's back and return its files."""
    key_pem, csr_pem = make_key_and_request(agent_id)
    now = SystemClock().now() if now is None else now
    issued = authority.issue_agent(read_request(csr_pem, agent_id), agent_id, now, days)
    folder = place.folder / f"forged-{issued.serial}"
    folder.mkdir()
    (folder / "agent.pem").write_text(issued.pem)
    (folder / "agent.key").write_bytes(key_pem)
    return folder / "agent.pem", folder / "agent.key"


def tls_context(place, certificate=None):
    """Return what a client trusts and shows."""
    context = ssl.create_default_context(cafile=str(place.authority_file))
    if certificate is not None:
        context.load_cert_chain(*certificate)
    return context


def client(place, port, certificate=None, headers=None, timeout=30):
    """Return a client of one listener, for paths from the root."""
    return httpx2.Client(
        verify=tls_context(place, certificate),
        base_url=f"https://127.0.0.1:{port}",
        timeout=timeout,
        trust_env=False,
        headers=headers,
    )


def connected(place, port, certificate=None, timeout=30):
    """Return a TLS connection for bytes as they are."""
    plain = socket.create_connection(("127.0.0.1", port), timeout)
    return tls_context(place, certificate).wrap_socket(plain, server_hostname="127.0.0.1")


def read_answers(connection):
    """Return all that a server sends until it ends the connection, or says nothing for the connection's timeout."""
    data = b""
    try:
        while chunk := connection.recv(65_536):
            data += chunk
    except (ConnectionResetError, ssl.SSLEOFError, TimeoutError):
        pass
    return data


def split_answer(data):
    """Return status and JSON of the first answer in `data`, and what comes after it."""
    head, _, rest = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    length = int(fields[b"content-length"])
    return int(head.split(b" ")[1]), json.loads(rest[:length]), rest[length:]


def heartbeat(agent_id, incarnation="i"):
    """Return the body of a heartbeat."""
    facts = {"agent_id": agent_id, "incarnation": incarnation, "agent_version": "1", "baseline_status": "active"}
    return json.dumps(facts).encode()


def beat(place, certificate, agent_id):
    """Send a heartbeat, by which an agent with an operator's certificate is enrolled."""
    with client(place, place.running.agent_port, certificate) as agent:
        answer = agent.post("/api/v1/endpoint/heartbeat", content=heartbeat(agent_id))
        assert answer.status_code == 200, answer.text
