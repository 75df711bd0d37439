"""One connection against servers of every manner, over real TLS."""

import asyncio
import contextlib
import gc
import ssl
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from eguard.server.pki.authority import Authority
from eguard.simulate.load.connection import AgentConnection, ClientTls, LoadFailureError, Target
from eguard.simulate.load.wallet import private_pem

REQUEST = b"GET / HTTP/1.1\r\nHost: server\r\n\r\n"
GOOD = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"


class Ground:
    """An authority with a server's certificate and as many agents' as a test wants."""

    def __init__(self, folder):
        now = time.time()
        self.folder = folder
        self.authority, _ = Authority.create(now)
        self.trust = folder / "ca.pem"
        self.trust.write_bytes(self.authority.certificate.public_bytes(Encoding.PEM))
        self.agents_trust = folder / "agents-ca.pem"
        self.agents_trust.write_bytes(self.authority.agents_certificate.public_bytes(Encoding.PEM))
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self.authority.issue_server(key.public_key(), ["127.0.0.1"], now)
        (folder / "server.pem").write_bytes(private_pem(key) + certificate.public_bytes(Encoding.PEM))

    def identity(self, name):
        key = ec.generate_private_key(ec.SECP256R1())
        return private_pem(key) + self.authority.issue_agent(key.public_key(), name, time.time()).pem.encode()

    def server_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.pem")
        context.load_verify_locations(self.agents_trust)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    @contextlib.contextmanager
    def client_tls(self):
        tls = ClientTls(self.trust, self.folder / "connecting.pem")
        try:
            yield tls
        finally:
            tls.close()


@pytest.fixture(scope="module")
def ground(tmp_path_factory):
    return Ground(tmp_path_factory.mktemp("ground"))


def run(ground, answer, use):
    """Run a server that calls `answer(reader, writer)` for every connection, and `use(target, tls)` against it."""

    async def main():
        open_ones = set()

        async def serve(reader, writer):
            open_ones.add(writer)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await answer(reader, writer)

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=ground.server_tls(), ssl_shutdown_timeout=0.2)
        try:
            with ground.client_tls() as tls:
                await asyncio.wait_for(use(Target("127.0.0.1", server.sockets[0].getsockname()[1]), tls), 20)
        finally:
            server.close()
            for writer in open_ones:
                writer.transport.abort()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            await server.wait_closed()
            await asyncio.sleep(0.05)

    asyncio.run(main())
    gc.collect()  # a socket that nobody closed warns now, and warnings are errors


async def requests(reader):
    """Yield when a whole request is there."""
    while True:
        yield await reader.readuntil(b"\r\n\r\n")


def name_of(writer):
    certificate = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)[0]


@pytest.mark.parametrize("is_prepared", [False, True], ids=["shared context", "own contexts"])
def test_every_connection_shows_its_own_certificate(ground, is_prepared):
    async def answer(reader, writer):
        async for _ in requests(reader):
            name = name_of(writer).encode()
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(name), name))

    async def use(target, tls):
        names = [f"agent-{number}" for number in range(20)]
        connections = [AgentConnection(target, tls) for _ in names]
        identities = [ground.identity(name) for name in names]
        if is_prepared:
            for number, identity in enumerate(identities):
                tls.prepare(number, identity)
            identities = [b""] * len(names)
        # At the same time: handshakes of all are under way when the next one's certificate is loaded.
        opening = zip(connections, identities, range(len(names)), strict=True)
        await asyncio.gather(*(each.open(identity, number) for each, identity, number in opening))
        for _ in range(2):
            answers = await asyncio.gather(*(each.ask(REQUEST, 10.0) for each in connections))
            assert [each.body.decode() for each in answers] == names
        for each in connections:
            each.close()

    run(ground, answer, use)


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n" * 2000, "malformed"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "malformed"),
        (GOOD + b"HTTP/1.1 200 OK\r\n", "malformed"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nab", "closed"),
        (b"", "closed"),
    ],
    ids=["another protocol", "chunks", "two answers", "cut short", "nothing"],
)
def test_rubbish_is_counted_as_what_it_is_and_closes_the_connection(ground, sent, kind):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(sent)
        writer.close()

    async def use(target, tls):
        connection = AgentConnection(target, tls)
        await connection.open(ground.identity("a"), 0)
        with pytest.raises(LoadFailureError) as caught:
            await connection.ask(REQUEST, 10.0)
        assert caught.value.kind == kind
        assert not connection.is_open
        with pytest.raises(LoadFailureError, match="closed"):
            await connection.ask(REQUEST, 10.0)

    run(ground, answer, use)


def test_a_server_that_does_not_answer_is_given_up_in_time(ground):
    async def answer(reader, writer):
        await reader.read()

    async def use(target, tls):
        connection = AgentConnection(target, tls)
        await connection.open(ground.identity("a"), 0)
        began = time.monotonic()
        first = asyncio.create_task(connection.ask(REQUEST, 0.2))
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="one request after the other"):
            await connection.ask(REQUEST, 0.2)
        with pytest.raises(LoadFailureError, match="timeout"):
            await first
        assert 0.15 < time.monotonic() - began < 5.0
        assert not connection.is_open

    run(ground, answer, use)


def test_an_answer_that_says_it_is_the_last_closes_the_connection(ground):
    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")

    async def use(target, tls):
        connection = AgentConnection(target, tls)
        await connection.open(ground.identity("a"), 0)
        assert (await connection.ask(REQUEST, 10.0)).status == 503
        assert not connection.is_open

    run(ground, answer, use)


def test_closing_wakes_whoever_waits_and_an_abrupt_end_reaches_the_server_as_a_reset(ground):
    ends = asyncio.Queue()

    async def answer(reader, writer):
        try:
            while await reader.read(1000):
                pass
        except ConnectionResetError:
            ends.put_nowait("reset")
        else:
            ends.put_nowait("goodbye")

    async def use(target, tls):
        for is_abrupt in (True, False):
            connection = AgentConnection(target, tls)
            await connection.open(ground.identity("a"), 0)
            waiting = asyncio.create_task(connection.ask(REQUEST, 10.0))
            await asyncio.sleep(0.05)
            connection.close(is_abrupt=is_abrupt)
            with pytest.raises(LoadFailureError, match="closed"):
                await waiting
            assert await ends.get() == ("reset" if is_abrupt else "goodbye")

    run(ground, answer, use)


def test_a_large_request_goes_out_in_as_many_pieces_as_it_takes(ground):
    size = 3_000_000

    async def answer(reader, writer):
        await reader.readexactly(size)
        writer.write(GOOD)

    async def use(target, tls):
        connection = AgentConnection(target, tls)
        await connection.open(ground.identity("a"), 0)
        assert (await connection.ask(b"x" * size, 20.0)).body == b"hi"
        connection.close()

    run(ground, answer, use)


def test_a_server_of_another_authority_is_not_spoken_to(ground, tmp_path):
    other = Ground(tmp_path)

    async def answer(reader, writer):
        await reader.read()

    async def use(target, _):
        with other.client_tls() as tls:
            connection = AgentConnection(target, tls)
            with pytest.raises(LoadFailureError, match="connect_tls"):
                await connection.open(other.identity("a"), 0)
            assert not connection.is_open

    async def quiet(target, tls):
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # the server's side of the refusal
        await use(target, tls)

    run(ground, answer, quiet)


def test_nobody_there_is_refused(ground):
    async def main():
        with ground.client_tls() as tls:
            connection = AgentConnection(Target("127.0.0.1", 1, ("127.0.0.2",)), tls)
            with pytest.raises(LoadFailureError, match="connect_refused"):
                await connection.open(ground.identity("a"), 0)

    asyncio.run(main())
    gc.collect()
