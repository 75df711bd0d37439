"""The whole application without sockets and certificates: who calls is what the test says."""

import shutil

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from eguard.clock import SystemClock
from eguard.errors import ServerRefusalError
from eguard.fleet.store import FleetStore
from eguard.fleet.tables import endpoint_agent
from eguard.server import identity
from eguard.server.app import make_app
from eguard.server.assembly import assemble, prepare_folder
from eguard.server.listeners import ADMINISTRATION, AGENTS
from eguard.server.pki.files import pki_folder
from eguard.server.principal import Principal, Role
from eguard.settings import ServerSettings


class Caller:
    """Puts a listener and somebody with a valid credential, or nobody, before the application."""

    def __init__(self, app, listener, principal):
        self._app = app
        self._state = {"listener": listener, "principal": principal}

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            scope["state"] = dict(self._state)
        await self._app(scope, receive, send)


async def _somebody(request, _context):
    principal = request.scope["state"]["principal"]
    if principal is None:
        raise ServerRefusalError(401, "not_authenticated", "nobody")
    return principal


@pytest.fixture
def context(tmp_path, sqlite_template):
    """The server's parts on SQLite, with the agents a1 and a2."""
    settings = ServerSettings(server_state_path=tmp_path / "state")
    prepare_folder(settings)
    shutil.copy(sqlite_template, tmp_path / "state" / "fleet.sqlite")
    clock = SystemClock()
    pki_folder(settings).create(["localhost"], clock.now())
    with FleetStore(settings.fleet_url, clock) as store:
        with store.database.write() as connection:
            for agent_id in ("a1", "a2"):
                connection.execute(
                    sa.insert(endpoint_agent).values(
                        agent_id=agent_id,
                        incarnation="i",
                        incarnation_ordinal=1,
                        group="web",
                        group_revision=0,
                        status="active",
                        enrolled_at=clock.now(),
                    )
                )
        context = assemble(settings, store, clock)
        yield context
        context.scheduler.stop()


@pytest.fixture
def caller(context, monkeypatch):
    """Return the client of an agent by its name, or of a person by role; of nobody on a listener without either."""
    monkeypatch.setattr(identity, "_agent", _somebody)
    monkeypatch.setattr(identity, "_person", _somebody)
    app = make_app(context)

    def make(*, agent=None, role=None, listener=None):
        principal = None
        if agent is not None:
            principal = Principal(agent, Role.AGENT)
        elif role is not None:
            principal = Principal("ada", Role(role))
        listener = listener or (AGENTS if agent is not None else ADMINISTRATION)
        return TestClient(Caller(app, listener, principal), raise_server_exceptions=False)

    return make


@pytest.fixture
def a1(caller):
    return caller(agent="a1")


@pytest.fixture
def analyst(caller):
    return caller(role="analyst")


@pytest.fixture
def admin(caller):
    return caller(role="admin")


@pytest.fixture
def nobody(caller):
    return caller()
