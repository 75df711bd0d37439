"""Three hosts as network namespaces: the agent in the middle, its server on one side, a peer on the other.

The agent's host routes between the two. Sockets are made inside a namespace by moving this thread there for a moment;
a socket stays where it was made.
"""

import ctypes
import os
import selectors
import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from eguard.agent.isolation import HostIsolation, Nft, RequestFile

CLONE_NEWNET = 0x40000000
SERVER_PORT, OTHER_PORT, AGENT_PORT = 8443, 9000, 7000
ADDRESSES = {
    "server": ("10.77.1.2", "fd77:1::2"),
    "peer": ("10.77.2.2", "fd77:2::2"),
    "agent": ("10.77.1.1", "fd77:1::1"),
}
FAMILIES = {4: 0, 6: 1}


def run(*command, check=True, **named):
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=30, **named)


class Host:
    """One namespace and the sockets in it."""

    def __init__(self, role):
        self.role = role
        self.namespace = f"eg{os.getpid()}{role}"
        self.addresses = ADDRESSES[role]
        run("ip", "netns", "add", self.namespace)
        run("ip", "-n", self.namespace, "link", "set", "lo", "up")

    @contextmanager
    def inside(self):
        """Move this thread, and what it starts, into the namespace."""
        libc = ctypes.CDLL(None, use_errno=True)
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        there = os.open(f"/run/netns/{self.namespace}", os.O_RDONLY)
        try:
            assert libc.setns(there, CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
            yield
        finally:
            assert libc.setns(home, CLONE_NEWNET) == 0
            os.close(home)
            os.close(there)

    def run(self, *command, **named):
        with self.inside():
            return run(*command, **named)

    def nft(self, script):
        return self.run("nft", "-f", "-", input=script)

    def ruleset(self, *options):
        """Return all rules without the counters' values, which any stray packet moves."""
        return self.run("nft", "-s", *options, "list", "ruleset").stdout

    def set_kernel(self, name, value):
        with self.inside():
            Path("/proc/sys/net", name).write_text(value)

    def socket(self, family, kind=socket.SOCK_STREAM):
        with self.inside():
            made = socket.socket(socket.AF_INET6 if family == 6 else socket.AF_INET, kind)
        made.settimeout(3)
        return made

    def connect(self, address, port, timeout=3.0):
        made = self.socket(6 if ":" in address else 4)
        made.settimeout(timeout)
        try:
            made.connect((address, port))
        except OSError:
            made.close()
            raise
        return made

    def reaches(self, address, port, *, wait=0.15):
        """Return whether a connection comes about and carries data both ways."""
        with suppress(OSError), self.connect(address, port, wait) as connection:
            return echoes(connection, wait=2.0)
        return False

    def remove(self):
        run("ip", "netns", "del", self.namespace, check=False)


def echoes(connection, *, wait):
    connection.settimeout(wait)
    try:
        connection.sendall(b"ping")
        return connection.recv(16) == b"ping"
    except OSError:
        return False


class EchoServers(threading.Thread):
    """Echo over TCP on ports of several hosts, for IPv4 and IPv6."""

    def __init__(self, places):
        super().__init__(daemon=True)
        self.selector = selectors.DefaultSelector()
        self.wake, self.alarm = socket.socketpair()
        self.selector.register(self.wake, selectors.EVENT_READ, None)
        for host, port in places:
            with host.inside():
                listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
            listener.settimeout(0)
            self.selector.register(listener, selectors.EVENT_READ, "listener")

    def run(self):
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    return
                if key.data == "listener":
                    accepted, _ = key.fileobj.accept()
                    accepted.settimeout(0)
                    self.selector.register(accepted, selectors.EVENT_READ, "connection")
                else:
                    self._echo(key.fileobj)

    def _echo(self, connection):
        with suppress(OSError):
            data = connection.recv(4096)
            if data:
                connection.send(data)
                return
        self.selector.unregister(connection)
        connection.close()

    def stop(self):
        self.alarm.send(b"x")
        self.join(5)
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.alarm.close()
        self.selector.close()


class Network:
    """The three hosts, joined."""

    def __init__(self):
        self.hosts = []
        for role in ("agent", "server", "peer"):
            self.hosts.append(Host(role))
        self.agent, self.server, self.peer = self.hosts
        self._join(self.server, 1)
        self._join(self.peer, 2)
        for name in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
            self.agent.set_kernel(name, "1")
        everywhere = [(host, port) for host in (self.server, self.peer) for port in (SERVER_PORT, OTHER_PORT)]
        self.echo = EchoServers([*everywhere, (self.agent, AGENT_PORT)])
        self.echo.start()

    def _join(self, other, number):
        ours, theirs = f"to{other.role}", "uplink"
        agent = self.agent.namespace
        run("ip", "-n", agent, "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", other.namespace)
        for space, device, last in ((agent, ours, 1), (other.namespace, theirs, 2)):
            run("ip", "-n", space, "link", "set", device, "up")
            run("ip", "-n", space, "address", "add", f"10.77.{number}.{last}/24", "dev", device)
            run("ip", "-n", space, "address", "add", f"fd77:{number}::{last}/64", "dev", device, "nodad")
        run("ip", "-n", other.namespace, "route", "add", "default", "via", f"10.77.{number}.1")
        run("ip", "-n", other.namespace, "-6", "route", "add", "default", "via", f"fd77:{number}::1")

    def remove(self):
        if hasattr(self, "echo"):
            self.echo.stop()
        for host in self.hosts:
            host.remove()


def why_not():
    """Return why namespaces cannot be had here, or an empty string."""
    if os.geteuid() != 0:
        return "needs root"
    if not Path("/proc/net/if_inet6").exists():
        return "needs IPv6"
    missing = [command for command in ("ip", "nft") if shutil.which(command) is None]
    if missing:
        return f"needs {' and '.join(missing)}"
    probe = f"eg{os.getpid()}probe"
    made = run("ip", "netns", "add", probe, check=False)
    if made.returncode:
        return f"no network namespaces here: {made.stderr.strip()}"
    listed = run("ip", "netns", "exec", probe, "nft", "list", "ruleset", check=False)
    run("ip", "netns", "del", probe, check=False)
    return f"no nf_tables here: {listed.stderr.strip()}" if listed.returncode else ""


@pytest.fixture(scope="session")
def network():
    reason = why_not()
    if reason:
        pytest.skip(reason)
    made = Network()
    yield made
    made.remove()


@pytest.fixture
def agent(network):
    """Return the agent's host without any rules; they are gone again after the test."""
    network.agent.run("nft", "flush", "ruleset")
    yield network.agent
    network.agent.run("nft", "flush", "ruleset")


class IsolatedFromInside:
    """HostIsolation, each call made inside the agent's namespace."""

    def __init__(self, host, folder):
        self._host = host
        self._isolation = HostIsolation(Nft(), RequestFile(folder / "nac"))

    def __getattr__(self, name):
        method = getattr(self._isolation, name)

        def call(*arguments, **named):
            with self._host.inside():
                return method(*arguments, **named)

        return call


@pytest.fixture
def isolation(agent, tmp_path):
    return IsolatedFromInside(agent, tmp_path)
