"""Why a score is what it is: the largest contributions, and an alert as a few readable lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from eguard.detection.alert import Alert, Contribution
from eguard.detection.model import Model


def largest_contributions(
    model: Model, features: NDArray[np.float64], names: Sequence[str], count: int = 5
) -> list[tuple[Contribution, ...]]:
    """Return the `count` features that moved each row's logit most, largest magnitude first.

    Ties are broken by the feature's index, so that a replay explains alike.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Rows with columns 7 and 41 filled.
    names : sequence of str, length n_features
        Names of the features.
    """
    if not len(features):
        return []
    shares, _ = model.contributions(features)
    order = np.argsort(-np.abs(shares), axis=1, kind="stable")[:, :count]
    return [
        tuple(
            Contribution(names[index], float(features[row, index]), float(shares[row, index]))
            for index in order[row].tolist()
            if shares[row, index] != 0.0
        )
        for row in range(len(features))
    ]


def printable(text: str, limit: int = 200) -> str:
    r"""Return `text` for a terminal: control characters escaped, cut at `limit`.

    Examples
    --------
    >>> printable("rm -rf \x1b[31m/")
    'rm -rf \\x1b[31m/'
    """
    shown = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text[:limit])
    return shown + ("…" if len(text) > limit else "")


def alert_to_text(alert: Alert) -> str:
    """Return an alert as lines for a person, safe to print."""
    lines = [f"{alert.confidence:<9} {printable(alert.process_key)} on {printable(alert.host_id)}"]
    lines.append(f"  because   {', '.join(alert.reasons)}")
    if alert.command_line:
        lines.append(f"  command   {printable(alert.command_line)}")
    if alert.ancestors:
        lines.append(f"  ancestors {' < '.join(map(printable, alert.ancestors))}")
    lines += [
        f"  rule      {rule.title} ({rule.level}; {rule.rule_id}, {printable(rule.author)})" for rule in alert.rules
    ]
    if alert.techniques:
        lines.append(f"  ATT&CK    {', '.join(alert.techniques)}")
    if alert.score is not None:
        limit = "none: insufficient calibration" if alert.threshold is None else f"{alert.threshold:.4f}"
        p_value = "-" if alert.p_value is None else f"{alert.p_value:.4f}"
        lines.append(f"  score     {alert.score:.4f} (threshold {limit}, p {p_value}, model {alert.model_version})")
    lines += [f"  feature   {part.logit:+.3f}  {part.feature} = {part.value:.3f}" for part in alert.contributions]
    if alert.window is not None:
        lines.append(f"  window    KL {alert.window.kl_bits:.3f} bits against its baseline")
    return "\n".join(lines)
