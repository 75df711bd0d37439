"""The fleet does not hear its own echo: what agents were seeded with is never a vote.

Three agents report a program, five hundred fresh ones take the seed, the three leave. Five of the five hundred are
whole agents at the server's door, from the store on the disk to the certificate. The others make their bodies from
profile tables of their own, and these go through the same reader into the same server's database.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
from http_fleets import ShiftedClock, http_fleet
from seeded_agent import SeededAgent
from server_place import server_place

from eguard.baseline import ProfileTable
from eguard.baseline.seed import apply_fleet_seed
from eguard.baseline.upload import pack_uploads, to_wire
from eguard.fleet.tables import endpoint_baseline
from eguard.simulate.poisoned_fleet import learned_rows
from eguard.wire.baseline import receive_baseline_batch

RARE, COMMON = ("implant", "cron"), ("sh", "cron")
RARE_KEY, COMMON_KEY = "implant:cron", "sh:cron"
REPORTERS = ("first", "second", "third")
WHOLE, FRESH = 5, 500
CURIOUS = 20
DAY = 86_400.0


@dataclass
class Record:
    """What was seen: cohorts by stage, reports of aggregations, seeds held, and rows in the database."""

    cohorts: dict = field(default_factory=dict)
    reports: dict = field(default_factory=dict)
    seeded: dict = field(default_factory=dict)
    rare_rows: list = field(default_factory=list)


class Story:
    def __init__(self, place, fleet, clock, folder):
        self.place, self.fleet, self.clock, self.record = place, fleet, clock, Record()
        for name in REPORTERS:
            fleet.enrol(name, fleet.token())
        self.whole = [SeededAgent(fleet, folder / f"whole-{number}", f"whole-{number}") for number in range(WHOLE)]
        self.tables = {f"fresh-{number:03d}": ProfileTable(capacity=4) for number in range(FRESH - WHOLE)}

    def report(self):
        """Have the three say what they know of the program."""
        for name in REPORTERS:
            rows = learned_rows(RARE_KEY, np.array([30, 0, 0, 70, 0, 0, 0, 0]), self.clock.now())
            self.fleet.agents[name].upload(rows)

    def live_on(self, stage, rare_events=0):
        """Have all fresh agents take the seed, learn on, and upload what has changed; then aggregate."""
        for number, agent in enumerate(self.whole):
            agent.exchange()
            agent.learn(COMMON, 40)
            if rare_events and number == 0:
                agent.learn(RARE, rare_events)
            assert agent.exchange() >= 1
        generation, rows = self.fleet.agents["whole-0"].seeds()
        curious = list(self.tables)[:CURIOUS] if rare_events else []
        batches = []
        for name, table in self.tables.items():
            apply_fleet_seed(table, rows.values(), generation)
            self.learn(table, COMMON, 40)
            if name in curious:
                self.learn(table, RARE, rare_events)
            bodies = pack_uploads(name, to_wire(table)).bodies
            batches += [(receive_baseline_batch(body), "only") for body in bodies]
        self.place.context.store.upsert_group(batches)
        self.aggregate(stage)

    def learn(self, table, key, events):
        slots = table.slots_for([key], np.array([self.clock.now()]))
        table.learn_counts(slots, np.array([[0, events, 0, 0, 0, 0, 0, 0]]))

    def aggregate(self, stage):
        self.record.reports[stage] = self.fleet.aggregate()
        _, rows = self.fleet.agents["whole-0"].seeds()
        self.record.cohorts[stage] = {key: row.agent_count for key, row in rows.items()}

    def note_seeds(self, stage):
        self.record.seeded[stage] = sum(agent.prior(RARE) is not None for agent in self.whole)

    def run(self):
        self.report()
        self.aggregate("reported")
        for cycle in (1, 2):
            self.live_on(f"cycle {cycle}")
        self.note_seeds("while reported")
        self.live_on("some see it", rare_events=10)
        self.note_rows()
        self.fleet.quarantine("first", "drill")
        self.aggregate("one quarantined")
        self.fleet.release("first", "drill")
        self.aggregate("released")
        self.fleet.operator("/endpoint/agent/decommission", agent_id="second", reason="drill")
        self.aggregate("one decommissioned")
        self.fleet.quarantine("first", "drill")
        self.clock.advance(8 * DAY)  # the third is silent
        self.live_on("all gone")
        self.live_on("later")
        self.note_seeds("after they left")
        return self.record

    def note_rows(self):
        row = endpoint_baseline.c
        with self.place.context.database.read() as connection:
            query = endpoint_baseline.select().where(row.process_key == RARE_KEY, row.agent_id.not_in(REPORTERS))
            self.record.rare_rows = connection.execute(query).mappings().all()

    def close(self):
        for agent in self.whole:
            agent.close()


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    folder, clock = tmp_path_factory.mktemp("echo"), ShiftedClock(days_ago=20)
    with server_place(folder, clock=clock) as place, http_fleet(place, folder) as fleet:
        story = Story(place, fleet, clock, folder)
        try:
            yield story.run()
        finally:
            story.close()


@pytest.mark.slow
def test_the_cohort_is_the_three_that_saw_it_and_never_more(record):
    stages = ["reported", "cycle 1", "cycle 2", "some see it", "released"]
    assert [record.cohorts[stage].get(RARE_KEY) for stage in stages] == [3] * 5
    assert max(cohort.get(RARE_KEY, 0) for cohort in record.cohorts.values()) == 3


@pytest.mark.slow
def test_the_five_hundred_do_vote_on_what_they_saw_themselves(record):
    assert record.cohorts["cycle 1"][COMMON_KEY] == record.cohorts["later"][COMMON_KEY] == FRESH


@pytest.mark.slow
def test_a_seeded_agent_uploads_its_own_few_events_and_not_the_seeds(record):
    assert len(record.rare_rows) == CURIOUS + 1
    assert {(row["sample_count"], tuple(row["event_distribution"].items())) for row in record.rare_rows} == {
        (10, (("process_exit", 1.0),))
    }
    assert all(row["prior_generation"] >= 1 for row in record.rare_rows)
    assert record.reports["some see it"]["votes_below_min_samples"] == CURIOUS + 1


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["one quarantined", "one decommissioned", "all gone", "later"])
def test_the_program_disappears_with_those_who_saw_it(record, stage):
    assert RARE_KEY not in record.cohorts[stage]
    assert record.reports[stage]["skipped_by_reason"] == {"below_cohort": 1}


@pytest.mark.slow
def test_agents_give_the_seed_back_when_the_fleet_does(record):
    assert record.seeded == {"while reported": WHOLE, "after they left": 0}
