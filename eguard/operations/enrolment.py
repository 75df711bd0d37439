"""Checks of who this agent is to its server: the enrolment here, and what the server says of it."""

from __future__ import annotations

from typing import Final

from eguard.agent.control.credentials import IDENTITY_NAME
from eguard.agent.control.enrolment_files import read_enrolment
from eguard.errors import EguardError, ServerRefusalError
from eguard.operations.check import Finding, failed, ok, skipped, warning
from eguard.operations.examination import Examination
from eguard.operations.status_look import duration

ENROL: Final = "sudo eguard agent enroll --server https://NAME:PORT --ca FILE --token-file FILE"
_AGAIN: Final = (
    "If this machine is still one of the fleet: on the server `eguard server agent decommission {agent} --reason ...` "
    "and `eguard server token create`, then here `sudo eguard agent enroll --force ...` with the new token."
)
#: What the server's refusal of an identity means, and what to do, by the code of the error body.
REFUSED: Final = {
    "certificate_revoked": ("the agent's certificate was revoked", _AGAIN),
    "certificate_decommissioned": (
        "the server has taken this agent out of the fleet (decommissioned)",
        (
            "If it is to be one again: on the server `eguard server token create`, then here `sudo eguard agent enroll "
            "--force ...` with that token."
        ),
    ),
    "certificate_unknown": (
        "the server's authority signed the agent's certificate, and its database does not know it",
        (
            "The database is another one, or was restored from before this agent was enrolled: see EGUARD_DATABASE_URL "
            "on the server. Else enrol this machine again: sudo eguard agent enroll --force ... with a new token."
        ),
    ),
    "certificate_expired": ("the agent's certificate has expired by the server's clock", _AGAIN),
    "certificate_required": (
        "no certificate of this agent reached the server",
        (
            "Enrol this machine, or set EGUARD_TLS_CERT and EGUARD_TLS_KEY. If they are set, something between the two "
            "ends TLS: let it pass through."
        ),
    ),
    "not_an_agent": (
        "the certificate is none of an agent: it names nobody, several, or is not for clients",
        "Use the certificate that the server issued: `eguard agent enroll` here, or `eguard server pki issue` there.",
    ),
    "not_found": (
        "this port does not serve agents",
        (
            "EGUARD_SERVER has to name the agents' port (EGUARD_AGENT_LISTEN on the server, 8443), not that of the "
            "administration."
        ),
    ),
}


def check_enrolment(examination: Examination) -> Finding:
    """Check that this machine is enrolled with the server that it is to speak to."""
    _ = examination.settings  # reads the enrolment
    if examination.enrolment_error is not None:
        return failed(examination.enrolment_error.message, examination.enrolment_error.remedy)
    if examination.is_enrolment_closed:
        return skipped(examination.alone)
    written = examination.written_settings.tls_cert
    if written is not None:
        return ok(f"not used: EGUARD_TLS_CERT={written} is managed by an operator, and is not renewed by itself")
    return _judge_enrolment(examination)


def _judge_enrolment(examination: Examination) -> Finding:
    folder, server = examination.settings.tls_folder, examination.written_settings.server
    enrolment = read_enrolment(folder)
    if enrolment is None:
        if not server:
            return skipped(examination.alone)
        return failed(f"this machine is not enrolled: there is no {folder / IDENTITY_NAME}", ENROL)
    if server and server.rstrip("/") != enrolment.server.rstrip("/"):
        return warning(
            f"this machine was enrolled with {enrolment.server}, and EGUARD_SERVER={server} names another",
            "Unset EGUARD_SERVER, or enrol with that server: sudo eguard agent enroll --force ...",
        )
    age = duration(max(0.0, examination.clock.now() - enrolment.enrolled_at_unix))
    return ok(f"as {enrolment.agent_id} with {enrolment.server}, {age} ago")


def check_server_identity(examination: Examination) -> Finding:
    """Check that the server takes this agent for one of its own, by asking what only an agent may ask."""
    settings = examination.settings
    if not settings.server:
        return skipped(examination.alone)
    if not examination.may_ask or not settings.server.lower().startswith("https://"):
        return skipped("there is no secure channel to the server; see the checks transport and server_*")
    try:
        examination.questions.ask("/endpoint/command/pending")
    except ServerRefusalError as error:
        return judge_refusal(error, settings.agent_id)
    except EguardError as error:
        return failed(error.message, error.remedy or "See the server's log.")
    return ok(f"{settings.server} knows this agent and answers what only an agent may ask")


def judge_refusal(error: ServerRefusalError, agent_id: str) -> Finding:
    """Return what a refusal of this agent means."""
    cause, remedy = REFUSED.get(error.reason, ("the server refuses this agent", "See the server's log."))
    return failed(f"{cause} ({error.status} {error.reason}): {error.message}", remedy.format(agent=agent_id))
