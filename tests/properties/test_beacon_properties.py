"""One beacon score: the batch form equals the definition written out plainly, on any contacts."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from eguard.estimators import BeaconOptions, beacon_regularity, periodicity_score

# Gaps in eighths of a second, which milliseconds and doubles hold exactly: negative ones are steps of the clock.
GAPS = st.lists(st.one_of(st.integers(-40, 3000), st.integers(1, 7), st.just(480)), min_size=0, max_size=90)
CONTACTS = st.tuples(GAPS, st.integers(0, 2**32 - 1))
OPTIONS = BeaconOptions()


def sequence(gaps, seed):
    """Return times and sizes; sizes come from few values, so that ties and near values occur."""
    rng = np.random.default_rng(seed)
    pool = rng.integers(0, rng.choice([20, 500, 1 << 34]), 6)
    return np.cumsum(gaps) / 8.0, rng.choice(pool, len(gaps))


def plain_scores(times, sizes):
    """Return (regularity, periodicity) of one destination, by the words of the definition."""
    kept_times, kept_sizes, previous = [], [], None
    for time, size in zip(times, sizes, strict=True):
        if previous is None or time > previous:
            gap = 0.0 if previous is None else time - previous
            kept_times.append((kept_times[-1] if kept_times else 0.0) + gap)
            kept_sizes.append(min(int(size), 2**32 - 1))
        previous = time
    stamps, payload = np.array(kept_times[-256:]), np.array(kept_sizes[-256:])
    beats = np.append(True, np.diff(stamps) >= 1.0)
    best, timing = 0.0, 0.0
    for view in (slice(None), beats) if not beats.all() else (slice(None),):
        if stamps[view].size < OPTIONS.min_observations:
            continue
        # Bursts stay apart where the plain view is asked for: a stretched clock has none.
        stretch = 1.0 if view is beats else 2.0**10
        part = periodicity_score(stretch * stamps[view])
        timing = max(timing, part.score)
        if part.span_seconds / stretch >= OPTIONS.min_span_seconds:
            values, median = payload[view], np.median(payload[view])
            mode = np.unique(values, return_counts=True)[1].max() / values.size
            near = np.mean(np.abs(values - median) <= 0.1 * median + 8.0)
            best = max(best, 0.75 * part.score + 0.25 * max(mode, near))
    return best, timing


@given(st.lists(CONTACTS, min_size=1, max_size=5))
def test_the_batch_form_is_the_definition(destinations):
    sequences = [sequence(gaps, seed) for gaps, seed in destinations]
    offsets = np.concatenate([[0], np.cumsum([len(times) for times, _ in sequences])])
    times, sizes = (np.concatenate(column) for column in zip(*sequences, strict=True))
    scores = beacon_regularity(times, sizes, offsets)
    for index, contacts in enumerate(sequences):
        regularity, periodicity = plain_scores(*contacts) if len(contacts[0]) else (0.0, 0.0)
        assert math.isclose(scores.regularity[index], regularity, abs_tol=1e-9)
        assert math.isclose(scores.periodicity[index], periodicity, abs_tol=1e-9)


@given(st.lists(CONTACTS, min_size=1, max_size=5), st.floats(0.0, 1.0))
def test_everything_stays_in_its_range_and_reach_only_lowers(destinations, reach):
    sequences = [sequence(gaps, seed) for gaps, seed in destinations]
    offsets = np.concatenate([[0], np.cumsum([len(times) for times, _ in sequences])])
    times, sizes = (np.concatenate(column) for column in zip(*sequences, strict=True))
    scores = beacon_regularity(times, sizes, offsets)
    for name in ("regularity", "timer", "symmetry", "size_regularity", "count_regularity", "periodicity"):
        values = getattr(scores, name)
        assert ((values >= 0.0) & (values <= 1.0)).all()
    assert (np.isnan(scores.period_seconds) == ~scores.is_scored).all()
    assert (scores.n_observations + scores.n_skipped <= np.diff(offsets)).all()
    stopped = beacon_regularity(times, sizes, offsets, reach=reach)
    assert (stopped.regularity <= scores.regularity).all()
    assert ((stopped.regularity >= reach) == (scores.regularity >= reach)).all()


@given(CONTACTS, st.integers(-(2**40), 2**40))
def test_the_origin_of_time_does_not_matter(contacts, origin):
    times, sizes = sequence(*contacts)
    here = beacon_regularity(times, sizes, [0, times.size])
    there = beacon_regularity(times + origin, sizes, [0, times.size])
    for name in here.__dataclass_fields__:
        assert np.array_equal(getattr(here, name), getattr(there, name), equal_nan=True)
