"""Commands of an operator: done once, and answered for until the server has heard it.

What was begun, and what came of it, is on the disk before the next step. An agent that dies in between neither does a
command twice nor forgets to answer for it: one that was begun and has no result is answered with what the kernel says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final, Literal, Protocol

import msgspec
import structlog

from eguard.agent.control.client import ControlClient, Request
from eguard.agent.control.credentials import server_address
from eguard.agent.isolation import Outcome, Standing
from eguard.agent.private_files import make_private_folder, write_private
from eguard.errors import EguardError, IsolationError, ServerRefusalError
from eguard.wire.bodies import encode_body
from eguard.wire.control import Command, CommandAcknowledgement, CommandList

FILE_NAME: Final = "commands.json"
#: Commands that are remembered after the server has heard of them.
_MAX_REMEMBERED: Final = 256
_MAX_FILE_BYTES: Final = 4_000_000
_MAX_DETAIL: Final = 1000
_FORGOTTEN: Final = 404

_log = structlog.get_logger("eguard.agent")


class Isolation(Protocol):
    """What carries commands out: `eguard.agent.isolation.HostIsolation`."""

    def isolate(self, servers: list[str], resolvers: tuple[str, ...] = (), *, by: str = "") -> Outcome:
        """Cut the host off from everything but `servers`."""

    def allow(self, *, by: str = "") -> Outcome:
        """Lift the isolation."""

    def status(self) -> Standing:
        """Return how the host stands, by the kernel's word."""


class CommandRecord(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """How far a command is."""

    command_id: str
    kind: str
    state: Literal["begun", "done", "failed"]
    detail: Annotated[str, msgspec.Meta(max_length=_MAX_DETAIL)] = ""
    is_heard: bool = False


class CommandRunner:
    """The duty that does what operators ask for.

    Parameters
    ----------
    folder : Path
        Where it is written down what was begun and done.
    client : ControlClient
    isolation : Isolation or None
        None where nothing is to be isolated, such as in a replay: every command fails, and says so.
    server_ahead_seconds : callable
        How far the server's clock is ahead: commands expire by it.
    """

    def __init__(
        self,
        folder: Path,
        client: ControlClient,
        isolation: Isolation | None,
        server_ahead_seconds: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._path = folder / FILE_NAME
        self._client = client
        self._isolation = isolation
        self._server_ahead_seconds = server_ahead_seconds
        self._records = {record.command_id: record for record in self._read()}

    def run(self) -> None:
        """Fetch what waits, do it in its order, and answer for it.

        Raises
        ------
        ServerRefusalError, ServerUnavailableError
            What was done is answered for at the next time.
        OSError
            It cannot be written down, and is not done.
        """
        self._answer_all()
        found = self._client.get("/endpoint/command/pending", CommandList)
        for command in found.commands:
            record = self._records.get(command.command_id)
            if record is None:
                self._carry_out(command)
            else:
                record.is_heard = False  # it did not hear of it after all
        self._answer_all()

    def _carry_out(self, command: Command) -> None:
        record = CommandRecord(command_id=command.command_id, kind=command.kind, state="begun")
        if time.time() + self._server_ahead_seconds() >= command.expires_at_unix:
            record.state, record.detail = "failed", "the command had expired when the agent got it"
        elif self._isolation is None:
            record.state, record.detail = "failed", "this agent replays a recording; the host was left as it is"
        else:
            self._write(record)
            record.state, record.detail = self._do(self._isolation, command)
        self._write(record)
        _log.info(
            "carried out command",
            command_id=command.command_id,
            kind=command.kind,
            status=record.state,
            detail=record.detail,
            reason=command.reason[:200],
        )

    def _do(self, isolation: Isolation, command: Command) -> tuple[Literal["done", "failed"], str]:
        by = f"server, command {command.command_id[:64]}"
        try:
            if command.kind == "isolate":
                host, port, _ = server_address(self._client.server)
                outcome = isolation.isolate([f"[{host}]:{port}" if ":" in host else f"{host}:{port}"], by=by)
            else:
                outcome = isolation.allow(by=by)
        except (EguardError, OSError) as error:
            remedy = error.remedy if isinstance(error, EguardError) else ""
            return "failed", f"{error} {remedy}".strip()[:_MAX_DETAIL]
        warnings = "; ".join(outcome.warnings)
        return "done", f"{outcome.action.replace('_', ' ')}{f'; {warnings}' if warnings else ''}"[:_MAX_DETAIL]

    def _answer_all(self) -> None:
        for record in [record for record in self._records.values() if not record.is_heard]:
            if record.state == "begun":
                record.state, record.detail = self._judge(record)
                self._write(record)
            self._answer(record)

    def _judge(self, record: CommandRecord) -> tuple[Literal["done", "failed"], str]:
        """Say by the kernel's word what became of a command in the middle of which the agent died."""
        wanted = "isolated" if record.kind == "isolate" else "not_isolated"
        try:
            state: str = self._isolation.status().inspection.state if self._isolation is not None else "unknown"
        except IsolationError as error:
            state = error.message
        if state == wanted:
            return "done", f"the agent ended while it did this; the host is {state.replace('_', ' ')}"
        return "failed", f"the agent ended while it did this; the host is {state}. Ask again."[:_MAX_DETAIL]

    def _answer(self, record: CommandRecord) -> None:
        said = CommandAcknowledgement(
            command_id=record.command_id,
            status="done" if record.state == "done" else "failed",
            detail=record.detail,
        )
        try:
            self._client.send(Request("/endpoint/command/ack", encode_body(said)))
        except ServerRefusalError as error:
            if error.status != _FORGOTTEN:
                raise  # the server does not know the command any more: nobody waits for the answer
        record.is_heard = True
        self._write(record)

    def _write(self, record: CommandRecord) -> None:
        """Write down how far a command is, and forget the oldest of those that are over."""
        self._records[record.command_id] = record
        heard = [each.command_id for each in self._records.values() if each.is_heard]
        for command_id in heard[: max(0, len(heard) - _MAX_REMEMBERED)]:
            del self._records[command_id]
        make_private_folder(self._path.parent)
        write_private(self._path, msgspec.json.encode(list(self._records.values())))

    def _read(self) -> list[CommandRecord]:
        try:
            with self._path.open("rb") as stream:
                return msgspec.json.decode(stream.read(_MAX_FILE_BYTES), type=list[CommandRecord])
        except FileNotFoundError:
            return []
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            # What it said would have kept a command from being done twice; both kinds are the same done twice.
            self._path.replace(self._path.with_suffix(".unreadable"))
            _log.error("record of commands cannot be read", path=str(self._path), reason=str(error))
            return []
