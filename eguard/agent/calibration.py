"""Scored events of this host, drawn uniformly and kept as features: what thresholds rest on, here and on the server.

Every hour of events is one sample of fixed size, in which each of its scored events is with the same probability. What
an analyst or a threshold makes of an event has no say in that: a sample from which the alarming were taken out would
give a lower threshold every time. Attacks among them are taken out by the server, by verdicts.

The latest samples stay here, at most so many rows, over restarts; a model that is loaded scores them anew.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import structlog

from eguard.baseline.portable_calls import SAFE_FLAGS, replace_file
from eguard.detection.engine import EngineOutput, Loaded
from eguard.detection.feature_contract import N_FEATURES, contract_sha256
from eguard.detection.recalibration import CalibrationRows
from eguard.detection.reservoir import UniformReservoir

FILE_NAME: Final = "calibration.bin"
#: Rows that are kept, the newest; some 450 bytes each.
KEPT_EVENTS: Final = 512
_FORMAT: Final = 1
_ROW_BYTES: Final = N_FEATURES * 8
_FILE_MODE: Final = 0o600
_MAX_FILE_BYTES: Final = 4_000_000

_log = structlog.get_logger("eguard.agent")


class KeptEvent(msgspec.Struct, kw_only=True):
    """One scored event. `features` are 43 little-endian float64; `is_waiting` says that the server has it not yet."""

    sample_id: str
    event_class: int
    signal: str
    observed_at_unix: float
    features: bytes
    score: float | None = None
    model_digest: str = ""
    event_id: str = ""
    is_waiting: bool = True

    def __post_init__(self) -> None:
        if len(self.features) != _ROW_BYTES or not np.isfinite(np.frombuffer(self.features, "<f8")).all():
            raise ValueError("a feature row is damaged")
        if not -1 <= self.event_class < 8:
            raise ValueError(f"there is no event class {self.event_class}")


class _File(msgspec.Struct):
    format: int
    contract_sha256: str
    events: list[KeptEvent]


class CalibrationKeeper:
    """The sample under way, and those before.

    Parameters
    ----------
    path : Path
        File of what is kept.
    sample_events : int
        Events of one sample; 0 draws and keeps none.
    rng : numpy.random.Generator
        Decides who is drawn. On an endpoint nobody should be able to foresee it.
    name : str
        What tells this agent's samples from all others': its incarnation.

    Attributes
    ----------
    dropped_total : int
        Events that fell out before the server had them.
    """

    def __init__(self, path: Path, sample_events: int, rng: np.random.Generator, name: str = "") -> None:
        self._path = path
        self._name = name
        self._reservoir = UniformReservoir(sample_events, rng)
        self._drawn: dict[int, KeptEvent] = {}
        self.dropped_total = 0
        self._kept: deque[KeptEvent] = deque(self._read() if sample_events else [], KEPT_EVENTS)

    @property
    def seen(self) -> int:
        """Scored events that the sample under way is drawn from."""
        return self._reservoir.seen

    def __len__(self) -> int:
        return len(self._kept)

    def observe(self, output: EngineOutput, loaded: Loaded) -> None:
        """Offer the scored events of a batch; `loaded` is what they were scored with."""
        first = self._reservoir.seen
        accepted = self._reservoir.offer(len(output.candidates)).tolist()
        if not accepted:
            return
        alerts = dict(zip(output.alert_rows.tolist(), (alert.alert_id for alert in output.alerts), strict=True))
        for row in accepted:
            self._drawn[first + row] = self._event(output, loaded, row, first + row, alerts.get(row, ""))
        # Whoever had to make room is forgotten at once: memory is that of one sample.
        inside = set(self._reservoir.sample().tolist())
        self._drawn = {position: event for position, event in self._drawn.items() if position in inside}

    def close_sample(self) -> None:
        """Keep the sample under way and begin the next one."""
        for _, event in sorted(self._drawn.items()):
            if len(self._kept) == KEPT_EVENTS:
                self.dropped_total += self._kept[0].is_waiting
            self._kept.append(event)
        had_events = bool(self._drawn)
        self._drawn = {}
        self._reservoir.reset()
        if had_events:
            self._write()

    def rows(self) -> CalibrationRows:
        """Return the events that are kept, as a model scores them."""
        events = list(self._kept)
        matrix = np.frombuffer(b"".join(event.features for event in events), "<f8").reshape(-1, N_FEATURES)
        return CalibrationRows(
            matrix.astype(np.float64),
            np.array([event.event_class for event in events], np.int8),
            [event.signal for event in events],
        )

    def waiting(self, limit: int) -> Sequence[KeptEvent]:
        """Return events that the server has not, oldest first, at most `limit`."""
        return [event for event in self._kept if event.is_waiting][:limit]

    def arrived(self, sample_ids: Collection[str]) -> None:
        """Remember that the server has these events, or will never take them; they stay for recalibration."""
        for event in self._kept:
            if event.sample_id in sample_ids:
                event.is_waiting = False
        self._write()

    def describe(self) -> dict[str, Any]:
        """Return how many events are kept and wait, as plain values."""
        return {
            "kept": len(self._kept),
            "waiting": sum(event.is_waiting for event in self._kept),
            "seen": self.seen,
            "dropped": self.dropped_total,
        }

    def _event(self, output: EngineOutput, loaded: Loaded, row: int, position: int, event_id: str) -> KeptEvent:
        batch, model = output.candidates.batch, loaded.model
        time_unix = float(batch.time_unix[row])
        identity = f"{self._name}\x1f{time_unix!r}\x1f{position}\x1f{event_id}".encode(errors="surrogatepass")
        return KeptEvent(
            sample_id=hashlib.blake2b(identity, digest_size=16).hexdigest(),
            event_class=int(batch.event_class[row]),
            # A lone surrogate of a hostile name has no form in UTF-8.
            signal=output.candidates.keys[row].encode("utf-8", "backslashreplace").decode()[:255],
            observed_at_unix=time_unix,
            features=output.features[row].astype("<f8").tobytes(),
            score=None if output.scores is None else float(output.scores[row]),
            model_digest="" if model is None else model.digest,
            event_id=event_id,
        )

    def _read(self) -> list[KeptEvent]:
        """Return what the file holds; one that cannot be used is as good as none, and is written anew."""
        try:
            with self._path.open("rb") as stream:
                content = stream.read(_MAX_FILE_BYTES)
            kept = msgspec.msgpack.decode(content, type=_File)
        except FileNotFoundError:
            return []
        except (OSError, ValueError, msgspec.MsgspecError) as error:
            _log.warning("kept calibration events cannot be used", file=str(self._path), reason=str(error)[:200])
            return []
        if kept.format != _FORMAT or kept.contract_sha256 != contract_sha256():
            _log.info("kept calibration events are of another release", file=str(self._path))
            return []
        return kept.events[-KEPT_EVENTS:]

    def _write(self) -> None:
        """Write what is kept. It is not synced: after a power cut an hour's sample may be missing, and no more."""
        content = msgspec.msgpack.encode(_File(_FORMAT, contract_sha256(), list(self._kept)))
        temporary = self._path.with_name(f".{self._path.name}.new")
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | SAFE_FLAGS, _FILE_MODE)
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            replace_file(temporary, self._path)
        except OSError as error:
            _log.warning("calibration events are kept in memory only", file=str(self._path), reason=str(error))
