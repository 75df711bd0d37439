"""The process that loads a bundle first, so that a bundle which kills its loader kills this one and no agent.

``python -m eguard.agent.load_trial MEMORY_BYTES CPU_SECONDS`` reads the bundle from standard input (`encode_bundle`)
and prints one JSON document: that the bundle can be used, or which error of eGuard's speaks against it. Anything else
(another exit status, a signal, no answer) is the bundle's death. The limits count from where reading begins; what the
interpreter and its libraries took before is not the bundle's.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from eguard.bundle.manifest import Manifest, check_counts, check_files
from eguard.detection.content import LoadedContent, load_content
from eguard.errors import EguardError, ModelError
from eguard.events.model import UNCOUNTED, EventClass

if sys.platform != "win32":
    import resource

#: Longest answer, and most that is kept of a traceback.
MAX_ANSWER_BYTES: Final = 65_536
_OPEN_FILES: Final = 64
_PROBE_ROWS: Final = 4


class TrialAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a trial found. `code` names the error that refuses the bundle; it is empty for a bundle that works."""

    code: str = ""
    message: str = ""
    remedy: str = ""
    seconds: float = 0.0
    peak_bytes: int = 0


class _Bundle(msgspec.Struct):
    manifest: bytes
    files: dict[str, bytes]


def encode_bundle(manifest: Manifest, files: Mapping[str, bytes]) -> bytes:
    """Return a bundle as the trial reads it."""
    return msgspec.msgpack.encode(_Bundle(manifest.to_bytes(), dict(files)))


def load_verified(manifest: Manifest, files: Mapping[str, bytes]) -> LoadedContent:
    """Load a bundle, compare what was read with its manifest, and let its model score.

    Raises
    ------
    BundleDigestError
        A file is not the one of the manifest, or the loader counts other records in it than the release had.
    ModelError, RuleError
        As `load_content`; the model is not the manifest's, or a score is no probability.
    """
    check_files(manifest, files)
    content = load_content(files)
    check_counts(manifest, content.counts)
    if content.model_version != manifest.model_version:
        raise ModelError(f"the manifest names model {manifest.model_version!r}, the file is {content.model_version!r}")
    probe(content)
    return content


def probe(content: LoadedContent) -> None:
    """Let the model score rows and the gate judge them.

    Raises
    ------
    ModelError
        A score is no number in [0, 1], or the shares of the features do not add up to it.
    """
    rows = probe_rows(content.model.scorer.n_features)
    scores, logits = content.model.score(rows), content.model.logit(rows)
    if not (np.isfinite(logits).all() and ((scores >= 0.0) & (scores <= 1.0)).all()):
        raise ModelError(f"the model gives {scores.tolist()} where probabilities belong")
    shares, constant = content.model.contributions(rows)
    if not np.allclose(shares.sum(axis=1) + constant, logits, rtol=1e-6, atol=1e-6):
        raise ModelError("the features' shares do not add up to the model's score")
    for event_class in (UNCOUNTED, *EventClass):
        judged = content.gate.judge(scores, np.full(len(rows), int(event_class)))
        if not ((judged.p_values >= 0.0) & (judged.p_values <= 1.0)).all():
            raise ModelError("the calibration gives p-values outside of [0, 1]")


def probe_rows(n_features: int) -> NDArray[np.float64]:
    """Return feature rows: all nothing, all one, rising, and large of both signs.

    Examples
    --------
    >>> probe_rows(2).tolist()
    [[0.0, 0.0], [1.0, 1.0], [0.5, 1.0], [-1000000.0, 1000000.0]]
    """
    rows = np.zeros((_PROBE_ROWS, n_features))
    rows[1] = 1.0
    rows[2] = np.arange(1, n_features + 1) / n_features
    rows[3] = np.where(np.arange(n_features) % 2, 1e6, -1e6)
    return rows


def answer(data: bytes) -> TrialAnswer:
    """Try out an encoded bundle."""
    begin = time.process_time()
    try:
        bundle = msgspec.msgpack.decode(data, type=_Bundle)
        load_verified(Manifest.from_bytes(bundle.manifest), bundle.files)
    except EguardError as error:
        return TrialAnswer(code=error.code, message=error.message, remedy=error.remedy)
    return TrialAnswer(seconds=time.process_time() - begin, peak_bytes=_peak_bytes())


def limit_resources(memory_bytes: int, cpu_seconds: float) -> None:
    """Bound what this process may still take, and give it less of the machine than detection has."""
    if sys.platform == "win32":
        return  # there the parent's time-out is all
    os.nice(10)
    signal.setitimer(signal.ITIMER_PROF, cpu_seconds)  # ends the process; the limit below counts whole seconds alone
    whole_seconds = math.ceil(time.process_time() + cpu_seconds)
    limits: dict[int, int] = {
        resource.RLIMIT_CPU: whole_seconds,
        resource.RLIMIT_AS: _address_space_bytes() + memory_bytes,
        resource.RLIMIT_FSIZE: MAX_ANSWER_BYTES,
        resource.RLIMIT_NOFILE: _OPEN_FILES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, most in limits.items():
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _address_space_bytes() -> int:
    try:
        return int(Path("/proc/self/statm").read_bytes().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 1 << 30


def _peak_bytes() -> int:
    if sys.platform == "win32":
        return 0
    peak: Any = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


def main() -> None:
    """Read a bundle from standard input and print the answer."""
    memory_bytes, cpu_seconds = int(sys.argv[1]), float(sys.argv[2])
    limit_resources(memory_bytes, cpu_seconds)
    sys.stdout.buffer.write(msgspec.json.encode(answer(sys.stdin.buffer.read())))


if __name__ == "__main__":
    main()
