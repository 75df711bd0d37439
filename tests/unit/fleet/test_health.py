"""Fleet health: divergence with its bias, weights, and keys on one side only."""

import math

import numpy as np

from eguard.fleet.health import MAX_NAMED_KEYS, PublishedKey, compare_generations


def published(*head, agents=10, samples=100):
    vector = np.zeros(8)
    vector[: len(head)] = head
    return PublishedKey(vector, agents, samples)


def test_hand_computed_divergence_and_bias():
    comparison = compare_generations(
        "previous", 4, {"a:b": published(0.7, 0.2, 0.1)}, {"a:b": published(0.1, 0.2, 0.7, agents=20, samples=50)}
    )
    assert math.isclose(comparison.js_mean_nats, 0.253101615, abs_tol=1e-9)
    information = 2 / math.pi * 1000
    assert math.isclose(comparison.js_mean_bias_nats, 2 / 8 * (1 / information + 1 / information), rel_tol=1e-12)
    assert comparison.js_max_bias_nats == comparison.js_mean_bias_nats
    assert (comparison.compared_with, comparison.other_generation) == ("previous", 4)


def test_bias_counts_the_classes_that_occur_on_either_side():
    one_class = compare_generations("previous", 1, {"a:b": published(1.0)}, {"a:b": published(1.0)})
    assert one_class.js_mean_bias_nats == 0.0
    two_classes = compare_generations("previous", 1, {"a:b": published(1.0)}, {"a:b": published(0.0, 1.0)})
    assert math.isclose(two_classes.js_mean_bias_nats, 1 / 8 * 2 / (2 / math.pi * 1000))
    assert math.isclose(two_classes.js_mean_nats, math.log(2))


def test_noise_is_below_its_bias_and_a_shift_is_not():
    rng = np.random.default_rng(9)
    truth = np.array([0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0])

    def cycle(mean):
        keys = {}
        for number in range(60):
            votes = rng.multinomial(1000, mean, size=15) / 1000
            median = np.median(votes, axis=0)
            keys[f"p{number}:init"] = PublishedKey(median / median.sum(), 15, 1000)
        return keys

    noise = compare_generations("previous", 1, cycle(truth), cycle(truth))
    assert 0.5 * noise.js_mean_bias_nats < noise.js_mean_nats < 1.5 * noise.js_mean_bias_nats
    shift = compare_generations("previous", 1, cycle(np.roll(truth, 1)), cycle(truth))
    assert shift.js_excess_nats > 0.1


def test_keys_on_one_side_are_left_out_and_named():
    current = {f"new-{number:04d}:p": published(1.0) for number in range(300)} | {"both:p": published(1.0)}
    other = {"both:p": published(1.0), "gone:p": published(1.0)}
    comparison = compare_generations("reference", 2, current, other)
    assert (comparison.common_keys, comparison.new_key_count, comparison.vanished_key_count) == (1, 300, 1)
    assert comparison.new_keys == tuple(f"new-{number:04d}:p" for number in range(MAX_NAMED_KEYS))
    assert comparison.vanished_keys == ("gone:p",)
    assert math.isclose(comparison.new_key_share, 300 / 301)
    assert comparison.js_mean_nats == 0.0


def test_nothing_in_common_has_no_divergence():
    comparison = compare_generations("previous", 1, {}, {"gone:p": published(1.0)})
    assert comparison.js_mean_nats is None
    assert comparison.js_excess_nats is None
    assert comparison.new_key_share == 0.0


def test_weight_is_the_agent_count_and_ties_go_to_the_first_key():
    current = {"a:p": published(1.0, agents=30), "b:p": published(1.0, agents=10), "c:p": published(1.0, agents=10)}
    other = {"a:p": published(1.0), "b:p": published(0.0, 1.0), "c:p": published(0.0, 1.0)}
    comparison = compare_generations("previous", 1, current, other)
    assert math.isclose(comparison.js_mean_nats, math.log(2) * 20 / 50)
    assert comparison.js_max_key == "b:p"
