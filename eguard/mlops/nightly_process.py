"""`dvc repro` as a child: with low priority, its words in a log, its end told as a stage and a cause."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

Progress = Callable[[str, int, int], None]
#: Stages whose exit code 1 is a verdict on the data and no failure of the machine.
GATES: Final = frozenset({"label_gate", "feature_gate", "offline_eval"})
_NICE: Final = 10
_KEPT_LINES: Final = 400
_KILL_SECONDS: Final = 5.0
_RUNNING: Final = re.compile(r"Running stage '([a-z_]+)'")
_FAILED: Final = re.compile(r"failed to run: python -m pipelines\.([a-z_]+), exited with (-?\d+)")
_ERROR: Final = re.compile(r"^error: (.+)$")
_REMEDY: Final = re.compile(r"^remedy: (.+)$")
#: ENOSPC, EDQUOT and EFBIG, as Python and Arrow write them.
_NO_SPACE: Final = re.compile(r"[Ee]rrno (28|122|27)\b|No space left on device|Disk quota exceeded|File too large")


@dataclass(slots=True)
class Outcome:
    """How a reproduction ended.

    Parameters
    ----------
    returncode : int
        Of `dvc repro`.
    failed_stage : str
        Empty if none failed.
    stage_exit : int or None
        That stage's exit code; negative for a signal.
    message, remedy : str
        What the stage said last.
    is_out_of_space : bool
        Whether a disk or a quota was full.
    seconds : dict of str to float
        Wall time by stage.
    """

    returncode: int = 0
    failed_stage: str = ""
    stage_exit: int | None = None
    message: str = ""
    remedy: str = ""
    is_out_of_space: bool = False
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def is_gate(self) -> bool:
        """Whether a gate said no."""
        return self.failed_stage in GATES and self.stage_exit == 1 and not self.is_out_of_space


def reproduce(
    root: Path,
    stages: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    *,
    progress: Progress | None = None,
    keep_open: Sequence[int] = (),
) -> Outcome:
    """Run `dvc repro` in a workspace to its end.

    Parameters
    ----------
    root : Path
        The workspace.
    stages : sequence of str
        Its stages in order, for the progress.
    environment : mapping
        Of the child.
    log : Path
        Everything that is printed goes there, too. A disk too full for it does not end the run.
    progress : callable, optional
        Told of each stage as it begins. What it raises ends the child and everything that the child began.
    keep_open : sequence of int
        Descriptors that the child inherits: a lock that has to hold while any of it runs.
    """
    command = [sys.executable, "-m", "dvc", "repro"]
    child = subprocess.Popen(  # noqa: S603 - fixed arguments
        command,
        cwd=root,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=keep_open,
    )
    os.setpriority(os.PRIO_PROCESS, child.pid, _NICE)
    outcome = Outcome()
    try:
        kept = _follow(child, stages, log, outcome, progress)
        outcome.returncode = child.wait()
    except BaseException:
        _end(child)
        raise
    finally:
        if child.stdout is not None:
            child.stdout.close()
    _interpret(outcome, kept)
    return outcome


def _follow(
    child: subprocess.Popen[str], stages: Sequence[str], log: Path, outcome: Outcome, progress: Progress | None
) -> list[str]:
    """Read the child to its end; return the last lines that it wrote."""
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    current, began = "", time.monotonic()
    for line in child.stdout or ():
        kept.append(line.rstrip("\n"))
        append(log, line)
        started = _RUNNING.search(line)
        if started is not None:
            if current:
                outcome.seconds[current] = round(time.monotonic() - began, 2)
            current, began = started[1], time.monotonic()
            if progress is not None:
                progress(current, stages.index(current) if current in stages else 0, len(stages))
    if current:
        outcome.seconds[current] = round(time.monotonic() - began, 2)
    if progress is not None and stages:
        progress(stages[-1], len(stages), len(stages))
    return [*kept]


def append(log: Path, text: str) -> None:
    """Add to the log; on a full disk the words are lost, and the run's end says why."""
    try:
        with log.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError:
        return


def _interpret(outcome: Outcome, kept: Sequence[str]) -> None:
    """Find in the last lines which stage failed, and what it said."""
    if outcome.returncode == 0:
        return
    for line in kept:
        for pattern, name in ((_ERROR, "message"), (_REMEDY, "remedy")):
            found = pattern.match(line)
            if found:
                setattr(outcome, name, found[1])
        failed = _FAILED.search(line)
        if failed:
            outcome.failed_stage, outcome.stage_exit = failed[1], int(failed[2])
        outcome.is_out_of_space |= bool(_NO_SPACE.search(line))
    if not outcome.message:
        spoken = [line for line in kept if line.strip() and not line.startswith("ERROR: failed to reproduce")]
        outcome.message = spoken[-1].strip()[:500] if spoken else f"dvc repro ended with {outcome.returncode}"


def _end(child: subprocess.Popen[str]) -> None:
    """End the child and all that it began: they are one session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            continue
