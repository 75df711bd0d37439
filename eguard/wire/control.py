"""The control plane between an agent and its server: enrolment, heartbeat, inventory, commands."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from msgspec import Meta, Struct

from eguard.wire.baseline import Count, TimeUnix, WireName

#: The agent's incarnation travels beside an upload whose body has no room for it.
INCARNATION_HEADER: Final = "X-Eguard-Incarnation"

ShortText = Annotated[str, Meta(max_length=255, pattern=r"\A[^\x00-\x1f\x7f]*\Z")]
PemText = Annotated[str, Meta(min_length=1, max_length=8192)]
Fraction = Annotated[float, Meta(ge=0.0, le=4096.0)]
BaselineStatusName = Literal["learning", "active", "stale"]
BundleStateName = Literal["current", "stale", "refused", "none"]
CommandKind = Literal["isolate", "allow"]


class EnrolmentRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a machine sends to become an agent; its private key never leaves it.

    Attributes
    ----------
    token : str
        The enrolment token's secret.
    agent_id : str
        The name that the machine asks for; the request for a certificate has to name the same.
    csr_pem : str
        PKCS#10 request, self-signed.
    incarnation : str
        Random name of the machine's state folder.
    hostname, os_type : str
        For the operator who looks at the list.
    """

    token: Annotated[str, Meta(min_length=1, max_length=256)]
    agent_id: WireName
    csr_pem: PemText
    incarnation: WireName
    hostname: ShortText = ""
    os_type: ShortText = ""


class PolicyKey(Struct, frozen=True, kw_only=True):
    """A key that policies are signed with: its name, and the 32 bytes of Ed25519 in hexadecimal."""

    key_id: str
    public_key: str


class PolicyKeys(Struct, frozen=True, kw_only=True):
    """The keys that policies are signed with now and from soon on."""

    policy_keys: tuple[PolicyKey, ...]


class EnrolmentAnswer(Struct, frozen=True, kw_only=True):
    """What an enrolled agent gets. `bundle_root` is the bundle repository's trusted root metadata, if it has one."""

    agent_id: str
    certificate_pem: str
    authority_pem: str
    policy_keys: tuple[PolicyKey, ...]
    bundle_root: str | None = None


class RenewalRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request for the next certificate, sent with the present one."""

    csr_pem: PemText


Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]


class ShadowSummary(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a candidate's model said of the events that the model in use scored, since the agent loaded the candidate.

    Attributes
    ----------
    digest : str
        The candidate: SHA-256 of its manifest.
    scored : int
        Events that both scored.
    active_flagged, shadow_flagged : int
        Events that the model in use, and that the candidate, put above its threshold.
    only_shadow, only_active : int
        Events that one of the two put above its threshold, and the other did not.
    difference_sum : float
        Distances between the two scores, added up.
    """

    digest: Digest
    scored: Count
    active_flagged: Count
    shadow_flagged: Count
    only_shadow: Count
    only_active: Count
    difference_sum: Annotated[float, Meta(ge=0.0, le=1e15)]


class Heartbeat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How an agent is; every 30 s.

    Attributes
    ----------
    queue_depth : int
        Alerts that wait in its buffer.
    bundle_digest : str or None
        The bundle in use: SHA-256 of its manifest.
    bundle_state : str or None
        How it stands to the repository: ``current``, ``stale``, ``refused`` or ``none``.
    refused_digest, refused_code : str or None
        The bundle that was refused when it was offered last, and why: the error's code.
    shadow : ShadowSummary or None
        How a candidate's model compares with the one in use; None where the agent scores with none beside it.
    trees_seen, trees_anomalous : int or None
        Process trees since the agent's start, each counted once in every hour in which it was seen, and those of them
        whose shape alone was above the classifier's threshold. None without a classifier.
    destinations_scored, destinations_confirmed : int or None
        Destinations of today, UTC, that were scored as beacons, and those that were confirmed. None without a
        calibrated threshold.
    destinations_alpha : float or None
        Share of benign destinations that the threshold lets pass as beacons.
    """

    agent_id: WireName
    incarnation: WireName
    agent_version: ShortText
    bundle_version: ShortText | None = None
    bundle_digest: Digest | None = None
    bundle_state: BundleStateName | None = None
    refused_digest: Digest | None = None
    refused_code: Annotated[str, Meta(max_length=32, pattern=r"\A[a-z_]*\Z")] | None = None
    shadow: ShadowSummary | None = None
    policy_revision: Count = 0
    baseline_status: BaselineStatusName
    cpu_fraction: Fraction = 0.0
    rss_bytes: Count = 0
    events_total: Count = 0
    events_lost: Count = 0
    queue_depth: Count = 0
    trees_seen: Count | None = None
    trees_anomalous: Count | None = None
    destinations_scored: Count | None = None
    destinations_confirmed: Count | None = None
    destinations_alpha: Annotated[float, Meta(gt=0.0, lt=0.5)] | None = None


class HeartbeatAnswer(Struct, frozen=True, kw_only=True):
    """The revision of the policy that is meant for the agent, and commands that wait for it."""

    policy_revision: int
    commands_pending: int
    server_time_unix: float
    status: str = "ok"


class InventoryReport(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What machine the agent is on. `facts` takes short texts of the operating system's own."""

    agent_id: WireName
    hostname: ShortText
    os_type: ShortText
    os_version: ShortText
    kernel_version: ShortText
    architecture: ShortText
    ip_address: ShortText = ""
    mac_address: ShortText = ""
    cpu_count: Annotated[int, Meta(ge=0, le=65_536)] = 0
    memory_bytes: Count = 0
    boot_time_unix: TimeUnix | None = None
    agent_version: ShortText = ""
    sensor: ShortText = ""
    collected_at_unix: TimeUnix
    facts: Annotated[dict[ShortText, ShortText], Meta(max_length=64)] = {}


class Command(Struct, frozen=True, kw_only=True):
    """Something that an operator wants an agent to do, once."""

    command_id: str
    kind: CommandKind
    reason: str
    created_at_unix: float
    expires_at_unix: float
    arguments: dict[str, Any] = {}


class CommandList(Struct, frozen=True, kw_only=True):
    """Commands that wait for an agent, oldest first."""

    commands: list[Command]


class CommandAcknowledgement(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What became of a command. `detail` is one sentence for the operator."""

    command_id: WireName
    status: Literal["done", "failed"]
    detail: Annotated[str, Meta(max_length=1000)] = ""


class FieldError(Struct, frozen=True, kw_only=True):
    """One field that was refused, and why."""

    field: str
    detail: str


class ErrorBody(Struct, frozen=True, kw_only=True):
    """Every refusal of the server, in this one form."""

    message: str
    code: str
    status: int
    errors: list[FieldError] = []
