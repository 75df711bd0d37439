"""Analysts' verdicts joined to signals: the latest verdict on a signal counts, earlier ones are remembered as such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import pandas as pd

from eguard.errors import CorruptFileError

#: What a verdict says of a signal (contracts, `alert_feedback`).
VERDICT_LABELS: Final = {"true_positive": 1, "false_positive": 0, "benign": 0}


class Adjudication(msgspec.Struct, frozen=True, kw_only=True):
    """One verdict of one analyst on one signal."""

    sample_id: str
    verdict: str
    analyst: str
    adjudicated_at_unix: float


def read_adjudications(path: Path) -> pd.DataFrame:
    """Read verdicts, one JSON object a line, oldest first; an absent file is an empty one.

    Raises
    ------
    CorruptFileError
        A line is not a verdict; the message gives its number.
    """
    decoder = msgspec.json.Decoder(Adjudication)
    verdicts = []
    if path.exists():
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            try:
                verdict = decoder.decode(line)
            except msgspec.DecodeError as error:
                raise CorruptFileError(
                    f"{path}, line {number}: {error}", remedy="Export the feedback again.", line=number
                ) from error
            if verdict.verdict not in VERDICT_LABELS:
                raise CorruptFileError(f"{path}, line {number}: no such verdict: {verdict.verdict!r}", line=number)
            verdicts.append(verdict)
    return verdict_table([msgspec.structs.asdict(verdict) for verdict in verdicts])


def verdict_table(verdicts: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return verdicts as a table, oldest first."""
    table = pd.DataFrame(list(verdicts))
    if table.empty:
        return pd.DataFrame({name: pd.Series(dtype=object) for name in Adjudication.__struct_fields__})
    return table.sort_values(["adjudicated_at_unix", "analyst", "verdict"], kind="stable", ignore_index=True)


def join_adjudications(signals: pd.DataFrame, path: Path, *, shipped_delay_seconds: float) -> pd.DataFrame:
    """Return `signals` with the verdicts of a file; see `join_verdicts`."""
    return join_verdicts(signals, read_adjudications(path), shipped_delay_seconds=shipped_delay_seconds)


def join_verdicts(signals: pd.DataFrame, verdicts: pd.DataFrame, *, shipped_delay_seconds: float) -> pd.DataFrame:
    """Return `signals` with ``adjudicated_at_unix``, ``analyst``, ``n_verdicts`` and ``is_contested``.

    A signal with verdicts takes the latest one as its label and ``analyst_feedback`` as its label source; it is
    contested if two analysts' latest verdicts mean different labels. A shipped label bears neither a time nor a name:
    it counts as given `shipped_delay_seconds` after the signal, by nobody.
    """
    joined = signals.copy()
    has_label = joined["label"].notna()
    joined["adjudicated_at_unix"] = joined["observed_at_unix"].where(has_label) + shipped_delay_seconds
    joined["analyst"] = pd.Series([None] * len(joined), dtype=object, index=joined.index)
    joined["n_verdicts"] = has_label.to_numpy(np.int64)
    joined["is_contested"] = False
    if verdicts.empty:
        return joined
    verdicts = verdicts.assign(label=verdicts["verdict"].map(VERDICT_LABELS))
    by_signal = verdicts.groupby("sample_id")
    latest = by_signal.last()
    said = verdicts.groupby(["sample_id", "analyst"])["label"].last().groupby("sample_id")
    is_contested = said.max() > said.min()
    rows = joined.index[joined["sample_id"].isin(latest.index)]
    ids = joined.loc[rows, "sample_id"]
    joined["label_source"] = joined["label_source"].astype(object)
    joined.loc[rows, "label_source"] = "analyst_feedback"
    joined.loc[rows, "label"] = latest["label"].loc[ids].to_numpy()
    for name in ("analyst", "adjudicated_at_unix"):
        joined.loc[rows, name] = latest[name].loc[ids].to_numpy()
    joined.loc[rows, "n_verdicts"] = by_signal.size().loc[ids].to_numpy()
    joined.loc[rows, "is_contested"] = is_contested.loc[ids].to_numpy()
    return joined
