"""How often the fleet's charts alarm on a stationary noisy fleet, and how soon they find a lasting shift.

A fleet of 20 agents that differ (Dirichlet of concentration 60 about each of 5 programs), 9 of 10 of which report in a
cycle, 1,000 fresh events a profile; the reference is one generation.
"""

import numpy as np
import pytest

from eguard.estimators import jensen_shannon_bias_nats, jensen_shannon_nats
from eguard.fleet.charts import BURN_IN_CYCLES, Measured, PreviousChart, ReferenceChart
from eguard.fleet.influence import agreed

pytestmark = pytest.mark.slow

AGENTS, KEYS, EVENTS, CLASSES = 20, 5, 1000, 8
CYCLES = 200
RUNS = 30


def published(rng, cycles, shift_at=None, share=0.0, *, lifetime=False):
    """Return what is published in each cycle, shape (cycles, KEYS, CLASSES)."""
    programs = rng.dirichlet(np.full(CLASSES, 2.0), KEYS)
    own = np.stack([rng.dirichlet(60 * each, AGENTS) for each in programs])
    moved = (1 - share) * own + share * np.eye(CLASSES)[3]
    total = np.zeros((KEYS, AGENTS, CLASSES))
    found = np.empty((cycles, KEYS, CLASSES))
    for cycle in range(cycles):
        counts = rng.multinomial(EVENTS, own if shift_at is None or cycle < shift_at else moved)
        total = total + counts if lifetime else counts
        present = rng.random(AGENTS) < 0.9
        votes = total[:, present]
        found[cycle] = agreed(votes / votes.sum(axis=-1, keepdims=True))
    return found


def charted(generations):
    """Return, a cycle from the second on, the detectors that alarmed; what is found is not learned."""
    bias = 7 * jensen_shannon_bias_nats(0.6 * AGENTS * EVENTS, 0.6 * AGENTS * EVENTS, d=2)
    pinned, previous, found = ReferenceChart(), PreviousChart(), []
    is_open = False
    for number in range(1, len(generations)):
        to_reference = float(jensen_shannon_nats(generations[number], generations[0]).mean())
        to_previous = float(jensen_shannon_nats(generations[number], generations[number - 1]).mean())
        kinds = [each.kind for each in pinned.update(Measured(to_reference, bias, 1), is_suspected=is_open)]
        kinds += [each.kind for each in previous.update(Measured(to_previous, bias, number))]
        is_open = is_open or bool(kinds)
        found.append(kinds)
    return found


@pytest.fixture(scope="module")
def stationary():
    rng = np.random.default_rng(12)
    return [charted(published(rng, CYCLES + BURN_IN_CYCLES + 1)) for _ in range(RUNS)]


def test_a_stationary_fleet_alarms_less_than_once_in_a_thousand_cycles(stationary):
    with_false_alarm = sum(any(run) for run in stationary)
    # 6,000 cycles: at one in a thousand about 6 runs are expected, and 2 or fewer would have probability .06.
    assert with_false_alarm <= 2


@pytest.mark.parametrize(("share", "median"), [(0.1, 4), (0.2, 3)])
def test_a_lasting_shift_is_found_within_days(share, median):
    rng = np.random.default_rng(13)
    at = BURN_IN_CYCLES + 31
    delays = []
    for _ in range(RUNS):
        found = charted(published(rng, at + 40, shift_at=at, share=share))[at - 1 :]
        delays.append(next((number for number, kinds in enumerate(found, 1) if "cusum" in kinds), None))
    assert None not in delays
    assert np.median(delays) <= median


def test_lifetime_profiles_hide_a_shift_for_longer():
    # Profiles that hold all that an agent ever did move by one cycle's share of their life.
    rng = np.random.default_rng(14)
    at = BURN_IN_CYCLES + 31
    delays = []
    for _ in range(10):
        found = charted(published(rng, at + 60, shift_at=at, share=0.1, lifetime=True))[at - 1 :]
        delays.append(next((number for number, kinds in enumerate(found, 1) if kinds), 61))
    assert 5 < np.median(delays) <= 60
