"""Why a score is what it is: the largest contributions, and an alert as a few readable lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from eguard.detection.alert import Alert, Contribution
from eguard.detection.model import Model
from eguard.events.model import EventClass

_CLASS_NAMES: Final = tuple(event_class.name.lower() for event_class in EventClass)
#: Event classes with less than this share in both distributions are not printed.
_SHOWN_SHARE: Final = 0.005


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one row got its logit: `base_logit`, the features named in `largest`, and the rest of them."""

    logit: float
    base_logit: float
    largest: tuple[Contribution, ...]


def explain_rows(
    model: Model, features: NDArray[np.float64], names: Sequence[str], count: int = 5
) -> list[Explanation]:
    """Return for each row the `count` features that moved its logit most, largest magnitude first.

    Ties are broken by the feature's index, so that a replay explains alike; features that moved nothing are left out.

    Parameters
    ----------
    features : ndarray of shape (n, n_features)
        Rows with columns 7 and 41 filled.
    names : sequence of str, length n_features
        Names of the features.
    """
    if not len(features):
        return []
    shares, constant = model.contributions(features)
    logits = model.logit(features)
    order = np.argsort(-np.abs(shares), axis=1, kind="stable")[:, :count]
    return [
        Explanation(
            logit=float(logits[row]),
            base_logit=float(constant),
            largest=tuple(
                Contribution(names[index], float(features[row, index]), float(shares[row, index]))
                for index in order[row].tolist()
                if shares[row, index] != 0.0
            ),
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
    """Return an alert as lines for a person, safe to print.

    Names, paths, command lines and rule texts come from outside: their control characters are escaped, so that none
    can forge a line or steer the terminal.
    """
    lines = [
        f"{alert.confidence:<9} {printable(alert.process_key)} on {printable(alert.host_id)} ({alert.response})",
        f"  because   {printable(', '.join(alert.reasons))}",
    ]
    if alert.command_line:
        lines.append(f"  command   {printable(alert.command_line)}")
    if alert.target:
        lines.append(f"  target    {printable(alert.target)}")
    if alert.ancestors:
        lines.append(f"  ancestors {' < '.join(map(printable, alert.ancestors))}")
    lines += [
        f"  rule      {printable(rule.title)} ({printable(rule.level)}; {printable(rule.rule_id)}, by "
        f"{printable(rule.author)})"
        for rule in alert.rules
    ]
    if alert.techniques:
        lines.append(f"  ATT&CK    {printable(', '.join(alert.techniques))}")
    return "\n".join([*lines, *_score_lines(alert), *_window_lines(alert)])


def _score_lines(alert: Alert) -> list[str]:
    if alert.score is None:
        return []
    limit = "none: insufficient calibration" if alert.threshold is None else f"{alert.threshold:.4f}"
    p_value = "-" if alert.p_value is None else f"{alert.p_value:.4f}"
    lines = [f"  score     {alert.score:.4f} (threshold {limit}, p {p_value}, model {printable(alert.model_version)})"]
    lines += [f"  feature   {part.logit:+.3f}  {part.feature} = {part.value:.3f}" for part in alert.contributions]
    if alert.logit is not None and alert.base_logit is not None:
        rest = alert.logit - alert.base_logit - sum(part.logit for part in alert.contributions)
        lines.append(f"            {rest:+.3f}  other features; {alert.base_logit:+.3f} base; {alert.logit:+.3f} logit")
    return lines


def _window_lines(alert: Alert) -> list[str]:
    if alert.window is None:
        return []
    shown = alert.window
    limit = "" if shown.threshold_bits is None else f", threshold {shown.threshold_bits:.3f}"
    shares = [
        f"{name} {now:.2f} ({usual:.2f})"
        for name, now, usual in zip(_CLASS_NAMES, shown.window, shown.baseline, strict=False)
        if max(now, usual) >= _SHOWN_SHARE
    ]
    return [f"  window    KL {shown.kl_bits:.3f} bits{limit}: {', '.join(shares)}; usual shares in brackets"]
