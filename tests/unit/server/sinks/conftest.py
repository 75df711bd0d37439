"""Real listeners: a webhook's receiver, syslog receivers, and certificates for both."""

import socket
import ssl
from contextlib import ExitStack

import pytest
import trustme
from notify_receivers import Receiver, StreamReceiver

from eguard.server.sinks import Message


@pytest.fixture
def message():
    return Message(
        "0f" * 16, "alert", "warning", "Seeds are not applied", {"applied": 0, "why": "\u00e4\n<x>"}, 1_772_000_000.25
    )


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority):
    """A server's context with a certificate for localhost and 127.0.0.1."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture
def receiver():
    """Make receivers; each is closed at the end."""
    with ExitStack() as made:

        def make(*script, tls=None, headers=None):
            opened = Receiver(script, tls, headers)
            made.callback(opened.close)
            return opened

        yield make


@pytest.fixture
def stream_receiver():
    """Make syslog receivers on streams; each is closed at the end."""
    with ExitStack() as made:

        def make(**named):
            opened = StreamReceiver(**named)
            made.callback(opened.close)
            return opened

        yield make


@pytest.fixture
def datagrams():
    """A bound UDP socket."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.bind(("127.0.0.1", 0))
        opened.settimeout(5.0)
        yield opened
