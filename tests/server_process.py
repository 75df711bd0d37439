"""`eguard server run` as a process of its own: real certificates, ports that stay, and ends of every kind."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from http.client import HTTPException, HTTPSConnection
from pathlib import Path

from mariadb_server import die_with_parent, free_port
from server_access import tls_context
from server_place import CONSOLE

from eguard.server.assembly import open_context, prepare_folder
from eguard.server.pki.files import pki_folder
from eguard.server.pki.request import make_key_and_request
from eguard.server.principal import Role
from eguard.settings import ServerSettings

START_SECONDS = 60.0
PROGRAM = Path(sys.executable).with_name("eguard")


class ServerProcess:
    """A server that can be killed and started again, with agents' certificates and an admin's token.

    Parameters
    ----------
    folder : Path
        For its state and the certificates.
    database_url : str
        An empty database.
    agents : sequence of str
        Agents that get a certificate.
    environment : str
        Further settings, by their variable's name.
    """

    def __init__(self, folder, database_url, agents=(), **environment):
        self.folder = Path(folder)
        self.settings = ServerSettings(
            server_state_path=self.folder / "server",
            database_url=database_url,
            agent_listen=f"127.0.0.1:{free_port()}",
            admin_listen=f"127.0.0.1:{free_port()}",
        )
        self.log = self.folder / "server.log"
        self.process = None
        self._environment = environment
        prepare_folder(self.settings)
        pki_folder(self.settings).create(["127.0.0.1"], time.time())
        with open_context(self.settings) as context:
            self.certificates = {agent_id: self._issue(context, agent_id) for agent_id in agents}
            self.token = context.access.tokens.create(CONSOLE, "test", Role.ADMIN).secret

    @property
    def authority_file(self):
        return pki_folder(self.settings).trust_file

    @property
    def agent_port(self):
        return int(self.settings.agent_listen.rpartition(":")[2])

    @property
    def admin_port(self):
        return int(self.settings.admin_listen.rpartition(":")[2])

    def start(self):
        """Start the server and wait until both ports answer."""
        variables = {
            "EGUARD_SERVER_STATE_PATH": str(self.settings.server_state_path),
            "EGUARD_DATABASE_URL": self.settings.database_url,
            "EGUARD_AGENT_LISTEN": self.settings.agent_listen,
            "EGUARD_ADMIN_LISTEN": self.settings.admin_listen,
            **self._environment,
        }
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EGUARD_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [PROGRAM, "server", "run"],
                env=inherited | variables,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
            )
        deadline = time.monotonic() + START_SECONDS
        while not (self._answers(self.agent_port) and self._answers(self.admin_port)):
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def kill(self):
        """End it as a power cut of its process does."""
        self.process.kill()
        self.process.wait()

    def terminate(self, timeout_seconds=30.0):
        """End it in order; return after how many seconds it was gone, and its exit code."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout_seconds)
        return time.monotonic() - began, code

    def connection(self, agent_id=None, timeout=10.0):
        """Return a connection of an agent, of an administrator if none is named."""
        port = self.admin_port if agent_id is None else self.agent_port
        certificate = None if agent_id is None else self.certificates[agent_id]
        return HTTPSConnection("127.0.0.1", port, context=tls_context(self, certificate), timeout=timeout)

    def _answers(self, port):
        with contextlib.closing(
            HTTPSConnection("127.0.0.1", port, context=tls_context(self), timeout=2.0)
        ) as connection:
            try:
                connection.request("GET", "/healthz")
                return connection.getresponse().status == 200
            except (OSError, HTTPException):
                return False

    def _issue(self, context, agent_id):
        place = self.folder / "agents" / agent_id
        place.mkdir(parents=True)
        key_pem, csr_pem = make_key_and_request(agent_id)
        (place / "agent.pem").write_text(context.enrolment.issue(CONSOLE, agent_id, csr_pem).pem)
        (place / "agent.key").write_bytes(key_pem)
        return place / "agent.pem", place / "agent.key"


@contextlib.contextmanager
def server_process(folder, database_url, agents=(), **environment):
    """Run a server as a process and yield it."""
    server = ServerProcess(folder, database_url, agents, **environment)
    server.start()
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.kill()
