"""The status of a baseline: every edge, by time, by events, by policy, across restarts and clock steps."""

import math

import numpy as np
import pytest

from eguard.baseline.archive import BaselineArchive
from eguard.baseline.facts import BaselineStatus
from eguard.baseline.lifecycle import BaselineMode, Lifecycle
from eguard.baseline.store import BaselineStore
from eguard.errors import ConfigError

DAY = 86_400.0
T0 = 1_700_000_000.0
SH = ("sh", "cron")


class Agent:
    """A store and its lifecycle, that can be stopped and started."""

    def __init__(self, folder):
        self.folder = folder
        self.start()

    def start(self):
        self.store = BaselineStore.open(self.folder / "state")
        self.archive = BaselineArchive(self.folder / "archive.jsonl")
        self.lifecycle = Lifecycle(self.store, self.archive)

    def restart(self):
        self.store.close()
        self.start()

    def events(self, now, keys=(SH,)):
        count = len(keys)
        self.store.learn(list(keys), np.zeros(count, np.int8), np.full(count, now), np.zeros(count, np.int64))
        self.lifecycle.observed(now)

    @property
    def status(self):
        return self.lifecycle.status.name.lower()


@pytest.fixture
def agent(tmp_path):
    agent = Agent(tmp_path)
    yield agent
    agent.store.close()


def test_learning_begins_with_the_first_event_and_ends_after_its_window(agent):
    agent.lifecycle.tick(T0 + 90 * DAY)
    assert agent.status == "learning"  # nothing was ever seen: neither learned nor stale
    assert math.isnan(agent.store.facts.learning_started)
    agent.events(T0)
    agent.events(T0 + 1)
    assert agent.store.facts.learning_started == T0
    agent.lifecycle.tick(T0 + 7 * DAY - 1)
    assert agent.status == "learning"
    agent.lifecycle.tick(T0 + 7 * DAY)
    assert agent.status == "active"
    assert agent.store.facts.learning_completed == T0 + 7 * DAY


def test_a_window_goes_on_over_a_restart(agent):
    agent.events(T0)
    agent.restart()
    assert agent.store.facts.learning_started == T0
    agent.lifecycle.tick(T0 + 7 * DAY)
    agent.restart()
    assert agent.status == "active"


def test_a_baseline_without_events_becomes_stale_by_the_timer_alone_and_recovers(agent):
    agent.events(T0)
    agent.lifecycle.tick(T0 + 7 * DAY)
    agent.lifecycle.tick(T0 + 30 * DAY - 1)
    assert agent.status == "active"
    agent.lifecycle.tick(T0 + 30 * DAY)
    assert agent.status == "stale"
    agent.restart()
    assert agent.status == "stale"
    agent.events(T0 + 40 * DAY)
    assert agent.status == "learning"
    assert agent.store.table.sample_count.sum() == 2  # what was learned before is still there
    assert math.isnan(agent.store.facts.learning_completed)
    agent.lifecycle.tick(T0 + 47 * DAY)
    assert agent.status == "active"


def test_a_baseline_that_falls_silent_while_it_learns_is_stale_too(agent):
    agent.events(T0)
    agent.lifecycle = Lifecycle(agent.store, agent.archive, learning_seconds=60 * DAY)
    agent.lifecycle.tick(T0 + 30 * DAY)
    assert agent.status == "stale"


def test_a_machine_that_was_off_for_months_is_stale_at_its_start(agent):
    agent.events(T0)
    agent.lifecycle.tick(T0 + 7 * DAY)
    agent.restart()
    agent.lifecycle.tick(T0 + 200 * DAY)
    assert agent.status == "stale"


@pytest.mark.parametrize("years", [10, -10])
def test_setting_the_clock_neither_ends_nor_prolongs_a_learning_window(agent, years):
    step = years * 365 * DAY
    agent.events(T0)
    agent.lifecycle.shift(step)
    agent.lifecycle.tick(T0 + step + 7 * DAY - 1)
    assert agent.status == "learning"
    agent.events(T0 + step + 7 * DAY - 1)
    agent.restart()
    agent.lifecycle.tick(T0 + step + 7 * DAY)
    assert agent.status == "active"
    agent.lifecycle.tick(agent.store.facts.last_observed + 30 * DAY)
    assert agent.status == "stale"


def test_a_clock_that_went_back_while_nobody_looked_makes_nothing_stale(agent):
    agent.events(T0)
    agent.lifecycle.tick(T0 - 3650 * DAY)
    assert agent.status == "learning"


def test_learning_mode_archives_the_counts_and_begins_anew(agent):
    agent.events(T0, [SH, SH, ("ls", "sh")])
    agent.lifecycle.tick(T0 + 7 * DAY)
    agent.store.seed({SH: np.full(8, 0.125)}, 3)
    assert agent.lifecycle.apply_mode(BaselineMode.LEARNING, 5, T0 + 8 * DAY)
    agent.restart()
    facts = agent.store.facts
    assert (facts.status, facts.learning_started, facts.policy_revision) == (
        BaselineStatus.LEARNING,
        T0 + 8 * DAY,
        5,
    )
    assert math.isnan(facts.learning_completed)
    assert agent.store.table.sample_count.sum() == 0
    assert agent.store.table.prior_generation[agent.store.table.index.lookup([SH])[0]] == 3
    kept = {line.process_key: line for line in agent.archive.read()}
    assert kept["sh:cron"].counts == (2, 0, 0, 0, 0, 0, 0, 0)
    assert kept["ls:sh"].reason == "policy revision 5"


def test_a_mode_is_applied_once_for_each_revision(agent):
    agent.events(T0)
    assert agent.lifecycle.apply_mode(BaselineMode.FORCE_ACTIVE, 2, T0 + 1)
    assert agent.status == "active"
    agent.restart()
    for revision in (2, 1):
        assert not agent.lifecycle.apply_mode(BaselineMode.LEARNING, revision, T0 + 2)
    assert agent.status == "active"
    assert agent.lifecycle.apply_mode(BaselineMode.FORCE_ACTIVE, 3, T0 + 3)
    assert agent.store.facts.policy_revision == 3
    assert agent.store.facts.learning_completed == T0 + 1  # it was active already


def test_skip_learning_is_for_an_empty_baseline(agent):
    agent.store.seed({SH: np.full(8, 0.125)}, 1)
    assert agent.lifecycle.apply_mode(BaselineMode.SKIP_LEARNING, 1, T0)
    assert agent.status == "active"
    agent.events(T0 + 1)
    with pytest.raises(ConfigError, match="skip_learning"):
        agent.lifecycle.apply_mode(BaselineMode.SKIP_LEARNING, 2, T0 + 2)
    assert agent.store.facts.policy_revision == 2  # asked again, it would fail again
