"""Contacts, views and parts by hand."""

import math

import numpy as np
import pytest

from eguard.estimators.beacon_views import SATURATED, Contacts, accept_contacts, two_views, view_parts


def accepted(times, sizes=None, offsets=None, most=256):
    times = np.asarray(times, dtype=float)
    sizes = np.zeros(times.size) if sizes is None else np.asarray(sizes, dtype=float)
    return accept_contacts(times, sizes, np.array([0, times.size] if offsets is None else offsets), most)


def test_times_become_intervals_and_what_does_not_advance_is_skipped():
    contacts, skipped = accepted([10.0, 10.0, 11.5, 3.0, 3.25, 3.2504, 4.0], sizes=[1, 2, 3, 4, 5, 6, 7])
    assert contacts.gaps.tolist() == [0, 1500, 250, 750]
    assert contacts.sizes.tolist() == [1, 3, 5, 7]
    assert skipped.tolist() == [3]  # the last of them within the same millisecond


def test_the_last_accepted_contacts_are_kept_for_each_destination():
    times = [1, 2, 3, 4, 100, 200, 7]
    contacts, skipped = accepted(times, sizes=times, offsets=[0, 4, 4, 6, 7], most=2)
    assert contacts.offsets.tolist() == [0, 2, 2, 4, 5]
    assert contacts.sizes.tolist() == [3, 4, 100, 200, 7]
    assert contacts.gaps.tolist() == [0, 1000, 0, 100_000, 0]
    assert skipped.tolist() == [0, 0, 0, 0]


def test_what_32_bits_cannot_hold_saturates():
    contacts, _ = accepted([0.0, 1e10], sizes=[1e300, 2.0**40])
    assert contacts.gaps.tolist() == [0, SATURATED]
    assert contacts.sizes.tolist() == [SATURATED, SATURATED]


def test_views_are_all_contacts_and_the_first_of_every_burst():
    gaps = np.array([99, 500, 999, 1000, 10, 0, 2000, 2000])  # the first of a destination means nothing
    views = two_views(Contacts(gaps, np.arange(8), np.array([0, 5, 8])), 2, 1000)
    assert views.destination.tolist() == [0, 1, 0]
    assert views.is_merged.tolist() == [False, False, True]
    assert views.offsets.tolist() == [0, 5, 8, 10]
    assert views.elapsed.tolist() == [0, 500, 1499, 2499, 2509, 0, 2000, 4000, 0, 2499]
    assert views.sizes.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0, 3]


def test_views_with_too_few_contacts_are_left_out():
    gaps = np.array([0, 1, 1, 0, 5000])
    views = two_views(Contacts(gaps, gaps, np.array([0, 3, 5])), 3, 1000)
    assert (views.destination.tolist(), views.is_merged.tolist()) == ([0], [False])


def test_parts_by_hand():
    # Intervals 1, 2, 3, 4 and 10 s; sizes 100, 100, 105, 118, 119, 900.
    gaps = np.array([0, 1000, 2000, 3000, 4000, 10_000])
    sizes = np.array([100, 100, 105, 118, 119, 900])
    parts = view_parts(two_views(Contacts(gaps, sizes, np.array([0, 6])), 3, 1000))
    assert parts.median_milliseconds[0] == 3000.0
    assert parts.dispersion[0] == pytest.approx(1.0 - 1.0 / 3.0)  # deviations 2, 1, 0, 1, 7
    assert parts.symmetry[0] == pytest.approx(1.0 - (7.0 + 1.5 - 6.0) / 5.5)  # quartiles 1.5 and 7
    assert parts.size_regularity[0] == pytest.approx(5 / 6)  # within 19.15 of 111.5
    assert parts.span_milliseconds[0] == 20_000.0
    # Slices of 1.667 s: contacts at 0, 1 | 3 | 6 | 10 | 20.
    deviation = math.sqrt((1.5**2 + 4 * 0.5**2 + 7 * 0.5**2) / 12)
    assert parts.count_regularity[0] == pytest.approx(max(0.0, 1.0 - (deviation - 0.5) / 0.5) * 5 / 12)
