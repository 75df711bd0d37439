"""Who may ask for what: every route of the API's document, by everybody, at both listeners.

The table says of each route whom it is for. A route without a row fails here, and so does a row without a route.
"""

import contextlib
import json
from dataclasses import dataclass, field
from http.client import HTTPSConnection

import pytest
from server_access import bearer, beat, issue_unrecorded, tls_context
from server_place import CONSOLE, server_place

from eguard.server.app import describe_routes
from eguard.server.pki.files import pki_folder
from eguard.server.principal import Role

AUDIENCES = {
    "anyone": {"GET /healthz"},
    "administration": {"GET /readyz", "GET /metrics", "GET /openapi.json", "GET /docs", "POST /api/v1/session"},
    "enrolling": {"POST /api/v1/endpoint/enroll"},
    "agent": {
        "GET /api/v1/bundles/metadata/{name}",
        "GET /api/v1/bundles/targets/{name}",
        "GET /api/v1/endpoint/threat-intel/version",
        "GET /api/v1/endpoint/policy/keys",
        "GET /api/v1/endpoint/command/pending",
        "POST /api/v1/endpoint/baseline/batch",
        "POST /api/v1/endpoint/calibration",
        "POST /api/v1/endpoint/command/ack",
        "POST /api/v1/endpoint/heartbeat",
        "POST /api/v1/endpoint/inventory",
        "POST /api/v1/endpoint/renew",
        "POST /api/v1/endpoint/telemetry",
    },
    "agent_or_analyst": {"GET /api/v1/endpoint/baseline/fleet"},
    "agent_or_admin": {"GET /api/v1/endpoint/policy"},
    "analyst": {
        "GET /api/v1/session",
        "DELETE /api/v1/session",
        "GET /api/v1/endpoint/agent/{agent_id}",
        "GET /api/v1/endpoint/audit",
        "GET /api/v1/endpoint/audit/verify",
        "GET /api/v1/endpoint/event",
        "GET /api/v1/endpoint/event/{event_id}",
        "GET /api/v1/endpoint/fleet/explain",
        "GET /api/v1/endpoint/fleet/health",
        "GET /api/v1/endpoint/inventory",
        "GET /api/v1/endpoint/ml-ops/candidates",
        "GET /api/v1/endpoint/ml-ops/candidates/{candidate_id}",
        "GET /api/v1/endpoint/ml-ops/summary",
        "GET /api/v1/endpoint/rollout/status",
        "GET /api/v1/endpoint/whitelist",
        "PATCH /api/v1/endpoint/incident/{incident_id}",
        "POST /api/v1/endpoint/feedback",
    },
    "admin": {
        "GET /api/v1/access/token",
        "POST /api/v1/access/token",
        "DELETE /api/v1/access/token/{token_id}",
        "GET /api/v1/config/maintenance_task/{task_id}/runs",
        "GET /api/v1/config/maintenance_tasks",
        "POST /api/v1/config/maintenance_task/{task_id}/run",
        "GET /api/v1/endpoint/nac/status",
        "POST /api/v1/endpoint/nac/allow",
        "POST /api/v1/endpoint/nac/isolate",
        "POST /api/v1/endpoint/agent/decommission",
        "POST /api/v1/endpoint/agent/group",
        "POST /api/v1/endpoint/baseline/aggregate",
        "POST /api/v1/endpoint/baseline/fleet/import",
        "POST /api/v1/endpoint/baseline/fleet/rollback",
        "POST /api/v1/endpoint/fleet/approve",
        "POST /api/v1/endpoint/fleet/freeze",
        "POST /api/v1/endpoint/fleet/quarantine",
        "POST /api/v1/endpoint/fleet/release",
        "POST /api/v1/endpoint/fleet/resume",
        "POST /api/v1/endpoint/ml-ops/promote",
        "POST /api/v1/endpoint/ml-ops/rollback",
        "POST /api/v1/endpoint/policy",
        "POST /api/v1/endpoint/policy/advance",
        "POST /api/v1/endpoint/policy/assign",
        "POST /api/v1/endpoint/policy/kill",
        "POST /api/v1/endpoint/policy/preview",
        "POST /api/v1/endpoint/policy/reissue",
        "POST /api/v1/endpoint/policy/rollback",
        "POST /api/v1/endpoint/policy/rotate-key",
        "POST /api/v1/endpoint/policy/withdraw",
        "POST /api/v1/endpoint/whitelist",
        "DELETE /api/v1/endpoint/whitelist/{entry_id}",
    },
}
AUDIENCE_OF = {route: audience for audience, routes in AUDIENCES.items() for route in routes}
#: Routes of the framework, which its document does not name.
UNDOCUMENTED = {"GET /openapi.json", "GET /docs"}
SAFE_METHODS = ("GET ", "HEAD ", "OPTIONS ")
#: No body has this field, so whoever is let in changes nothing.
PROBE = b'{"no_such_field":1}'

AT_AGENTS = {"anyone", "enrolling", "agent", "agent_or_analyst", "agent_or_admin"}
AT_ADMINISTRATION = {"anyone", "administration", "agent_or_analyst", "agent_or_admin", "analyst", "admin"}
ALLOWED = (0, "")


@dataclass
class Caller:
    """Somebody at one of the listeners: what is sent along, and how the guards know them."""

    port: int
    certificate: tuple | None = None
    headers: dict = field(default_factory=dict)
    #: The answer to whoever lacks what the route asks for; none for those who have it.
    refused: tuple[int, str] | None = None
    role: str = ""

    def expected(self, route, is_agents):
        """Return the refusal that is due, or ALLOWED."""
        audience = AUDIENCE_OF[route]
        if audience not in (AT_AGENTS if is_agents else AT_ADMINISTRATION):
            return 404, "not_found"
        if audience in {"anyone", "enrolling", "administration"}:
            return ALLOWED
        if self.refused is not None and (self.refused[1] != "csrf" or not route.startswith(SAFE_METHODS)):
            return self.refused
        is_for_all = is_agents or audience in {"analyst", "agent_or_analyst"}
        return ALLOWED if is_for_all or self.role == "admin" else (403, "forbidden")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def callers(place):
    return at_agents_port(place) | at_administration_port(place)


def at_agents_port(place):
    port, certificates, endpoints = place.running.agent_port, place.context.certificates, place.context.endpoints
    admin = place.token("admin")
    agent = place.issue("a1")
    gone = place.issue("decommissioned")
    beat(place, gone, "decommissioned")
    endpoints.decommission(CONSOLE, "decommissioned", "sold")
    revoked = place.issue("revoked")
    certificates.revoke(CONSOLE, agent_id="revoked", reason="stolen")
    forged = issue_unrecorded(place, "a1", pki_folder(place.settings).authority())
    return {
        "agents: nobody": Caller(port, refused=(401, "certificate_required")),
        "agents: agent": Caller(port, agent, role="agent"),
        "agents: revoked": Caller(port, revoked, refused=(403, "certificate_revoked")),
        "agents: decommissioned": Caller(port, gone, refused=(403, "certificate_decommissioned")),
        "agents: unknown to the database": Caller(port, forged, refused=(403, "certificate_unknown")),
        "agents: admin's token": Caller(port, headers=bearer(admin), refused=(401, "certificate_required")),
        "agents: agent with admin's token": Caller(port, agent, headers=bearer(admin), role="agent"),
        "agents: certificate in a header": Caller(
            port,
            headers={"X-Client-Cert": agent[0].read_text().replace("\n", "%0A"), "X-SSL-Client-Verify": "SUCCESS"},
            refused=(401, "certificate_required"),
        ),
    }


def at_administration_port(place):
    port, access = place.running.admin_port, place.context.access
    unauthenticated = (401, "not_authenticated")
    for name, role in (("ann", Role.ANALYST), ("ada", Role.ADMIN), ("eve", Role.ADMIN)):
        access.accounts.add(CONSOLE, name, role, PASSWORD)
    ann, ada, bare, crossed, eve = (session_of(access, name) for name in ("ann", "ada", "ada", "ada", "eve"))
    access.disable_account(CONSOLE, "eve")
    revoked = access.tokens.create(CONSOLE, "revoked", Role.ADMIN)
    access.tokens.revoke(CONSOLE, revoked.token_id)
    expired = access.tokens.create(CONSOLE, "expired", Role.ADMIN, days=1e-9)
    admin = place.token("admin")
    return {
        "administration: nobody": Caller(port, refused=unauthenticated),
        "administration: analyst": Caller(port, headers=bearer(place.token("analyst")), role="analyst"),
        "administration: admin": Caller(port, headers=bearer(admin), role="admin"),
        "administration: revoked token": Caller(port, headers=bearer(revoked.secret), refused=unauthenticated),
        "administration: expired token": Caller(port, headers=bearer(expired.secret), refused=unauthenticated),
        "administration: token cut short": Caller(port, headers=bearer(admin[:-1]), refused=unauthenticated),
        "administration: token as basic": Caller(
            port, headers={"Authorization": f"Basic {admin}"}, refused=unauthenticated
        ),
        "administration: agent's certificate": Caller(port, place.issue("a2"), refused=unauthenticated),
        "administration: analyst's session": Caller(port, headers=ann, role="analyst"),
        "administration: admin's session": Caller(port, headers=ada, role="admin"),
        "administration: session without CSRF": Caller(
            port, headers={"Cookie": bare["Cookie"]}, role="admin", refused=(403, "csrf")
        ),
        "administration: session with another's CSRF": Caller(
            port, headers=ann | {"Cookie": crossed["Cookie"]}, role="admin", refused=(403, "csrf")
        ),
        "administration: session of a disabled account": Caller(port, headers=eve, refused=unauthenticated),
        "administration: made-up session": Caller(
            port, headers={"Cookie": f"eguard_session={'A' * 43}"}, refused=unauthenticated
        ),
    }


def session_of(access, name):
    """Sign somebody in and return what a browser sends from then on."""
    new = access.sign_in(name, PASSWORD)
    return {"Cookie": f"eguard_session={new.cookie}", "X-Eguard-Csrf": new.session.csrf_token}


PASSWORD = "seventeen grey herons"
NAMES = [
    "agents: nobody",
    "agents: agent",
    "agents: revoked",
    "agents: decommissioned",
    "agents: unknown to the database",
    "agents: admin's token",
    "agents: agent with admin's token",
    "agents: certificate in a header",
    "administration: nobody",
    "administration: analyst",
    "administration: admin",
    "administration: revoked token",
    "administration: expired token",
    "administration: token cut short",
    "administration: token as basic",
    "administration: agent's certificate",
    "administration: analyst's session",
    "administration: admin's session",
    "administration: session without CSRF",
    "administration: session with another's CSRF",
    "administration: session of a disabled account",
    "administration: made-up session",
]


def documented():
    paths = describe_routes().openapi()["paths"]
    return {f"{method.upper()} {path}" for path, item in paths.items() for method in item}


def test_every_route_has_a_row_and_every_row_a_route():
    assert set(AUDIENCE_OF) == documented() | UNDOCUMENTED
    assert sum(map(len, AUDIENCES.values())) == len(AUDIENCE_OF), "a route is in one row"


@pytest.mark.parametrize("name", NAMES)
def test_every_route_lets_in_whom_it_is_for_and_nobody_else(place, callers, name):
    caller = callers[name]
    wrong = {}
    context = tls_context(place, caller.certificate)
    with contextlib.closing(HTTPSConnection("127.0.0.1", caller.port, context=context, timeout=30)) as connection:
        # The end of the session comes last: nothing is left to be asked with it.
        for route in sorted(AUDIENCE_OF, key=lambda route: (route == "DELETE /api/v1/session", route)):
            method, path = route.split(" ")
            connection.request(method, filled(path), PROBE if method in {"POST", "PATCH"} else None, caller.headers)
            answer = connection.getresponse()
            said = denial(answer.status, answer.read())
            if said != (expected := caller.expected(route, name.startswith("agents"))):
                wrong[route] = said, "instead of", expected
    assert wrong == {}


def filled(path):
    for parameter in ("{token_id}", "{task_id}", "{entry_id}", "{agent_id}", "{event_id}", "{incident_id}", "{name}"):
        path = path.replace(parameter, "nothing-of-this-name")
    return path


#: What the guards say; other refusals come from behind them.
GUARDS = {"not_authenticated", "certificate_required", "forbidden", "csrf", "not_found", "not_an_agent"}


def denial(status, text):
    """Return status and code of a guard's refusal, ALLOWED for any other answer; a refusal has the one form."""
    assert status < 500, text
    if status < 400:
        return ALLOWED
    body = json.loads(text)
    assert set(body) == {"message", "code", "status", "errors"}
    assert body["status"] == status
    code = body["code"]
    return (status, code) if code in GUARDS or code.startswith("certificate_") else ALLOWED


def test_the_table_of_callers_is_complete(callers):
    assert list(callers) == NAMES
