"""The golden attack set: shipped attacks that no verdict of the fleet can touch, and no model may forget.

Labels of the fleet may be wrong, by accident or on purpose, and the holdout with them. These rows are not: they are the
attacks of the shipped networks that training never sees.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from eguard.detection.feature_contract import contract_sha256
from eguard.detection.model import Model, load_model
from eguard.errors import ModelError
from eguard.mlops.corpus_selection import LIVE_SOURCE
from eguard.mlops.dataset import load_dataset
from eguard.mlops.holdout_evaluation import filled_features
from eguard.mlops.splits import plan_holdout


def golden_recall(path: Path, fraction: float, model: Model, previous: Any) -> dict[str, Any] | None:
    """Return the share of golden attacks that the model and the one before find, each at its operating point.

    Parameters
    ----------
    path : Path
        The shipped corpus; without it there is no golden set.
    fraction : float
        Share of the corpus held out, as in training: the attacks are those of the held-out networks.
    model : Model
        The model to be judged.
    previous : dict or None
        Model JSON of the run before.

    Returns
    -------
    dict or None
        Attacks, recall, the previous model's recall and the drop, which are None where there is none to compare with.
        Every attack row counts once, scan floods are left out.
    """
    if not path.exists():
        return None
    data = load_dataset(path).labelled()
    data = data.take(data.sources != LIVE_SOURCE)
    rows = plan_holdout(data, fraction).held_out & (data.labels == 1) & ~data.is_flood
    if not rows.any():
        return None

    def recall(judged: Model) -> float:
        return float(np.mean(judged.score(filled_features(judged, data, rows)) >= judged.threshold))

    older = None
    if previous is not None:
        try:
            older = recall(load_model(previous, expected_contract_sha256=contract_sha256()))
        except ModelError:
            older = None  # of another contract: the comparison on the holdout says so
    found = recall(model)
    return {
        "attacks": int(rows.sum()),
        "networks": sorted({data.names.networks[code] for code in data.networks[rows].tolist()}),
        "recall": found,
        "previous_recall": older,
        "drop": None if older is None else older - found,
    }
