"""Generations through the detectors: once each, in order, whoever published them, and what an operator's do to them."""

import numpy as np
import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.fleet import FleetStore
from eguard.fleet.alarms import list_alarms, open_alarms, resolve_alarms
from eguard.fleet.drift import calm_charts, describe_drift, evaluate_drift, evaluated_generation, read_charts
from eguard.fleet.key_charts import read_key_charts
from eguard.fleet.tables import fleet_drift_block, fleet_drift_series
from eguard.wire import BaselineRow, distribution_from_vector

KEYS = [f"p{number}:init" for number in range(6)]
AGENTS = [f"agent-{number:02d}" for number in range(15)]
NOW = 1e9
EVENTS = 1000


class Fleet:
    """Agents that upload what they did in each cycle, drawn from a behaviour of their own."""

    def __init__(self, store, seed=1):
        self.store, self.rng, self.seq = store, np.random.default_rng(seed), 0
        mean = self.rng.dirichlet(np.ones(8), len(KEYS))
        self.behaviour = np.array([[self.rng.dirichlet(60 * each) for each in mean] for _ in AGENTS])

    def cycle(self, behaviour=None, *, evaluate=True):
        self.seq += 1
        shares = self.behaviour if behaviour is None else behaviour
        for agent, own in zip(AGENTS, shares, strict=True):
            rows = [self._row(key, self.rng.multinomial(EVENTS, each)) for key, each in zip(KEYS, own, strict=True)]
            self.store.upsert_baselines(agent, "first", rows)
        found = []
        self.store.aggregate(also=lambda connection: found.extend(evaluate_drift(connection, NOW)) if evaluate else 0)
        return found

    def shifted(self, share=0.2, keys=slice(None), agents=slice(None)):
        """Behaviours with a part of everything moved to one class."""
        moved = self.behaviour.copy()
        target = np.eye(8)[3]
        moved[agents, keys] = (1 - share) * moved[agents, keys] + share * target
        return moved

    def _row(self, key, counts):
        return BaselineRow(
            process_key=key,
            event_distribution=distribution_from_vector(counts / EVENTS),
            sample_count=EVENTS,
            entropy_threshold=4.0,
            learned_at_unix=NOW,
            seq=self.seq,
        )


@pytest.fixture
def fleet(monkeypatch):
    monkeypatch.setattr("eguard.fleet.charts.BURN_IN_CYCLES", 12)
    with FleetStore.create("sqlite://", SimulatedClock(NOW)) as store:
        yield Fleet(store)


def states(fleet):
    with fleet.store.database.read() as connection:
        blocks = connection.execute(sa.select(fleet_drift_block).order_by(fleet_drift_block.c.block)).all()
        return [tuple(row) for row in [*connection.execute(sa.select(fleet_drift_series)).all(), *blocks]]


def test_a_lasting_shift_raises_one_alarm_a_detector_however_long_it_lasts(fleet):
    quiet = [fleet.cycle() for _ in range(16)]
    assert [len(found) for found in quiet] == [0] * 16
    moved = [fleet.cycle(fleet.shifted()) for _ in range(6)]
    first = next(found for found in moved if found)
    assert [(alarm.kind, alarm.series, alarm.compared_with) for alarm in first] == [("cusum", "fleet", "reference")]
    assert first[0].value > first[0].threshold == 8.0
    assert first[0].detail["other_generation"] == 1
    # It was found in the third cycle and not again, although the sum passed its threshold again.
    assert [len(found) for found in moved] == [0, 0, 1, 0, 0, 0]
    with fleet.store.database.read() as connection:
        assert [alarm.generation for alarm in open_alarms(connection)] == [19]
        assert read_charts(connection)["reference"].cusum.count == 18  # no cycle with the alarm open was learned


def test_a_generation_is_evaluated_once(fleet):
    fleet.cycle()
    fleet.cycle()
    before = states(fleet)
    with fleet.store.database.write() as connection:
        assert evaluate_drift(connection, NOW) == []
    assert states(fleet) == before


def test_what_was_published_without_evaluation_is_caught_up_with_to_the_same_states(fleet):
    with FleetStore.create("sqlite://", SimulatedClock(NOW)) as other_store:
        other = Fleet(other_store)
        for cycle in range(20):
            behaviour = fleet.shifted() if cycle > 14 else None
            fleet.cycle(behaviour)
            # An aggregation without detectors, six of seven times; as after a crash or with another program.
            other.cycle(behaviour, evaluate=cycle % 7 == 4)
        with other_store.database.write() as connection:
            evaluate_drift(connection, NOW)
            assert evaluated_generation(connection) == 20
            caught_up = [(alarm.kind, alarm.generation) for alarm in open_alarms(connection)]
        assert states(other) == states(fleet)
        with fleet.store.database.read() as connection:
            assert caught_up == [(alarm.kind, alarm.generation) for alarm in open_alarms(connection)] != []


def test_an_evaluation_that_fails_takes_its_generation_back(fleet):
    fleet.cycle()

    def fail(connection):
        evaluate_drift(connection, NOW)
        raise KeyError

    with pytest.raises(KeyError):
        fleet.store.aggregate(also=fail)
    assert fleet.store.current_generation() == 1
    with fleet.store.database.read() as connection:
        assert evaluated_generation(connection) == 1


def test_what_an_operator_publishes_is_no_cycle(fleet):
    for _ in range(5):
        fleet.cycle()
    fleet.cycle(fleet.shifted(0.9))
    before = describe(fleet)
    assert before["reference"]["cycles_above_level"] == 1
    fleet.store.rollback(3, lambda connection: evaluate_drift(connection, NOW))
    after = describe(fleet)
    assert after["reference"]["cycles_above_level"] == 0
    assert after["reference"]["cycles"] == before["reference"]["cycles"]
    assert after["previous"]["adwin_width"] == before["previous"]["adwin_width"]


def describe(fleet):
    with fleet.store.database.read() as connection:
        return describe_drift(connection)


def test_a_new_reference_begins_the_pinned_series_anew(fleet):
    for _ in range(4):
        fleet.cycle()
    assert describe(fleet)["reference"]["cycles"] == 3
    fleet.store.pin_reference(4)
    fleet.cycle()
    assert describe(fleet)["reference"]["cycles"] == 1
    assert describe(fleet)["previous"]["adwin_width"] == 4


def test_one_key_that_jumps_is_named(fleet):
    for _ in range(3):
        fleet.cycle()
    moved = fleet.shifted(0.8, keys=2)
    assert fleet.cycle(moved) == []
    found = fleet.cycle(moved)
    assert [(alarm.kind, alarm.series, alarm.compared_with) for alarm in found] == [
        ("js_level", "p2:init", "reference")
    ]
    assert fleet.cycle(moved) == []


def test_a_key_with_few_voters_is_not_held_against_the_level(fleet):
    few = AGENTS[:9]
    fleet.cycle()
    for agent in AGENTS[9:]:
        fleet.store.quarantine(agent)
    for _ in range(3):
        fleet.cycle()
    fleet.store.pin_reference()
    moved = fleet.shifted(0.8, keys=2)
    assert [fleet.cycle(moved) for _ in range(4)] == [[]] * 4
    assert fleet.store.fleet_rows()[0].agent_count == len(few)
    with fleet.store.database.read() as connection:
        assert len(read_key_charts(connection)._at) == len(KEYS)


def test_a_resolved_alarm_comes_again_if_the_shift_lasts(fleet):
    for _ in range(16):
        fleet.cycle()
    found = sum(len(fleet.cycle(fleet.shifted())) for _ in range(3))
    assert found == 1
    with fleet.store.database.write() as connection:
        calm_charts(connection)
        assert read_charts(connection)["reference"].cusum.statistic < 1.0
        assert len(resolve_alarms(connection, open_alarms(connection), "adversarial", "ada", NOW)) == 1
    assert sum(len(fleet.cycle(fleet.shifted())) for _ in range(3)) == 1
    with fleet.store.database.read() as connection:
        rows = list_alarms(connection, 10)
    assert [row["resolution"] for row in rows] == [None, "adversarial"]
    assert rows[1]["resolved_by"] == "ada"


def test_keys_that_are_gone_for_long_are_forgotten(fleet, monkeypatch):
    monkeypatch.setattr("eguard.fleet.key_charts.FORGET_GENERATIONS", 2)
    for _ in range(3):
        fleet.cycle()
    for agent in AGENTS[2:]:
        fleet.store.quarantine(agent)  # two voters are no cohort: nothing is published
    for _ in range(3):
        fleet.cycle()
    with fleet.store.database.read() as connection:
        assert read_key_charts(connection)._at == {}
        assert connection.execute(sa.select(sa.func.count()).select_from(fleet_drift_block)).scalar() == 0
