"""Random sequences of everything the store can do, with crashes, against a dictionary."""

import math

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from eguard.baseline.facts import BaselineStatus
from eguard.baseline.store import BaselineStore
from eguard.baseline.store_dump import dump_state
from eguard.clock import SimulatedClock

CAPACITY = 3
NAMES = st.sampled_from(["a", "b", "c", "d", "e"])
CLASSES = st.integers(0, 7)
PRIOR = [0.3, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]


class Model:
    """What the store should hold, kept as plainly as possible."""

    def __init__(self):
        self.counts, self.seeds, self.held = {}, {}, {}
        self.generation = self.revision = 0
        self.status = "learning"

    def copy(self):
        other = Model()
        other.counts = {name: list(row) for name, row in self.counts.items()}
        other.seeds, other.held = dict(self.seeds), dict(self.held)
        other.generation, other.revision, other.status = self.generation, self.revision, self.status
        return other

    def see(self, name):
        row = self.counts.pop(name, [0] * 8)
        if len(self.counts) == CAPACITY:
            del self.counts[next(iter(self.counts))]
        self.counts[name] = row

    def view(self):
        profiles = [(f"{name}:init", row, name in self.seeds) for name, row in self.counts.items()]
        return profiles, self.seeds, self.generation, self.held, self.revision, self.status


def view_of(store):
    state = dump_state(store.table, store.facts)
    profiles = [(row["process_key"], row["counts"], row["prior"] is not None) for row in state["profiles"]]
    seeds = {name.partition(":")[0]: tuple(mean) for name, mean in state["seeds"].items()}
    held = {window["window_id"]: (window["process_key"][0], tuple(window["counts"])) for window in state["held"]}
    return profiles, seeds, state["seed_generation"], held, state["policy_revision"], state["status"]


class StoreAgainstDictionary(RuleBasedStateMachine):
    """`waiting` are the models after operations not yet durable; the last durable one comes first."""

    disk_module = None
    judge = None

    @initialize()
    def begin(self):
        self.disk = self.disk_module.CrashDisk()
        self.model = Model()
        self.waiting = [self.model.copy()]
        self.time = 0.0
        self.windows = 0
        self.open()

    def open(self):
        self.store = BaselineStore(self.disk, CAPACITY, SimulatedClock(0.0))

    def done(self, *, is_durable):
        self.waiting = [self.model.copy()] if is_durable else [*self.waiting, self.model.copy()]

    def next_times(self, count):
        self.time += 1.0
        return np.full(count, self.time)

    @rule(events=st.lists(st.tuples(NAMES, CLASSES), min_size=1, max_size=3))
    def learn(self, events):
        names = [name for name, _ in events]
        for name in sorted(set(names), key=lambda name: (name not in self.model.counts, self.rank(name, names))):
            self.model.see(name)
        for name, event_class in events:
            self.model.counts[name][event_class] += 1
        times = self.next_times(len(events))
        classes = np.array([event_class for _, event_class in events])
        self.store.learn([(name, "init") for name in names], classes, times, np.zeros(len(events), dtype=np.int64))
        self.done(is_durable=False)

    def rank(self, name, names):
        """Known keys count as seen in the order of their last event, new ones after them in that of their first."""
        return len(names) - names[::-1].index(name) if name in self.model.counts else names.index(name)

    @rule(names=st.sets(NAMES, min_size=1), generation=st.integers(1, 9))
    def seed(self, names, generation):
        self.store.seed({(name, "init"): np.array(PRIOR) for name in sorted(names)}, generation)
        self.model.seeds, self.model.generation = dict.fromkeys(sorted(names), tuple(PRIOR)), generation
        self.done(is_durable=True)

    @rule()
    def withdraw(self):
        self.store.withdraw_seeds()
        self.model.seeds, self.model.generation = {}, 0
        self.done(is_durable=True)

    @rule()
    def upload(self):
        slots = self.store.table.dirty_slots().tolist()
        keys = [self.store.table.index.key_of(slot) for slot in slots]
        self.store.acknowledge(keys, [int(self.store.table.seq[slot]) for slot in slots])
        assert not len(self.store.table.dirty_slots())
        self.done(is_durable=True)

    @rule(name=NAMES, counts=st.lists(st.integers(0, 9), min_size=8, max_size=8))
    def hold(self, name, counts):
        self.windows += 1
        self.model.see(name)
        self.model.held[f"w{self.windows}"] = (name, tuple(counts))
        slots = self.store.table.slots_for([(name, "init")], self.next_times(1))
        self.store.table.held.hold(f"w{self.windows}", (name, "init"), np.array(counts), self.time)
        self.store.record(slots)
        self.done(is_durable=False)

    @precondition(lambda self: self.model.held)
    @rule(is_benign=st.booleans())
    def adjudicate(self, is_benign):
        window_id = next(iter(self.model.held))
        name, counts = self.model.held.pop(window_id)
        learned = is_benign and name in self.model.counts
        if learned:
            self.model.counts[name] = [a + b for a, b in zip(self.model.counts[name], counts, strict=True)]
        assert self.store.adjudicate(window_id, is_benign=is_benign) == learned
        self.done(is_durable=True)

    @rule(revision=st.integers(0, 99), status=st.sampled_from(BaselineStatus))
    def configure(self, revision, status):
        self.store.set_policy_revision(revision)
        self.store.set_status(status, learning_started=self.time)
        self.model.revision, self.model.status = revision, status.name.lower()
        self.done(is_durable=True)

    @rule()
    def compact(self):
        self.store.compact()
        self.done(is_durable=True)

    @rule()
    def reload(self):
        self.store.close()
        self.open()
        self.done(is_durable=True)

    @rule(data=st.data())
    def crash(self, data):
        folders = self.disk.survivors()
        survivor = folders[data.draw(st.integers(0, len(folders) - 1))]
        judged = type(self).judge(survivor)
        self.disk = self.disk_module.CrashDisk(survivor)
        self.open()
        assert self.store.recovered.problems == []
        after = view_of(self.store)
        fitting = [model for model in self.waiting if model.view() == after]
        assert fitting
        assert judged["operation"] == self.store.operation
        self.model = fitting[0].copy()
        self.done(is_durable=True)

    @invariant()
    def holds_what_the_dictionary_holds(self):
        if hasattr(self, "store"):
            assert view_of(self.store) == self.model.view()
            assert not math.isnan(self.store.facts.sequence)


def test_against_a_dictionary(disk, judge):
    machine = type("BoundMachine", (StoreAgainstDictionary,), {"disk_module": disk, "judge": staticmethod(judge)})
    machine.TestCase.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
    machine.TestCase("runTest").runTest()
