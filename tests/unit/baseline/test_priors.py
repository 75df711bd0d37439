"""Seeds in waiting: found by key, by program where an import names no parent, bounded."""

import numpy as np

from eguard.baseline.priors import PriorTable


def mean(index):
    vector = np.full(8, 0.0)
    vector[index] = 1.0
    return vector


def test_the_exact_key_comes_before_the_program_alone():
    seeds = PriorTable(10)
    seeds.replace({("nginx", "fleet"): mean(0), ("nginx", "systemd"): mean(1)}, 4)
    assert seeds.find(("nginx", "systemd"))[1] == 1.0
    assert seeds.find(("nginx", "bash"))[0] == 1.0
    assert seeds.find(("sshd", "systemd")) is None


def test_a_new_generation_replaces_the_old_one_whole():
    seeds = PriorTable(10)
    seeds.replace({("a", "b"): mean(0)}, 1)
    seeds.replace({("c", "d"): mean(1)}, 2)
    assert seeds.find(("a", "b")) is None
    assert (len(seeds), seeds.generation) == (1, 2)
    seeds.replace({}, 0)
    assert (len(seeds), seeds.generation) == (0, 0)


def test_the_surplus_is_cut_and_counted():
    seeds = PriorTable(2)
    seeds.replace({(str(number), "p"): mean(0) for number in range(5)}, 1)
    assert (len(seeds), seeds.dropped_total) == (2, 3)
