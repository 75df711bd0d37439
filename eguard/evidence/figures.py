"""How figures and findings look in every notebook: one style, colour-blind-safe colours, findings computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import matplotlib as mpl
import pandas as pd
from cycler import cycler
from IPython.display import Markdown, display

#: Okabe and Ito's colours, which people with any colour vision can tell apart.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
ATTACK, BENIGN, QUIET = COLOURS[1], COLOURS[0], "#9aa9b8"
_STYLE: Final[dict[Any, Any]] = {
    "figure.figsize": (8.0, 3.6),
    "figure.dpi": 110,
    "savefig.bbox": "tight",
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e9ef",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "eguard",
}


def use_house_style() -> None:
    """Set matplotlib and pandas up for a notebook."""
    mpl.rcParams.update(_STYLE)
    mpl.rcParams["axes.prop_cycle"] = cycler(color=list(COLOURS))
    pd.set_option("display.precision", 3)
    pd.set_option("display.max_rows", 80)


def finding(text: str) -> None:
    """Show a sentence whose numbers were computed in the notebook."""
    display(Markdown(f"**Finding.** {text}"))


def interval(figure: Mapping[str, Any], digits: int = 3) -> str:
    """Return a metric with its interval as text.

    Examples
    --------
    >>> print(interval({"value": 0.51234, "interval": [0.4, 0.625]}))
    0.512\N{NO-BREAK SPACE}(0.400\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}0.625)
    >>> interval({"value": None, "interval": None})
    'no answer'
    """
    if figure["value"] is None:
        return "no answer"
    text = f"{figure['value']:.{digits}f}"
    if figure["interval"] is None:
        return text
    low, high = figure["interval"]
    # Non-breaking blanks: an interval stays on its line in a narrow table.
    return f"{text} ({low:.{digits}f} to {high:.{digits}f})".replace(" ", "\N{NO-BREAK SPACE}")
