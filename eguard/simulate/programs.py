"""eGuard's own programs, run as an operator runs them: commands with an answer, and services with a log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from eguard.errors import SimulationError

_COMMAND_SECONDS: Final = 120.0
_STOP_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.05
_SHOWN_LINES: Final = 15


def eguard_command() -> str:
    """Return the `eguard` that belongs to this interpreter."""
    return str(Path(sys.executable).with_name("eguard"))


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment without eGuard's settings of its own, and with `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.upper().startswith("EGUARD_")}
    return {**kept, **settings}


def run_command(arguments: list[str], settings: Mapping[str, str], input_text: str = "") -> Any:
    """Run a command to its end and return what it printed: JSON if it is that.

    Raises
    ------
    SimulationError
        It failed; the message has what it said.
    """
    done = subprocess.run(  # noqa: S603 - its own command line
        [eguard_command(), *arguments],
        env=environment(settings),
        input=input_text,
        capture_output=True,
        text=True,
        timeout=_COMMAND_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise SimulationError(
            f"eguard {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()[-2000:]}",
            arguments=arguments,
            exit_code=done.returncode,
        )
    try:
        return json.loads(done.stdout)
    except ValueError:
        return done.stdout


class Service:
    """A program that goes on, with its log in a file.

    Parameters
    ----------
    name : str
        For messages.
    arguments : list of str
        Behind `eguard`.
    settings : mapping
        Its EGUARD_ variables.
    log : Path
        Where its standard error goes, one JSON object a line.
    """

    def __init__(self, name: str, arguments: list[str], settings: Mapping[str, str], log: Path) -> None:
        self.name = name
        self._log = log
        self._seen = 0
        self._unread: deque[dict[str, Any]] = deque()
        with log.open("ab") as sink:
            self._process = subprocess.Popen(  # noqa: S603 - its own command line
                [eguard_command(), *arguments],
                env=environment(settings),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=sink,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Its process number."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def wait_for(self, event: str, timeout_seconds: float = 60.0, **facts: Any) -> dict[str, Any]:
        """Return the next line of the log, after those returned before, that says `event` with these facts.

        Raises
        ------
        SimulationError
            It did not come in time, or the program ended; the message has the end of the log.
        """
        until = time.monotonic() + timeout_seconds
        while True:
            running = self.is_running
            self._unread.extend(self._new_lines())
            while self._unread:
                line = self._unread.popleft()
                if line.get("event") == event and all(line.get(key) == value for key, value in facts.items()):
                    return line
            if not running or time.monotonic() > until:
                state = "runs" if running else f"ended with {self._process.returncode}"
                raise SimulationError(
                    f"{self.name} did not say '{event}' within {timeout_seconds:.0f} s (it {state}); its log ends:\n"
                    + "\n".join(self.last_lines()),
                    event=event,
                )
            time.sleep(_POLL_SECONDS)

    def last_lines(self) -> list[str]:
        """Return the end of the log."""
        return self._log.read_text(errors="replace").splitlines()[-_SHOWN_LINES:]

    def stop(self) -> int:
        """Ask it to end, and return its exit code; one that does not end is killed."""
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _new_lines(self) -> list[dict[str, Any]]:
        """Return the lines that are whole and were not read before."""
        with self._log.open("rb") as stream:
            stream.seek(self._seen)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        lines: list[dict[str, Any]] = []
        for raw in whole.splitlines(keepends=True):
            self._seen += len(raw)
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if isinstance(line, dict):
                lines.append(line)
        return lines
