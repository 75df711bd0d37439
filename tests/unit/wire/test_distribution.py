"""Class names on the wire stand at the index of their event class."""

from typing import get_args

import numpy as np

from eguard.events import EventClass
from eguard.wire.distribution import CLASS_NAMES, ClassName, distribution_from_vector, vector_from_distribution


def test_wire_names_are_the_event_classes_in_index_order():
    assert list(CLASS_NAMES) == [event_class.name.lower() for event_class in EventClass]
    assert get_args(ClassName) == CLASS_NAMES


def test_each_name_lands_on_its_own_index():
    for index, name in enumerate(CLASS_NAMES):
        assert np.flatnonzero(vector_from_distribution({name: 1.0})).tolist() == [index]


def test_classes_without_mass_are_not_written():
    vector = np.array([0.0, 0.25, 0.0, 0.0, 0.0, 0.0, 0.0, 0.75])
    assert distribution_from_vector(vector) == {"process_exit": 0.25, "alert": 0.75}
    assert np.array_equal(vector_from_distribution(distribution_from_vector(vector)), vector)
