"""The runbook in one process: alarm, freeze, explanation, and each way out of it."""

import numpy as np
import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import ServerRefusalError
from eguard.fleet import FleetStore
from eguard.fleet.alarms import open_alarms
from eguard.fleet.tables import audit_log, endpoint_agent, notification, rollout
from eguard.policy import parse_policy_document
from eguard.server.principal import SYSTEM
from eguard.server.services.fleet import Fleet
from eguard.server.services.policy_assembly import open_policies
from eguard.server.services.rollouts import Step
from eguard.settings import ServerSettings
from eguard.wire import BaselineRow, distribution_from_vector
from eguard.wire.baseline import ReceivedBatch

START = 1_790_000_000.25

KEYS = [f"p{number}:init" for number in range(8)]
AGENTS = [f"agent-{number:02d}" for number in range(24)]
LIARS = AGENTS[:7]
EVENTS = 1000


class Place:
    """A fleet whose agents upload what they did in each cycle, and its operators."""

    def __init__(self, store, clock, folder, ada, seq=0):
        self.store, self.clock, self.ada, self.seq = store, clock, ada, seq
        settings = ServerSettings(
            server_state_path=folder, aggregation_min_agent_age_seconds=0.0, aggregation_max_token_share=1.0
        )
        self.fleet = Fleet(store, clock, settings)
        self.policies = open_policies(store.database, clock, folder / "keys")
        self.rng = np.random.default_rng(3)
        mean = self.rng.dirichlet(np.ones(8), len(KEYS))
        self.behaviour = np.array([[self.rng.dirichlet(60 * each) for each in mean] for _ in AGENTS])

    def enrol(self):
        for number, agent in enumerate(AGENTS):
            self.store.register_agent(agent, "first")
            facts = {"enrolled_with": "stolen" if agent in LIARS else f"token-{number % 4}", "heard_hours": 100}
            self.write(sa.update(endpoint_agent).where(endpoint_agent.c.agent_id == agent).values(**facts))

    def begin_rollout(self):
        shares = {"baseline_upload_canary_percent": 0, "fleet_seed_canary_percent": 0}
        self.policies.policies.create(self.ada, "new", "v1", parse_policy_document(shares))
        self.policies.rollouts.advance(self.ada, "new", Step(1.0, is_forced=True, reason="test"))

    def write(self, statement):
        with self.store.database.write() as connection:
            connection.execute(statement)

    def read(self, query):
        with self.store.database.read() as connection:
            return connection.execute(query).all()

    def cycle(self, times=1, moved=(), share=0.5):
        for _ in range(times):
            self.seq += 1
            self.store.upsert_group(
                [
                    (self._batch(agent, self.behaviour[number], share if agent in moved else 0.0), "first")
                    for number, agent in enumerate(AGENTS)
                ]
            )
            self.fleet.aggregate(SYSTEM)

    def _batch(self, agent, behaviour, share):
        own = (1 - share) * behaviour + share * np.eye(8)[5]
        rows = [
            BaselineRow(
                process_key=key,
                event_distribution=distribution_from_vector(self.rng.multinomial(EVENTS, each) / EVENTS),
                sample_count=EVENTS,
                entropy_threshold=4.0,
                learned_at_unix=self.clock.now(),
                seq=self.seq,
            )
            for key, each in zip(KEYS, own, strict=True)
        ]
        return ReceivedBatch(agent_id=agent, batch_id="b", baselines=rows, indices=list(range(len(rows))), rejected=[])

    def open(self):
        with self.store.database.read() as connection:
            return open_alarms(connection)

    def frozen(self):
        return [row[0] for row in self.read(sa.select(rollout.c.frozen_reason))]

    def actions(self):
        return [row[0] for row in self.read(sa.select(audit_log.c.action).order_by(audit_log.c.sequence))]


@pytest.fixture(scope="module")
def learned_file(tmp_path_factory, sqlite_template):
    """A database of 14 quiet cycles and a rollout, made once and copied for each test."""
    folder = tmp_path_factory.mktemp("learned")
    path = folder / "fleet.db"
    path.write_bytes(sqlite_template.read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("eguard.fleet.charts.BURN_IN_CYCLES", 10)
        with FleetStore(f"sqlite:///{path}", SimulatedClock(START)) as store:
            made = Place(store, SimulatedClock(START), folder, SYSTEM)
            made.enrol()
            made.begin_rollout()
            made.cycle(14)
    return path


@pytest.fixture
def place(tmp_path, learned_file, fleet_clock, ada, monkeypatch):
    monkeypatch.setattr("eguard.fleet.charts.BURN_IN_CYCLES", 10)
    path = tmp_path / "fleet.db"
    path.write_bytes(learned_file.read_bytes())
    with FleetStore(f"sqlite:///{path}", fleet_clock) as store:
        yield Place(store, fleet_clock, learned_file.parent, ada, seq=100)


@pytest.fixture
def attacked(place):
    assert place.open() == []
    for _ in range(6):
        place.cycle(moved=LIARS)
        if place.open():
            return place
    pytest.fail("the attack was not found")


def refusal(call, *arguments, **named):
    with pytest.raises(ServerRefusalError) as refused:
        call(*arguments, **named)
    return refused.value.status, refused.value.reason


def test_an_alarm_freezes_is_told_and_is_put_on_record_in_one_transaction(attacked):
    (alarm,) = attacked.open()
    assert (alarm.kind, alarm.series) == ("cusum", "fleet")
    assert attacked.frozen() == [
        f"drift of the fleet's baseline in generation {alarm.generation}: fleet against reference: cusum"
    ]
    ((detail,),) = attacked.read(sa.select(audit_log.c.detail).where(audit_log.c.action == "fleet.drift_alarm"))
    assert detail["rollouts_frozen"] == ["new"]
    assert detail["named"][0]["alarm_id"] == alarm.alarm_id
    ((kind, severity, told),) = attacked.read(
        sa.select(notification.c.kind, notification.c.severity, notification.c.detail)
    )
    assert (kind, severity, told) == ("fleet_drift", "critical", detail)
    attacked.cycle(3, moved=LIARS)
    assert attacked.actions().count("fleet.drift_alarm") == len(attacked.read(sa.select(notification))) == 1


def test_nothing_of_an_alarm_remains_if_it_cannot_be_told(place, monkeypatch):
    def fail(*_, **__):
        raise OSError("no space")

    monkeypatch.setattr("eguard.server.services.drift.notify", fail)
    place.cycle(2, moved=LIARS, share=0.3)
    generation = place.store.current_generation()
    with pytest.raises(OSError, match="no space"):
        place.cycle(4, moved=LIARS)
    monkeypatch.undo()
    assert (place.open(), place.frozen()) == ([], [None])
    monkeypatch.setattr("eguard.fleet.charts.BURN_IN_CYCLES", 10)
    assert place.store.current_generation() >= generation
    place.fleet.aggregate(SYSTEM)
    assert len(place.open()) == 1
    assert place.frozen() != [None]


def test_the_explanation_names_the_liars_and_points_at_them(attacked):
    found = attacked.fleet.runbook.explain(None, 20)
    assert found["group"] == LIARS
    assert found["influence"]["stands_apart"]
    assert found["influence"]["undone_without_group"] > 0.8
    assert max(abs(agent["undone_alone"]) for agent in found["agents"]) < 0.25
    assert {agent["agent_id"] for agent in found["agents"][:7]} == set(LIARS)
    points = {line["name"]: line["points"] for line in found["evidence"]}
    assert points["two groups of votes"] == points["same enrolment token"] == "adversarial"
    assert points["smallest set that explains it"] == "adversarial"
    assert "organic" not in points.values()
    one = attacked.fleet.runbook.explain(found["keys"][0]["process_key"], 20)
    assert [key["process_key"] for key in one["keys"]] == [found["keys"][0]["process_key"]]
    assert set(LIARS) <= set(one["group"])


def test_resume_waits_until_every_alarm_is_explained(attacked):
    rollouts = attacked.policies.rollouts
    assert refusal(rollouts.resume, attacked.ada, "impatient") == (409, "drift_alarm_open")
    assert refusal(rollouts.advance, attacked.ada, "new", Step(5.0)) == (409, "rollout_refused")
    causes = {cause["code"] for cause in rollouts.status("new")["rollouts"][0]["causes"]}
    assert {"frozen", "drift_alarm"} <= causes
    good = attacked.open()[0].generation - 6
    done = attacked.fleet.roll_back(attacked.ada, good, "liars")
    assert len(done.resolved_alarms) == 1
    assert rollouts.resume(attacked.ada, "explained")["resumed"] == ["new"]
    assert attacked.frozen() == [None]


def test_after_rollback_and_quarantine_the_fleet_is_quiet_again(attacked):
    runbook, ada = attacked.fleet.runbook, attacked.ada
    names = runbook.explain(None, 20)["group"]
    attacked.fleet.roll_back(ada, attacked.open()[0].generation - 6, "liars")
    runbook.quarantine(ada, names, "liars")
    # Fewer agents agree on something slightly else, for ever: the first clean generation becomes the reference.
    attacked.cycle(1, moved=LIARS)
    attacked.fleet.approve(ada, None, "without the liars")
    attacked.cycle(8, moved=LIARS)
    assert attacked.open() == []
    assert attacked.actions().count("fleet.drift_alarm") == 1
    assert {row[0] for row in attacked.read(sa.select(audit_log.c.object_id).where(
        audit_log.c.action == "endpoint.quarantine"))} == set(LIARS)  # fmt: skip


def test_without_quarantine_the_alarm_comes_again(attacked):
    attacked.fleet.roll_back(attacked.ada, attacked.open()[0].generation - 6, "liars")
    attacked.cycle(4, moved=LIARS)
    assert len(attacked.open()) == 1


def test_a_rollback_to_a_generation_after_the_alarm_resolves_nothing(attacked):
    attacked.cycle(1, moved=LIARS)
    generation = attacked.open()[0].generation
    assert attacked.fleet.roll_back(attacked.ada, generation, "too late").resolved_alarms == []
    assert len(attacked.open()) == 1


def test_a_shift_of_everybody_looks_organic_and_is_approved(place):
    place.cycle(3, moved=AGENTS, share=0.2)
    (alarm,) = place.open()
    found = place.fleet.runbook.explain(None, 20)
    points = {line["name"]: line["points"] for line in found["evidence"]}
    assert points["voters that moved"] == points["smallest set that explains it"] == "organic"
    assert "adversarial" not in points.values()
    assert not found["influence"]["stands_apart"]
    # A reference from before the shift approves nothing.
    assert place.fleet.approve(place.ada, alarm.generation - 5, "old").resolved_alarms == []
    done = place.fleet.approve(place.ada, None, "new office suite")
    assert (done.generation, done.resolved_alarms) == (alarm.generation, [alarm.alarm_id])
    place.policies.rollouts.resume(place.ada, "explained")
    place.cycle(6, moved=AGENTS, share=0.2)
    assert place.open() == []
    charts = place.fleet.runbook.health()["drift"]["charts"]
    assert (charts["reference"]["cycles"], charts["reference"]["is_learning"]) == (6, True)
    resolved = place.fleet.runbook.health()["drift"]["latest_alarms"][0]
    assert (resolved["resolution"], resolved["resolved_by"]) == ("organic", "ada")


def test_quarantine_is_all_or_none_and_resolves_on_demand(attacked):
    runbook, ada = attacked.fleet.runbook, attacked.ada
    assert refusal(runbook.quarantine, ada, [], "r") == (422, "no_agent")
    assert refusal(runbook.quarantine, ada, [*LIARS, "nobody"], "r") == (404, "unknown_agent")
    assert runbook.quarantine(ada, LIARS[:1], "r") == {"quarantined": LIARS[:1], "resolved_alarms": []}
    assert refusal(runbook.quarantine, ada, LIARS, "r") == (409, "not_active")
    done = runbook.quarantine(ada, LIARS[1:], "r", resolve_alarms=True)
    assert len(done["resolved_alarms"]) == 1
    assert attacked.actions()[-1] == "fleet.resolve_alarms"
    assert attacked.open() == []


def test_what_cannot_be_explained_is_refused(place):
    assert refusal(place.fleet.runbook.explain, "no:such", 5) == (404, "unknown_key")
    assert refusal(place.fleet.runbook.explain, None, 5, 1) == (409, "nothing_to_compare")
