"""Fleet seeds on a profile table: prior beside counts, replaced and withdrawn, never uploaded."""

import numpy as np

from eguard.baseline import ProfileTable, apply_fleet_seed, priors_from_rows, to_wire, withdraw_fleet_seed
from eguard.wire import FleetRow, decode_process_key

SLEEPY = np.array([0.1, 0.2, 0.3, 0.4, 0.0, 0.0, 0.0, 0.0])


def fleet_row(key="sh:cron", agents=5, **distribution):
    return FleetRow(
        process_key=key,
        median_distribution=distribution or {"process_exec": 1.0},
        agent_count=agents,
        stddev_kl=0.1,
        tolerated_faults=2,
        source="aggregate",
    )


def table_with(events, key=("sh", "cron"), event_class=3):
    table = ProfileTable(capacity=8)
    times = np.arange(events, dtype=np.float64)
    slots = table.slots_for([key] * events, times)
    table.observe(slots, np.full(events, event_class), times, np.zeros(events, dtype=np.int64))
    return table


def test_prior_mean_is_the_median_lifted_off_zero():
    mean = priors_from_rows([fleet_row(process_exec=0.6, alert=0.4)])[("sh", "cron")]
    expected = (np.array([0.6, 0, 0, 0, 0, 0, 0, 0.4]) + 1e-3) / 1.008
    assert np.allclose(mean, expected, rtol=0, atol=1e-15)


def test_rows_with_more_agents_come_first():
    rows = [fleet_row("a:b", 3), fleet_row("c:d", 9), fleet_row("e:f", 9)]
    assert list(priors_from_rows(rows)) == [decode_process_key(key) for key in ("c:d", "e:f", "a:b")]


def test_posterior_moves_from_the_seed_to_the_local_frequencies():
    for events, kappa in ((0, 100.0), (100, 90.0), (500, 50.0), (1000, 0.0), (10_000, 0.0)):
        table = table_with(max(events, 1))
        if events == 0:
            table.relearn(0, now=0.0)
        assert apply_fleet_seed(table, [fleet_row()], generation=7) == 1
        mean = (np.eye(8)[0] + 1e-3) / 1.008
        expected = (kappa * mean + events * np.eye(8)[3]) / (kappa + events)
        assert np.allclose(table.posterior(np.array([0]))[0], expected, atol=1e-12)


def test_counts_and_uploads_do_not_know_the_seed():
    table = table_with(40)
    before = table.counts.copy()
    apply_fleet_seed(table, [fleet_row()], generation=7)
    assert np.array_equal(table.counts, before)
    (row,) = to_wire(table)
    assert row.event_distribution == {"network_connect": 1.0}
    assert (row.sample_count, row.prior_generation) == (40, 7)


def test_a_seed_waits_for_its_key():
    table = ProfileTable(capacity=8)
    assert apply_fleet_seed(table, [fleet_row()], generation=3) == 0
    slots = table.slots_for([("sh", "cron")], np.array([5.0]))
    assert table.prior_generation[slots[0]] == 3
    assert to_wire(table) == []  # a seed alone is nothing to upload


def test_a_later_generation_replaces_and_a_missing_key_loses_its_seed():
    table = table_with(40)
    apply_fleet_seed(table, [fleet_row(process_exec=1.0)], generation=1)
    apply_fleet_seed(table, [fleet_row(login=1.0)], generation=2)
    assert table.prior[0].argmax() == 6
    assert table.prior_generation[0] == 2
    apply_fleet_seed(table, [fleet_row("other:key")], generation=3)
    assert table.prior_generation[0] == 0
    assert np.array_equal(table.prior[0], np.zeros(8))


def test_withdrawing_leaves_the_local_frequencies():
    table = table_with(40)
    apply_fleet_seed(table, [fleet_row()], generation=1)
    withdraw_fleet_seed(table)
    assert np.allclose(table.posterior(np.array([0]))[0], np.eye(8)[3])
    assert to_wire(table)[0].prior_generation is None


def test_using_a_seed_is_reported_once_and_only_while_it_has_weight():
    young, mature = table_with(40), table_with(1000)
    for table in (young, mature):
        table.acknowledge([("sh", "cron")], [int(table.seq[0])])
        apply_fleet_seed(table, [fleet_row()], generation=1)
    assert [row.prior_generation for row in to_wire(young)] == [1]
    assert to_wire(mature) == []
    young.acknowledge([("sh", "cron")], [int(young.seq[0])])
    apply_fleet_seed(young, [fleet_row()], generation=1)
    assert to_wire(young) == []


def test_a_key_with_neither_seed_nor_events_is_uniform():
    table = ProfileTable(capacity=4)
    slots = table.slots_for([("sh", "cron")], np.array([0.0]))
    assert np.allclose(table.posterior(slots), 1 / 8)
