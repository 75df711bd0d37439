"""Starts the process that tries a bundle out, waits for no longer than allowed, and reads what it says.

The child gets the bytes that were verified, on an unnamed file, so that nothing between check and use can change them.
It inherits no other open file, has its own session and an environment of a few names, and is killed with everything
it may have started when its time is over.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from eguard.agent.load_trial import MAX_ANSWER_BYTES, TrialAnswer, encode_bundle
from eguard.bundle.manifest import Manifest
from eguard.errors import BundleDigestError, BundleLoadError, EguardError, ModelError, RuleError

#: Wall-clock time for each second of CPU time, and for starting up, on a machine that has other things to do.
_PATIENCE: Final = 4.0
_START_SECONDS: Final = 15.0
_ENVIRONMENT: Final = ("PATH", "PYTHONPATH", "LANG", "LC_ALL", "SYSTEMROOT", "LD_LIBRARY_PATH", "VIRTUAL_ENV")
#: What ends a process that exceeds its CPU time. The kernel's last resort is SIGKILL, which others may send, too.
_TIME_SIGNALS: Final = {getattr(signal, name, 0) for name in ("SIGPROF", "SIGXCPU")}
_REFUSALS: Final[dict[str, type[EguardError]]] = {
    kind.code: kind for kind in (BundleDigestError, ModelError, RuleError)
}


@dataclass(frozen=True, slots=True)
class TrialLimits:
    """Most memory beyond that of an interpreter with its libraries, and most CPU time, for loading a bundle."""

    memory_bytes: int
    seconds: float

    @property
    def wall_seconds(self) -> float:
        """Time after which a trial is killed even if it does nothing."""
        return _START_SECONDS + _PATIENCE * self.seconds


def try_out(manifest: Manifest, files: Mapping[str, bytes], limits: TrialLimits, scratch: Path) -> TrialAnswer:
    """Load a bundle in a process of its own.

    Parameters
    ----------
    manifest, files : Manifest, mapping of name to bytes
        The verified bundle.
    limits : TrialLimits
        What the process may take.
    scratch : Path
        Folder for the unnamed files that carry the bytes; only this user may enter it.

    Raises
    ------
    BundleLoadError
        The process died or exceeded a limit.
    BundleDigestError, ModelError, RuleError
        The bundle is refused; trying it again would give the same answer.
    OSError
        The process cannot be started, or the disk is full. That is no fault of the bundle's.
    """
    with (
        tempfile.TemporaryFile(dir=scratch) as given,
        tempfile.TemporaryFile(dir=scratch) as said,
        tempfile.TemporaryFile(dir=scratch) as complained,
    ):
        given.write(encode_bundle(manifest, files))
        given.seek(0)
        status = _run(limits, given, said, complained)
        if status is None:
            raise _death(f"it ran for longer than {limits.wall_seconds:g} s", manifest)
        if status != 0:
            raise _death(_explain(status, _tail(complained), limits), manifest)
        found = _read_answer(said)
    if found is None:
        raise _death("it gave no answer", manifest)
    if found.code:
        raise _REFUSALS.get(found.code, ModelError)(found.message, remedy=found.remedy)
    return found


def _run(limits: TrialLimits, given: IO[bytes], said: IO[bytes], complained: IO[bytes]) -> int | None:
    """Return the exit status, negative for a signal, or None when time was over."""
    # -P: nothing from the current folder is imported.
    module = ["-P", "-m", "eguard.agent.load_trial"]
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    # Each thread of a numeric library reserves address space, which the limit counts.
    environment |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    with subprocess.Popen(  # noqa: S603 - our interpreter, our module
        [sys.executable, *module, str(limits.memory_bytes), str(limits.seconds)],
        stdin=given,
        stdout=said,
        stderr=complained,
        env=environment,
        close_fds=True,
        start_new_session=True,
    ) as child:
        try:
            return child.wait(limits.wall_seconds)
        except subprocess.TimeoutExpired:
            _kill(child)
            return None
        except BaseException:
            _kill(child)
            raise


def _kill(child: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()


def _tail(stream: IO[bytes]) -> str:
    """Return the last line of what the child complained about, as plain characters."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - 1000))
    lines = stream.read().decode("ascii", "replace").strip().splitlines()
    return "".join(character if character.isprintable() else "?" for character in lines[-1][:200]) if lines else ""


def _explain(status: int, complaint: str, limits: TrialLimits) -> str:
    if complaint.startswith("MemoryError") or "MemoryError" in complaint.split(":", 1)[0]:
        return f"it needed more than {limits.memory_bytes} bytes of memory"
    if -status in _TIME_SIGNALS:
        return f"it used more than {limits.seconds:g} s of CPU time ({signal.Signals(-status).name})"
    if status < 0:
        return f"it was killed by signal {-status}"
    return f"it ended with status {status}: {complaint}"


def _read_answer(stream: IO[bytes]) -> TrialAnswer | None:
    stream.seek(0)
    try:
        return msgspec.json.decode(stream.read(MAX_ANSWER_BYTES), type=TrialAnswer)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _death(reason: str, manifest: Manifest) -> BundleLoadError:
    return BundleLoadError(
        f"loading bundle {manifest.model_version} killed the process that tried it out: {reason}",
        remedy="Look at the bundle where it was built. The limits are EGUARD_MAX_LOAD_MEMORY_BYTES and "
        "EGUARD_MAX_LOAD_SECONDS.",
        reason=reason,
    )
