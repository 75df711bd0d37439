"""What a drill does while it is watched: commands as an operator types them, rows it looks at, checks it makes.

Everything goes into the record: the commands with their exit codes and what they printed, the questions to the database
with the rows, each check with what was seen and what was asked. Secrets are taken out before anything is kept.
"""

from __future__ import annotations

import json
import platform
import shlex
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eguard import __version__
from eguard.clock import Clock
from eguard.errors import EvidenceError
from eguard.evidence.database_values import plain
from eguard.evidence.redaction import Redactor
from eguard.evidence.signing import sha256_hex
from eguard.simulate.programs import eguard_command, environment

if TYPE_CHECKING:
    import sqlalchemy as sa

    from eguard.fleet.database import Database

#: A heartbeat comes every 30 s; an agent that missed four is not there.
FRESH_SECONDS: Final = 120.0
_COMMAND_SECONDS: Final = 900.0
_POLL_SECONDS: Final = 0.5
#: What a command printed beyond this is kept as its digest.
_MAX_OUTPUT_CHARACTERS: Final = 200_000
_TOLD_CHARACTERS: Final = 2000
_MAX_ROWS: Final = 500

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class DrillOptions:
    """What a drill works with.

    Parameters
    ----------
    agent : str
        The agent that is drilled with; empty: the one that was heard last.
    policy : str
        The policy whose rollout is looked at; empty: the one that reached everybody last.
    pack : Path, optional
        The evidence pack that was archived.
    wait_seconds : float
        How long a drill waits for agents.
    min_agents : int
        Agents that a published key needs, by the server's settings.
    """

    agent: str = ""
    policy: str = ""
    pack: Path | None = None
    wait_seconds: float = 120.0
    min_agents: int = 3


class Course:
    """The course of one drill, and its record.

    Parameters
    ----------
    drill : str
        Its name.
    redactor : Redactor
        For all that is kept.
    clock : Clock
        For times.
    database : Database, optional
        The fleet's, where this machine has it.
    target : mapping
        What is drilled: addresses without passwords.
    """

    def __init__(
        self,
        drill: str,
        redactor: Redactor,
        clock: Clock,
        *,
        database: Database | None = None,
        target: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.drill = drill
        self.has_database = database is not None
        self._redactor = redactor
        self._clock = clock
        self._database = database
        self._target = dict(target or {})
        self._progress = progress
        self._started = clock.now()
        self._commands: list[dict[str, Any]] = []
        self._observed: list[dict[str, Any]] = []
        self._checks: list[dict[str, Any]] = []

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._clock.now()

    def run(self, *arguments: str, stdin: str = "", accepted: Collection[int] = (0,), is_apart: bool = False) -> Any:
        """Run `eguard ARGUMENTS --json` and return what it printed.

        Parameters
        ----------
        *arguments : str
            As typed.
        stdin : str
            What it reads.
        accepted : collection of int
            Exit codes that are an answer.
        is_apart : bool
            Run it without this machine's settings of eGuard, as what makes a fleet of its own has to.

        Raises
        ------
        EvidenceError
            It ended otherwise, or printed no JSON; what it said is in the record.
        """
        shown = shlex.join(("eguard", *arguments))
        self._tell(shown)
        began, at = time.monotonic(), self.now()
        try:
            done = subprocess.run(  # noqa: S603 - its own command line
                [eguard_command(), *arguments, "--json"],
                env=environment({}) if is_apart else None,
                input=stdin,
                capture_output=True,
                text=True,
                timeout=_COMMAND_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EvidenceError(f"`{shown}` did not end within {_COMMAND_SECONDS:.0f} s") from error
        output = _parsed(done.stdout)
        self._commands.append(
            {
                "command": self._redactor.text(shown),
                "at": _iso(at),
                "seconds": round(time.monotonic() - began, 3),
                "exit_code": done.returncode,
                **({"stdin": self._redactor.value(_parsed(stdin))} if stdin else {}),
                "output": self._kept(output, done.stdout),
                "said": self._redactor.text(done.stderr[-_TOLD_CHARACTERS:]) if done.returncode else "",
            }
        )
        if done.returncode not in accepted or isinstance(output, str):
            words = " ".join(done.stderr.split())[-_TOLD_CHARACTERS:] or "it printed no JSON"
            raise EvidenceError(self._redactor.text(f"`{shown}` ended with {done.returncode}: {words}"))
        return output

    def rows(self, title: str, query: sa.Select[Any]) -> list[dict[str, Any]]:
        """Ask the database, keep question and answer, and return the rows. Of a poll only the last answer is kept.

        Raises
        ------
        EvidenceError
            This machine has no fleet database.
        FleetStoreError
            It does not answer.
        """
        if self._database is None:
            raise EvidenceError(
                "this drill looks at the fleet's database",
                remedy="Run it on the server's machine, with EGUARD_DATABASE_URL or EGUARD_SERVER_STATE_PATH.",
            )
        with self._database.read() as connection:
            rows = connection.execute(query).mappings()
            found = [{str(name): plain(value) for name, value in row.items()} for row in rows]
        kept = self._redactor.value(found[:_MAX_ROWS])
        self._observed = [each for each in self._observed if each["title"] != title]
        self._observed.append({"title": title, "query": str(query), "at": _iso(self.now()), "rows": kept})
        return found

    def wait(self, until: Callable[[], bool], seconds: float, label: str) -> bool:
        """Look again and again until something is so; return whether it became so in time."""
        began = time.monotonic()
        while not until():
            waited = time.monotonic() - began
            if waited >= seconds:
                return False
            if self._progress is not None:
                self._progress(label, int(waited), int(seconds))
            time.sleep(_POLL_SECONDS)
        return True

    def check(self, name: str, observed: Any, asked: str, *, passed: bool) -> bool:
        """Keep what was seen and what was asked; return whether it passed."""
        self._checks.append(
            {"name": name, "observed": self._redactor.value(observed), "asked": asked, "passed": bool(passed)}
        )
        return passed

    def record(self, error: str = "") -> dict[str, Any]:
        """Return the record; the drill passed if nothing broke off and every check did, and there was one."""
        return {
            "drill": self.drill,
            "eguard": __version__,
            "started_at": _iso(self._started),
            "started_at_unix": self._started,
            "seconds": round(self.now() - self._started, 3),
            "machine": {"host": socket.gethostname(), "system": platform.platform()},
            "target": self._redactor.value(self._target),
            "commands": self._commands,
            "observed": self._observed,
            "checks": self._checks,
            "error": self._redactor.text(error),
            "passed": not error and bool(self._checks) and all(each["passed"] for each in self._checks),
        }

    def _kept(self, output: Any, text: str) -> Any:
        if len(text) > _MAX_OUTPUT_CHARACTERS:
            return {"sha256": sha256_hex(text.encode()), "characters": len(text)}
        return self._redactor.value(output)

    def _tell(self, label: str) -> None:
        if self._progress is not None:
            self._progress(label, 0, 1)


def names_of(rows: Iterable[Mapping[str, Any]], column: str = "agent_id") -> list[str]:
    """Return one column of some rows."""
    return [str(row[column]) for row in rows]


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _iso(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds")
