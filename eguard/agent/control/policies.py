"""What the agent is told: the last good policy, kept on the disk, and what it allows.

A policy counts from the moment it is on the disk. One that is forged, damaged, for somebody else or older than the one
in force is refused whole, and the one in force stays. While an enrolled agent has no good policy at all, neither upload
nor seeds are allowed: what an operator may have switched off is not switched on by a lost file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog

from eguard.agent.control.kept_policy import FILE_NAME, KeptPolicy, read_kept_policy
from eguard.agent.private_files import make_private_folder, write_private
from eguard.errors import PolicyError
from eguard.policy import (
    BaselineMode,
    EffectiveControls,
    ServerAnswer,
    ServerVerdict,
    StartupControls,
    effective_controls,
    open_policy,
    parse_policy_document,
)
from eguard.wire.control import PolicyKey
from eguard.wire.policy import PolicyPayload, SignedPolicy, WhitelistEntry

#: The manual's words for what changed, by field of `EffectiveControls`.
_FLAG_EVENTS: Final = {
    "upload": "updated baseline upload flag from policy",
    "seed": "updated fleet-seed flag from policy",
}
_PERCENT_EVENTS: Final = {
    "upload": "updated baseline upload canary percent from policy",
    "seed": "updated fleet-seed canary percent from policy",
}

_log = structlog.get_logger("eguard.agent")


class PolicyKeeper:
    """The policy in force on one agent; any thread may read it.

    Parameters
    ----------
    folder : Path
        Where the last good policy is kept.
    agent_id : str
        This agent.
    startup : StartupControls
        What the environment allows.
    keys : iterable of PolicyKey
        Keys from the enrolment. Those that a kept policy announced count beside them.
    enrolment : str
        Which enrolment that is. A policy that came under another one counts no more: another server begins with
        revisions and keys of its own.

    Attributes
    ----------
    refusals_total : int
        Policies that were refused since the start.
    """

    def __init__(
        self,
        folder: Path,
        agent_id: str,
        startup: StartupControls,
        keys: Iterable[PolicyKey],
        *,
        enrolment: str = "",
    ) -> None:
        self._path = folder / FILE_NAME
        self._agent_id = agent_id
        self._startup = startup
        self._enrolment = enrolment
        self._trusted = {key.key_id: key.public_key for key in keys}
        self._lock = threading.Lock()
        self._payload: PolicyPayload | None = None
        self._upload_verdict = self._seed_verdict = ServerVerdict.ERROR
        self._refused = ""
        self.refusals_total = 0
        self._load()

    @property
    def revision(self) -> int:
        """Revision in force; 0 without a policy."""
        payload = self._payload
        return payload.revision if payload is not None else 0

    @property
    def needs_keys(self) -> bool:
        """Whether no key is known that a policy could be signed with: the certificate came without an enrolment."""
        return not self._trusted

    def trust(self, keys: Iterable[PolicyKey]) -> None:
        """Trust keys, unless some are trusted already: from then on each is announced by one before it."""
        if not self._trusted:
            self._trusted = {key.key_id: key.public_key for key in keys}

    @property
    def whitelist(self) -> tuple[WhitelistEntry, ...]:
        """What is not to be alerted on."""
        payload = self._payload
        return tuple(payload.whitelist) if payload is not None else ()

    @property
    def wanted_mode(self) -> tuple[BaselineMode, int] | None:
        """The mode that the policy asks of the baseline, and the revision that asked for it."""
        payload = self._payload
        if payload is None:
            return None
        mode = parse_policy_document(payload.policy).baseline_mode
        return None if mode is None else (mode, payload.mode_revision)

    @property
    def controls(self) -> EffectiveControls | None:
        """What holds now; None while no good policy is known, which allows nothing."""
        payload = self._payload
        if payload is None:
            return None
        answer = ServerAnswer(payload.revision, self._upload_verdict, self._seed_verdict)
        return effective_controls(self._startup, payload, self._agent_id, answer)

    @property
    def may_upload(self) -> bool:
        """Whether the baseline may be uploaded now."""
        controls = self.controls
        return controls is not None and controls.upload_enabled

    @property
    def may_seed(self) -> bool:
        """Whether the fleet's seeds may be taken now."""
        controls = self.controls
        return controls is not None and controls.seed_enabled

    def note_upload(self, verdict: ServerVerdict) -> None:
        """Remember what the server said to an upload; ``error`` forgets it."""
        self._upload_verdict = verdict

    def note_seed(self, verdict: ServerVerdict) -> None:
        """Remember what the server said to a fetch of seeds; ``error`` forgets it."""
        self._seed_verdict = verdict

    def take(self, signed: SignedPolicy) -> bool:
        """Put a policy in force; return whether it is another one than before.

        Raises
        ------
        PolicyError
            It is refused; the one in force stays.
        OSError
            It cannot be kept, and does not count.
        """
        with self._lock:
            before = self._payload
            try:
                payload = self._opened(signed)
            except PolicyError as error:
                self._note_refusal(error)
                raise
            if payload == before:
                return False
            trusted = {key.key_id: key.public_key for key in payload.policy_keys} or self._trusted
            make_private_folder(self._path.parent)
            kept = KeptPolicy(signed=signed, trusted_keys=trusted, enrolment=self._enrolment)
            write_private(self._path, msgspec.json.encode(kept))
            was = self._describe_flags()
            self._trusted = trusted
            self._payload = payload
            self._refused = ""
            # What the server refused under another policy says nothing about this one.
            self._upload_verdict = self._seed_verdict = ServerVerdict.ERROR
        self._log_changes(was, payload)
        return True

    def describe(self) -> dict[str, Any]:
        """Return the policy in force and what it allows, with who decided, as plain values."""
        payload, controls = self._payload, self.controls
        described: dict[str, Any] = {
            "revision": self.revision,
            "policy_id": payload.policy_id if payload is not None else None,
            "policy_version": payload.policy_version if payload is not None else None,
            "group": payload.group if payload is not None else None,
            "whitelist_entries": len(self.whitelist),
            "refusals_total": self.refusals_total,
            "server_said": {"upload": str(self._upload_verdict), "seed": str(self._seed_verdict)},
        }
        if controls is None:
            waiting = {"enabled": False, "decided_by": "no policy yet", "percent": None}
            return described | {"upload": waiting, "seed": waiting, "bucket": None}
        return (
            described
            | {
                name: {"enabled": each.enabled, "decided_by": str(each.decided_by), "percent": each.percent}
                for name, each in (("upload", controls.upload), ("seed", controls.seed))
            }
            | {"bucket": controls.bucket}
        )

    def _note_refusal(self, error: PolicyError) -> None:
        """Count it, and log it once for as long as the same is offered."""
        self.refusals_total += 1
        if error.message != self._refused:
            self._refused = error.message
            _log.error(
                "refused policy", reason=error.context.get("reason", ""), detail=error.message, remedy=error.remedy
            )  # fmt: skip

    def _opened(self, signed: SignedPolicy) -> PolicyPayload:
        """Return the payload, if it may take the place of the one in force."""
        payload = open_policy(signed, self._trusted, agent_id=self._agent_id, minimum_revision=self.revision)
        before = self._payload
        if before is not None and payload.revision == before.revision and payload != before:
            raise PolicyError(
                f"two policies of revision {payload.revision} differ", reason="same_revision_other_content"
            )
        return payload

    def _describe_flags(self) -> dict[str, tuple[bool, float]]:
        """Return flag and percentage of both directions as policy or environment have them."""
        document = parse_policy_document(self._payload.policy if self._payload is not None else {})
        startup = self._startup
        return {
            "upload": (
                _first(document.baseline_upload_enabled, startup.upload_enabled),
                _first(document.baseline_upload_canary_percent, startup.upload_percent),
            ),
            "seed": (
                _first(document.fleet_seed_enabled, startup.seed_enabled),
                _first(document.fleet_seed_canary_percent, startup.seed_percent),
            ),
        }

    def _log_changes(self, was: dict[str, tuple[bool, float]], payload: PolicyPayload) -> None:
        _log.info(
            "applied policy",
            revision=payload.revision,
            policy_id=payload.policy_id,
            policy_version=payload.policy_version,
            group=payload.group,
        )
        for name, (flag, percent) in self._describe_flags().items():
            facts = {"agent_id": self._agent_id, "revision": payload.revision}
            if flag != was[name][0]:
                _log.info(_FLAG_EVENTS[name], enabled=flag, before=was[name][0], **facts)
            if percent != was[name][1]:
                _log.info(_PERCENT_EVENTS[name], percent=percent, before=was[name][1], **facts)

    def _load(self) -> None:
        """Go on with the policy that was in force last, if its file and signature hold."""
        try:
            kept = read_kept_policy(self._path, self._trusted, agent_id=self._agent_id, enrolment=self._enrolment)
        except (OSError, PolicyError) as error:
            _log.error(
                "kept policy cannot be used",
                reason=str(error),
                remedy="Uploads and seeds wait until the server has sent a good one.",
            )
            return
        if kept is not None:
            self._payload, self._trusted = kept


_Value = Any


def _first(given: _Value | None, otherwise: _Value) -> _Value:
    return otherwise if given is None else given
