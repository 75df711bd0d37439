"""Distributions over the eight event classes: names on the wire, positions in arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from eguard.events import N_EVENT_CLASSES

ClassName = Literal[
    "process_exec",
    "process_exit",
    "file_open",
    "network_connect",
    "dns_query",
    "module_load",
    "login",
    "alert",
]
#: Wire names in index order.
CLASS_NAMES: Final[tuple[ClassName, ...]] = (
    "process_exec",
    "process_exit",
    "file_open",
    "network_connect",
    "dns_query",
    "module_load",
    "login",
    "alert",
)
Probability = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
#: How far a distribution on the wire may be from summing to 1.
SUM_TOLERANCE: Final = 1e-6

_INDEX: Final[dict[str, int]] = {name: index for index, name in enumerate(CLASS_NAMES)}


def distribution_from_vector(probabilities: ArrayLike) -> dict[ClassName, float]:
    """Return a distribution by class name, in index order, without the classes that have no mass.

    Parameters
    ----------
    probabilities : array_like of shape (8,)
        Non-negative, summing to 1.

    Examples
    --------
    >>> distribution_from_vector([0.75, 0, 0.25, 0, 0, 0, 0, 0])
    {'process_exec': 0.75, 'file_open': 0.25}
    """
    values = np.asarray(probabilities, dtype=np.float64).tolist()
    return {name: value for name, value in zip(CLASS_NAMES, values, strict=True) if value > 0.0}


def vector_from_distribution(distribution: Mapping[ClassName, float]) -> NDArray[np.float64]:
    """Return a distribution as an array of shape (8,); a class that is not named has probability 0.

    Examples
    --------
    >>> vector_from_distribution({"file_open": 1.0}).tolist()
    [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    """
    vector = np.zeros(N_EVENT_CLASSES)
    for name, probability in distribution.items():
        vector[_INDEX[name]] = probability
    return vector
