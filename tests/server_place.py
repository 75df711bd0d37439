"""A server of one's own for tests: real sockets, real certificates, a database, gone at the end."""

import ssl
import threading
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx2

from eguard.server.assembly import prepare_folder
from eguard.server.pki.files import pki_folder
from eguard.server.pki.request import make_key_and_request
from eguard.server.principal import Principal, Role
from eguard.server.service import run_server
from eguard.settings import ServerSettings

CONSOLE = Principal("console", Role.ADMIN, credential="test")
START_SECONDS = 30.0


@dataclass
class ServerPlace:
    """A running server, and clients for it."""

    folder: Path
    settings: ServerSettings
    clock: object = None
    running: object = None
    _opened: ExitStack = field(default_factory=ExitStack)

    @property
    def context(self):
        return self.running.context

    @property
    def authority_file(self):
        return pki_folder(self.settings).trust_file

    def start(self):
        """Run the server in a thread until `stop`."""
        ready, self._stop = threading.Event(), threading.Event()
        box = {}

        def serve():
            try:
                run_server(
                    self.settings,
                    stop=self._stop,
                    started=lambda running: (box.update(r=running), ready.set()),
                    clock=self.clock,
                )
            except BaseException as error:
                box["error"] = error
                ready.set()
                raise

        self._thread = threading.Thread(target=serve, name="server")
        self._thread.start()
        assert ready.wait(START_SECONDS)
        assert "error" not in box, box.get("error")
        self.running = box["r"]

    def stop(self):
        """End the server and every client."""
        self._opened.close()
        self._stop.set()
        self._thread.join(START_SECONDS)
        assert not self._thread.is_alive()

    def issue(self, agent_id, folder=None):
        """Issue a certificate to an agent and return the files of certificate and key."""
        place = folder or self.folder / "agents" / agent_id.replace("/", "_")
        place.mkdir(parents=True, exist_ok=True)
        key_pem, csr_pem = make_key_and_request(agent_id)
        issued = self.context.enrolment.issue(CONSOLE, agent_id, csr_pem)
        (place / "agent.pem").write_text(issued.pem)
        (place / "agent.key").write_bytes(key_pem)
        return place / "agent.pem", place / "agent.key"

    def agent(self, agent_id=None, files=None, **named):
        """Return a client on the agents' listener, with the certificate of `agent_id` or of `files`, or with none."""
        context = ssl.create_default_context(cafile=str(self.authority_file))
        if agent_id is not None:
            files = self.issue(agent_id)
        if files is not None:
            context.load_cert_chain(*files)
        return self._client(context, self.running.agent_port, named)

    def person(self, role=Role.ADMIN, token=None, **named):
        """Return a client on the administration listener, with a token of `role`; with none if it is None."""
        context = ssl.create_default_context(cafile=str(self.authority_file))
        if token is None and role is not None:
            token = self.token(role)
        if token is not None:
            named["headers"] = {"Authorization": f"Bearer {token}"}
        return self._client(context, self.running.admin_port, named)

    def token(self, role=Role.ADMIN):
        """Return the secret of a new access token."""
        return self.context.access.tokens.create(CONSOLE, f"test-{role}", Role(role)).secret

    def _client(self, context, port, named):
        client = httpx2.Client(
            verify=context, base_url=f"https://127.0.0.1:{port}/api/v1", timeout=30, trust_env=False, **named
        )
        return self._opened.enter_context(client)


@contextmanager
def server_place(folder, database_url="", clock=None, **settings):
    """Run a server on a folder and yield it; `clock` is what it takes for the time, the machine's by default."""
    place = ServerPlace(
        Path(folder),
        ServerSettings(
            server_state_path=Path(folder) / "server",
            database_url=database_url,
            agent_listen="127.0.0.1:0",
            admin_listen="127.0.0.1:0",
            **{"aggregation_min_agent_age_seconds": 0.0, **settings},
        ),
        clock,
    )
    prepare_folder(place.settings)
    pki_folder(place.settings).create(["127.0.0.1", "localhost"], time.time())
    place.start()
    try:
        yield place
    finally:
        place.stop()
