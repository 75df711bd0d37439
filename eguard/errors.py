"""Every error that eGuard raises on purpose.

::

    EguardError
    ├── ConfigError                 a setting or parameter is missing or out of range
    ├── EstimatorInputError         an estimator was given data it has no answer for
    ├── ParseError                  input that cannot be read
    │   ├── UnknownFormatError      no parser claims this file
    │   └── CorruptFileError        the file breaks off or is damaged; rows before the damage were delivered
    ├── WireError                   a request or response body breaks the contract
    │   ├── PayloadTooLargeError
    │   └── SchemaVersionError
    ├── BaselineStoreError          the baseline's folder cannot be used, or a write to it failed
    │   └── StoreCorruptError       bytes of the baseline store are not what the format says
    ├── AlertBufferError            alerts that wait for a server cannot be kept or read; detection goes on
    ├── AgentBusyError              the agent's detection does not come to a request of its control plane
    ├── ShardLostError              a process of detection is gone and could not be replaced
    ├── FleetStoreError             the fleet database refused
    ├── ServerRefusalError          a server refuses a request; carries the HTTP status
    ├── ServerUnavailableError      a server cannot be reached, or what it says cannot be read
    ├── NotificationError           a webhook or syslog receiver did not take a message to operators
    ├── PolicyError                 a policy document is not one, or a signed policy is not to be followed
    ├── RuleError                   a detection rule cannot be compiled or read
    ├── ModelError                  a model, threshold or schema does not fit
    ├── BundleError                 a bundle is not to be trusted or not complete
    │   ├── BundleSignatureError
    │   ├── BundleExpiredError
    │   ├── BundleRollbackError
    │   ├── BundleDigestError
    │   └── BundleLoadError         trying the bundle out killed the process that tried it
    ├── SensorUnavailableError      this machine cannot run the sensor that was asked for
    ├── IsolationError              network isolation cannot be had as asked for, or is not what it should be
    │   └── IsolationUnavailableError   nft, privileges or nf_tables are missing on this machine
    ├── SimulationError             a simulated fleet did not do what was asked of it
    ├── NotebookFailedError         a cell of a notebook raised
    ├── EvidenceError               evidence is not what was signed, or must not be kept
    ├── PipelineBusyError           another run of the pipeline works in the same folder
    ├── GateFailedError             a quality gate said no; carries the report
    └── MissingExtraError           an optional dependency is not installed

Each has a stable ``code``, the offending values in ``context`` and a ``remedy``, the sentence that the command line
prints below the message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar


class EguardError(Exception):
    """Base of all of eGuard's errors.

    Parameters
    ----------
    message : str
        What happened, in one sentence, with the offending value.
    remedy : str
        What to do about it; empty when there is nothing general to say.
    **context : Any
        Offending values, kept as ``self.context`` for logs and reports.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, remedy: str = "", **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.context = context

    def __str__(self) -> str:
        return self.message


class ConfigError(EguardError):
    """A setting or parameter is missing, unknown or out of range."""

    code = "config"


class EstimatorInputError(EguardError, ValueError):
    """An estimator was given empty, non-finite, negative or out-of-range input; ``argument`` names it."""

    code = "estimator_input"

    def __init__(self, argument: str, message: str, *, remedy: str = "", **context: Any) -> None:
        super().__init__(f"{argument}: {message}", remedy=remedy, **context)
        self.argument = argument


class ParseError(EguardError):
    """Input that cannot be read."""

    code = "parse"


class UnknownFormatError(ParseError):
    """No parser claims this file."""

    code = "unknown_format"


class CorruptFileError(ParseError):
    """The file breaks off or is damaged. Every row before the damage was delivered before this was raised."""

    code = "corrupt_file"


class WireError(EguardError):
    """A request or response body breaks the contract."""

    code = "wire"


class PayloadTooLargeError(WireError):
    """A body exceeds its cap."""

    code = "payload_too_large"


class SchemaVersionError(WireError):
    """A body speaks another version of the schema."""

    code = "schema_version"


class BaselineStoreError(EguardError):
    """The baseline's folder cannot be used, or a write to it failed and nothing more is acknowledged."""

    code = "baseline_store"


class StoreCorruptError(BaselineStoreError):
    """Bytes of the baseline store are not what the format says. Loading reports it and goes on; it never gets out."""

    code = "store_corrupt"


class AlertBufferError(EguardError):
    """Alerts that wait for a server cannot be kept or read. Detection goes on; ``reason`` is a word to count by."""

    code = "alert_buffer"

    def __init__(self, message: str, *, reason: str, remedy: str = "", **context: Any) -> None:
        super().__init__(message, remedy=remedy, **context)
        self.reason = reason


class AgentBusyError(EguardError):
    """The thread that detects did not come to a request in time, or is ending. The request was not begun."""

    code = "agent_busy"


class ShardLostError(EguardError):
    """A process of detection ended or does not answer; this gets out only when replacing it did not help."""

    code = "shard_lost"


class FleetStoreError(EguardError):
    """The fleet database refused or is not what it should be."""

    code = "fleet_store"


class ServerRefusalError(EguardError):
    """A server refuses a request. Raised by the server to answer so, and by clients that were answered so.

    Parameters
    ----------
    status : int
        The HTTP status.
    reason : str
        The stable word of the error body's ``code``.
    message : str
        One sentence.
    errors : sequence of (str, str)
        Fields that were refused, and why.
    """

    code = "server_refusal"

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        errors: Sequence[tuple[str, str]] = (),
        remedy: str = "",
        **context: Any,
    ) -> None:
        super().__init__(message, remedy=remedy, **context)
        self.status = status
        self.reason = reason
        self.errors = list(errors)


class ServerUnavailableError(EguardError):
    """A server cannot be reached, does not answer in time, or what it says cannot be read."""

    code = "server_unavailable"


class NotificationError(EguardError):
    """A webhook or syslog receiver did not take a message to operators.

    Parameters
    ----------
    message : str
        What happened, without addresses' secrets.
    is_about_message : bool
        Whether the receiver refused this message alone, so that others may well arrive.
    retry_seconds : float, optional
        When the receiver asked to come back.
    """

    code = "notification"

    def __init__(
        self, message: str, *, remedy: str = "", is_about_message: bool = False, retry_seconds: float | None = None
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.is_about_message = is_about_message
        self.retry_seconds = retry_seconds


class PolicyError(EguardError):
    """A policy document is not one, or a signed policy is not to be followed; ``errors`` names fields and faults."""

    code = "policy"

    def __init__(
        self, message: str, *, errors: Sequence[tuple[str, str]] = (), remedy: str = "", **context: Any
    ) -> None:
        super().__init__(message, remedy=remedy, **context)
        self.errors = list(errors)


class RuleError(EguardError):
    """A detection rule or indicator list cannot be compiled or read."""

    code = "rule"


class ModelError(EguardError):
    """A model, its threshold or its feature schema is malformed, or they do not belong together."""

    code = "model"


class BundleError(EguardError):
    """A bundle is not to be trusted or not complete."""

    code = "bundle"


class BundleSignatureError(BundleError):
    """Metadata is not signed by enough of the expected keys."""

    code = "bundle_signature"


class BundleExpiredError(BundleError):
    """Metadata has expired: the repository is stale or somebody withholds updates."""

    code = "bundle_expired"


class BundleRollbackError(BundleError):
    """A version lower than one already seen was offered."""

    code = "bundle_rollback"


class BundleDigestError(BundleError):
    """A file's length, digest or count differs from what was signed."""

    code = "bundle_digest"


class BundleLoadError(BundleError):
    """The process that tried a bundle out died, or exceeded its memory or its time."""

    code = "bundle_load"


class SensorUnavailableError(EguardError):
    """A sensor cannot run on this machine; the remedy says what would change that."""

    code = "sensor_unavailable"


class IsolationError(EguardError):
    """Network isolation cannot be had as asked for, or the kernel does not hold what was loaded."""

    code = "isolation"


class IsolationUnavailableError(IsolationError):
    """Nothing on this machine can isolate it: nft, privileges or nf_tables are missing. Nothing was changed."""

    code = "isolation_unavailable"


class SimulationError(EguardError):
    """A simulated fleet did not do what was asked of it: a program ended, or something did not come in time."""

    code = "simulation"


class NotebookFailedError(EguardError):
    """A cell of a notebook raised; the executed copy shows where."""

    code = "notebook_failed"


class EvidenceError(EguardError):
    """Evidence is not what was signed, is not signed by a trusted key, or holds what must not be kept."""

    code = "evidence"


class PipelineBusyError(EguardError):
    """Another run of the pipeline works in the same folder; nothing was begun."""

    code = "pipeline_busy"


class GateFailedError(EguardError):
    """A quality gate said no. ``report`` holds what it measured; it was written before this was raised."""

    code = "gate_failed"

    def __init__(self, message: str, *, report: dict[str, Any], remedy: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.report = report


class MissingExtraError(EguardError):
    """An optional dependency is not installed; the remedy is the line that installs it."""

    code = "missing_extra"
