"""The task that retrains the classifier on what analysts said: `eguard ml nightly` as a child of the server.

The pipeline's packages never enter the server's process; what the child takes of memory and time ends with it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, TYPE_CHECKING, Any, Final

from eguard.errors import ServerRefusalError
from eguard.server.tasks.task import Progress

if TYPE_CHECKING:
    from eguard.server.context import ServerContext

COMMAND: Final = (sys.executable, "-c", "from eguard.cli.app import main; main()", "ml", "nightly", "--json")
_POLL_SECONDS: Final = 0.5
#: The command's exit code where a package is missing, as on a server without the extra `mlops`.
_EXIT_MISSING: Final = 3
_NICE: Final = 10
#: How long a child that was told to end has for it; the server itself waits 4 s for its tasks.
_END_SECONDS: Final = 3.0
_SHOWN: Final = (
    "run_id",
    "status",
    "cause",
    "remedy",
    "model_version",
    "promoted",
    "seconds",
    "latest_run_id",
    "export",
)
_ERROR_CHARACTERS: Final = 2000


def train_on_feedback(context: ServerContext, progress: Progress) -> dict[str, Any]:
    """Run one night to its end and return what came of it.

    Raises
    ------
    ServerRefusalError
        ``gate_failed`` or ``failed``: the run's own status with its cause, so that the maintenance run is failed, too.
    """
    settings = context.settings
    environment = os.environ | {
        "EGUARD_DATABASE_URL": settings.fleet_url,
        "EGUARD_SERVER_STATE_PATH": str(settings.server_state_path),
        "EGUARD_SERVED_REPOSITORY": str(settings.repository),
    }
    with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as words:
        child = subprocess.Popen(  # noqa: S603 - fixed arguments
            COMMAND, env=environment, stdin=subprocess.DEVNULL, stdout=answer, stderr=words, start_new_session=True
        )
        try:
            os.setpriority(os.PRIO_PROCESS, child.pid, _NICE)
            while child.poll() is None:
                progress("nightly", 0, 1)
                time.sleep(_POLL_SECONDS)
        finally:
            _end(child)
        return _result(_content(answer), _content(words), child.returncode)


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _result(answer: bytes, words: bytes, code: int) -> dict[str, Any]:
    try:
        report = json.loads(answer)
    except ValueError:
        said = words.decode(errors="replace").strip()[-_ERROR_CHARACTERS:]
        if code == _EXIT_MISSING:
            return {"skipped": f"the pipeline is not installed: {said}"}
        raise ServerRefusalError(500, "nightly_failed", f"the nightly run ended with {code}: {said}") from None
    shown = {name: report[name] for name in _SHOWN if name in report}
    if report["status"] == "skipped":
        return {"skipped": report["cause"], **shown}
    if report["status"] != "success":
        raise ServerRefusalError(500, report["status"], f"run {report['run_id']}: {report['cause']}")
    return shown


def _end(child: subprocess.Popen[bytes]) -> None:
    """End a child that still runs, and then whatever is left of its session."""
    if child.poll() is not None:
        return
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
        except ProcessLookupError:
            return
        try:
            child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            continue
