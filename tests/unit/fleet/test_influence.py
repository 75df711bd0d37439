"""Who moved an aggregate: exact leave-one-out, and groups that show only together."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eguard.estimators import aggregate_distributions
from eguard.fleet.influence import KeyVotes, agreed, leave_one_out, trace_shift, undone

EVENTS = 1000


def fleet_of(kind, *, liars=0, agents=40, keys=12, seed=4, share=0.15):
    """Votes on keys after honest agents moved by `share`, or liars by it, and what the votes agreed on before."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(keys):
        behaviour = rng.dirichlet(60 * rng.dirichlet(np.full(8, 2.0)), agents)
        reference = agreed(rng.multinomial(EVENTS, behaviour) / EVENTS)
        moving = slice(0, liars) if kind == "liars" else slice(None)
        behaviour[moving] = (1 - share) * behaviour[moving] + share * np.eye(8)[3]
        votes = rng.multinomial(EVENTS, behaviour) / EVENTS
        found.append(KeyVotes(f"k{number}:i", np.arange(agents), votes, np.full(agents, EVENTS), reference))
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(2, 12), st.integers(0, 2**32 - 1), st.booleans())
def test_leaving_one_out_is_aggregating_the_others(n_votes, seed, has_ties):
    votes = np.random.default_rng(seed).dirichlet(np.ones(8), n_votes)
    if has_ties:
        votes = votes[np.random.default_rng(seed).integers(0, n_votes, n_votes)]
    expected = [agreed(np.delete(votes, number, axis=0)) for number in range(n_votes)]
    assert leave_one_out(votes) == pytest.approx(np.array(expected), abs=1e-12)


def test_votes_agree_on_what_the_aggregation_publishes():
    votes = fleet_of("liars", liars=3)[0].votes
    assert agreed(votes) == pytest.approx(aggregate_distributions(votes).distribution, abs=1e-12)


@pytest.mark.parametrize(("liars", "share"), [(8, 1.0), (12, 1.0), (12, 0.3), (4, 0.5)])
def test_a_coordinated_minority_is_named_exactly(liars, share):
    found = trace_shift(fleet_of("liars", liars=liars, share=share), 40)
    assert found.stands_apart
    assert np.flatnonzero(found.group).tolist() == list(range(liars))
    assert found.undone > 0.5
    assert found.smallest_set <= 14


def test_one_liar_alone_moves_next_to_nothing_but_all_together_do():
    found = trace_shift(fleet_of("liars", liars=12, share=1.0), 40)
    assert np.abs(found.alone).max() < 0.25
    assert found.undone > 0.8


@pytest.mark.parametrize("share", [0.05, 0.15, 0.4])
def test_a_change_of_everybody_has_no_group_and_no_small_set(share):
    found = trace_shift(fleet_of("all", share=share), 40)
    assert not found.stands_apart
    assert found.smallest_set > 0.75 * 40


def test_a_small_shift_inside_ordinary_differences_does_not_single_anybody_out():
    found = trace_shift(fleet_of("all", share=0.0), 40)
    assert not found.stands_apart
    assert 0.1 * 40 < found.smallest_set < 0.75 * 40


def test_what_is_undone_follows_by_hand():
    # Medians .2, .4 and .6 of the first class; the reference is .2.
    votes = np.array([[0.2, 0.8], [0.4, 0.6], [0.6, 0.4]])
    key = KeyVotes("k:i", np.arange(3), votes, np.full(3, EVENTS), np.array([0.2, 0.8]))
    masks = np.array([[0, 0, 0], [0, 0, 1], [0, 1, 1], [1, 0, 0], [1, 1, 1]], dtype=bool)
    without = [undone([key], mask) for mask in masks]
    assert without == pytest.approx([0.0, 0.5, 1.0, -0.5, 1.0])


def test_a_key_that_did_not_move_explains_nothing():
    votes = np.tile([0.5, 0.5], (5, 1))
    key = KeyVotes("k:i", np.arange(5), votes, np.full(5, EVENTS), np.array([0.5, 0.5]))
    found = trace_shift([key], 5)
    assert (found.undone, found.stands_apart, found.separation) == (0.0, False, 0.0)
    assert np.array_equal(found.score, np.zeros(5))


def test_agents_that_vote_on_some_keys_only_are_counted_on_these():
    first, second = fleet_of("liars", liars=6, keys=2, share=1.0)
    some = np.arange(0, 40, 2)
    second = second._replace(agents=some, votes=second.votes[some], samples=second.samples[some])
    found = trace_shift([first, second], 50)
    assert found.keys.tolist() == [2 if number % 2 == 0 and number < 40 else int(number < 40) for number in range(50)]
    assert np.flatnonzero(found.group).tolist() == list(range(6))
