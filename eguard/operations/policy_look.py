"""The policy in force on this machine beside the one that the server has for it, and what both allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from eguard.agent.control.enrolment_files import read_enrolment
from eguard.agent.control.kept_policy import FILE_NAME, enrolment_name, read_kept_policy
from eguard.agent.control.loop import FOLDER_NAME
from eguard.agent.control.policy_poll import MAX_POLICY_BYTES
from eguard.errors import EguardError, PolicyError, ServerUnavailableError
from eguard.operations.examination import Examination
from eguard.policy import EffectiveControls, ServerAnswer, StartupControls, effective_controls, open_policy
from eguard.wire.control import PolicyKeys
from eguard.wire.policy import PolicyPayload, SignedPolicy

Direction = Literal["upload", "seed"]
#: Asks for the policy whatever its revision is: a restored server has an earlier one than the agent.
_ANY_REVISION: Final = -1


@dataclass(frozen=True, slots=True)
class PolicyLook:
    """What was found.

    Parameters
    ----------
    kept : PolicyPayload, optional
        The last good policy on this machine, its signature verified.
    kept_error : PolicyError, optional
        Why the file that is there does not count.
    sent : PolicyPayload, optional
        What the server sends this agent now; None if it was not or could not be asked.
    sent_error : EguardError, optional
        Why the agent will not follow what the server sends, or what kept it from answering.
    controls : EffectiveControls, optional
        What the agent does under the kept policy; None without one, which allows nothing.
    sent_controls : EffectiveControls, optional
        What it would do under the server's.
    """

    kept: PolicyPayload | None = None
    kept_error: PolicyError | None = None
    sent: PolicyPayload | None = None
    sent_error: EguardError | None = None
    controls: EffectiveControls | None = None
    sent_controls: EffectiveControls | None = None

    @property
    def is_behind(self) -> bool:
        """Whether the server has a newer policy for this agent than the agent has."""
        return self.sent is not None and (self.kept is None or self.sent.revision > self.kept.revision)


def look_at_policy(examination: Examination) -> PolicyLook:
    """Read the kept policy as the agent does, and the server's if the server can be asked.

    Raises
    ------
    ConfigError
        The enrolment cannot be read.
    OSError
        The file of the policy cannot be read.
    """
    settings = examination.settings
    enrolment = read_enrolment(settings.tls_folder)
    trusted = {key.key_id: key.public_key for key in enrolment.policy_keys} if enrolment is not None else {}
    kept, kept_error = None, None
    try:
        found = read_kept_policy(
            settings.state_path / FOLDER_NAME / FILE_NAME,
            trusted,
            agent_id=settings.agent_id,
            enrolment=enrolment_name(enrolment, settings.server),
        )
        if found is not None:
            kept, trusted = found
    except PolicyError as error:
        kept_error = error
    sent, sent_error = _ask(examination, trusted) if examination.may_ask else (None, None)
    startup, status = StartupControls.from_settings(settings), examination.status
    said = ServerAnswer(
        status.control.policy.revision, status.server_said("upload"), status.server_said("seed")
    )  # fmt: skip
    return PolicyLook(
        kept,
        kept_error,
        sent,
        sent_error,
        effective_controls(startup, kept, settings.agent_id, said) if kept is not None else None,
        effective_controls(startup, sent, settings.agent_id) if sent is not None else None,
    )


def _ask(examination: Examination, trusted: dict[str, str]) -> tuple[PolicyPayload | None, EguardError | None]:
    """Return what the server sends, and why it is not to be followed."""
    try:
        if not trusted:  # as the agent does: its certificate came from an operator, without keys
            found = examination.questions.ask("/endpoint/policy/keys")
            keys = msgspec.json.decode(found.body, type=PolicyKeys).policy_keys
            trusted = {key.key_id: key.public_key for key in keys}
        answer = examination.questions.ask(
            "/endpoint/policy", {"revision": _ANY_REVISION, "wait": 0}, max_bytes=MAX_POLICY_BYTES
        )
        signed = msgspec.json.decode(answer.body, type=SignedPolicy)
        agent_id = examination.settings.agent_id
        return open_policy(signed, trusted, agent_id=agent_id, minimum_revision=0), None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return None, ServerUnavailableError(f"the server's policy cannot be read: {error}", reason="unreadable")
    except EguardError as error:
        return None, error
