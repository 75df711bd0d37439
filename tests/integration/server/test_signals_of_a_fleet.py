"""Every signal by what agents send: silent on days of a noisy and healthy fleet, and fired by what it is there for."""

import time

import numpy as np
import pytest
import sqlalchemy as sa
from server_place import server_place

from eguard.clock import SimulatedClock
from eguard.errors import FleetStoreError
from eguard.fleet.tables import maintenance_task
from eguard.server.metric_gauges import CACHE_SECONDS
from eguard.server.services.alerts import RULES
from eguard.wire import BaselineRow, distribution_from_vector
from eguard.wire.baseline import BaselineBatch, encode_baseline_batch
from eguard.wire.bodies import encode_body
from eguard.wire.control import INCARNATION_HEADER, Heartbeat

pytestmark = pytest.mark.slow
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
BATCH, BEAT, SUMMARY = "/endpoint/baseline/batch", "/endpoint/heartbeat", "/endpoint/ml-ops/summary"
HEADERS = {INCARNATION_HEADER: "one"}
AGENTS = [f"agent-{number}" for number in range(6)]
KEYS = [f"program-{number}:init" for number in range(5)]
#: Hours between two aggregations, as the schedule has it.
CYCLE = 6 * HOUR
ALERT, OK = "alert", "ok"


class NoisyFleet:
    """Agents with habits of their own, whose numbers vary, some of which fall silent, learn, and send a bad row."""

    def __init__(self, place, clock, seed):
        self.place, self.clock = place, clock
        self.rng = np.random.default_rng(seed)
        self.agents = {name: place.agent(name) for name in AGENTS}
        self.admin = place.person()
        # Days pass in a second here: tasks that are due by then would run beside what a test does itself.
        with place.context.database.write() as connection:
            connection.execute(sa.update(maintenance_task).values(enabled=False))
        programs = self.rng.dirichlet(np.full(8, 2.0), len(KEYS))
        self.own = {name: [self.rng.dirichlet(80 * each) for each in programs] for name in AGENTS}
        self.trees = dict.fromkeys(AGENTS, (0, 0))
        self.status = dict.fromkeys(AGENTS, "active")
        self.odd_share = dict(zip(AGENTS, self.rng.uniform(0.005, 0.03, len(AGENTS)), strict=True))
        self.seq = 0
        self.prior = {}

    def beat(self, name, *, odd_share=None, confirmed=None):
        """Send how an agent is: trees and destinations vary, and the share of the odd ones is the agent's own."""
        seen, odd = self.trees[name]
        new = int(self.rng.poisson(36))
        self.trees[name] = seen + new, odd + int(self.rng.binomial(new, odd_share or self.odd_share[name]))
        scored = 60 + int(self.rng.integers(0, 40))
        beat = Heartbeat(
            agent_id=name, incarnation="one", agent_version="1", baseline_status=self.status[name],
            trees_seen=self.trees[name][0], trees_anomalous=self.trees[name][1], destinations_scored=scored,
            destinations_confirmed=int(self.rng.binomial(scored, 0.01)) if confirmed is None else confirmed,
            destinations_alpha=0.01,
        )  # fmt: skip
        assert self.agents[name].post(BEAT, content=encode_body(beat)).status_code == 200

    def beats(self, **given):
        for name in AGENTS:
            self.beat(name, **given)

    def upload(self, moving=0.0, towards=3, *, bad=False, only=None):
        """Upload what every agent counted since the last time: other counts each time, from the same habits.

        A share `moving` of every agent's events is of the class `towards`, whatever its habits.
        """
        self.seq += 1
        for name in AGENTS if only is None else [only]:
            client, rows = self.agents[name], []
            for key, own in zip(KEYS, self.own[name], strict=True):
                counts = self.rng.multinomial(600, (1.0 - moving) * own + moving * np.eye(8)[towards])
                rows.append(
                    BaselineRow(
                        process_key=key, event_distribution=distribution_from_vector(counts / 600), sample_count=600,
                        entropy_threshold=4.0, learned_at_unix=1_772_000_000.0, seq=self.seq,
                        prior_generation=self.prior.get(name),
                    )
                )  # fmt: skip
            body = encode_baseline_batch(BaselineBatch(agent_id=name, batch_id="b", baselines=rows))
            if bad and name == AGENTS[0]:
                body = b"{"
            answer = client.post(BATCH, content=body, headers=HEADERS)
            assert answer.status_code == (400 if bad and name == AGENTS[0] else 200)

    def cycle(self, moving=0.0, towards=3):
        """Upload and aggregate."""
        self.upload(moving, towards)
        assert self.admin.post("/endpoint/baseline/aggregate", json={}).json()["aggregated"] == len(KEYS)

    def fetch_seeds(self, name):
        """Have an agent take the fleet's seeds; what it uploads from then on says so."""
        page = self.agents[name].get("/endpoint/baseline/fleet").json()
        self.prior[name] = page["generation"] or None
        return page

    def pass_time(self, seconds):
        self.clock.advance_to(self.clock.now() + seconds)

    def look(self):
        return self.place.context.alerts.look()

    def shows(self, rule, state):
        """Check that a look gives this state, and that operators and Prometheus are told the same."""
        self.pass_time(CACHE_SECONDS)
        assert self.look()[rule] == state
        alerts = self.admin.get(SUMMARY).json()["alerts"]
        assert {each["rule"]: each["state"] for each in alerts}[rule] == state
        text = self.admin.get(f"https://127.0.0.1:{self.place.running.admin_port}/metrics").text
        assert f'eguard_alert_firing{{rule="{rule}"}} {float(state == ALERT)}\n' in text

    def aggregate_by_task(self):
        """Have the server aggregate as it does by its schedule, and wait for the end of that."""
        task = "/config/maintenance_task/fleet_aggregate"
        run_id = self.admin.post(f"{task}/run").json()["run_id"]
        deadline = time.monotonic() + 30.0
        while {each["run_id"]: each["status"] for each in self.admin.get(f"{task}/runs").json()["runs"]}.get(
            run_id, "running"
        ) == "running":
            assert time.monotonic() < deadline, "the run did not end"
            time.sleep(0.02)

    def live(self, hours):
        """Live for some hours, a quarter at a time; return every rule's states at its looks, one an hour."""
        states = {rule: set() for rule in RULES}
        learner = AGENTS[-1]
        self.status[learner] = "learning"
        for step in range(round(hours * 4)):
            for _ in range(3):
                self.pass_time(5 * MINUTE)
                self.place.context.counts.flush()
            self.beats()
            if step % 24 == 0:
                self.cycle()
                self.fetch_seeds(learner)
            elif step % 8 == 4:
                # One agent's bodies are damaged on the way now and then, never for half an hour on end.
                self.upload(bad=self.rng.random() < 0.3)
            else:
                self.upload(only=learner)
            if self.rng.random() < 0.03:
                name = AGENTS[int(self.rng.integers(len(AGENTS) - 1))]
                self.status[name] = "stale" if self.status[name] == "active" else "active"
            if step % 4 == 3:
                for rule, state in self.look().items():
                    states[rule].add(state)
        return states


@pytest.fixture
def clock():
    return SimulatedClock(time.time() // 300.0 * 300.0 + 1.0)


@pytest.fixture
def fleet(tmp_path, clock):
    with server_place(tmp_path, clock=clock, aggregation_max_token_share=1.0) as place:
        yield NoisyFleet(place, clock, seed=11)


def test_a_noisy_and_healthy_fleet_is_left_alone_and_then_each_rule_of_its_counts_fires(fleet, monkeypatch):
    """Two days and a half, and then one thing after another goes wrong."""
    states = fleet.live(60)
    assert {rule for rule, found in states.items() if ALERT in found} == set()
    # Nobody serves a bundle, so there are no scores to compare; a test of their own does.
    judged = set(RULES) - {"p_values"}
    assert {rule for rule, found in states.items() if OK in found} == judged
    for rule in sorted(judged):
        fleet.shows(rule, OK)
    summary = fleet.admin.get(SUMMARY).json()
    assert summary["not_measured"] == ["calibration"]
    # An agent's bodies are damaged all the time, and what the learning one gets as seeds it does not apply.
    fleet.prior.clear()
    for _ in range(8):
        fleet.pass_time(5 * MINUTE)
        fleet.beats()
        fleet.upload(bad=True)
        fleet.place.context.counts.flush()
    fleet.shows("upload_rejects", ALERT)
    fleet.shows("seed_effectiveness", ALERT)

    def refuse(*_, **__):
        raise FleetStoreError("away", reason="database_unavailable")

    with monkeypatch.context() as broken:
        broken.setattr(fleet.place.context.fleet, "aggregate", refuse)
        fleet.aggregate_by_task()
        fleet.shows("aggregation", OK)
        fleet.aggregate_by_task()
        fleet.shows("aggregation", ALERT)
    fleet.status = dict.fromkeys(AGENTS, "active")
    fleet.beats()
    for _ in range(3):
        fleet.pass_time(15 * MINUTE)
        fleet.beats(odd_share=0.4)
    fleet.shows("tree_anomalies", ALERT)
    fleet.shows("high_mi_destinations", OK)
    fleet.beat(AGENTS[2], confirmed=12)
    fleet.shows("high_mi_destinations", ALERT)
    fleet.shows("stale_transitions", OK)
    for _ in range(4):  # they go and come back
        fleet.status = dict.fromkeys(AGENTS, "stale")
        fleet.beats()
        fleet.status = dict.fromkeys(AGENTS, "active")
        fleet.beats()
    fleet.shows("stale_transitions", ALERT)


def test_the_baseline_of_a_healthy_fleet_moves_a_little_and_that_of_another_one_alerts(fleet):
    for _ in range(6):
        fleet.cycle()
        fleet.pass_time(CYCLE)
        assert fleet.look()["js_trend"] in {OK, "unknown"}
    fleet.shows("js_trend", OK)
    fleet.admin.post("/endpoint/fleet/approve", json={"reason": "a calm day"})
    fleet.cycle(moving=0.9)
    assert fleet.look()["js_trend"] == OK  # one cycle is none yet
    fleet.pass_time(CYCLE)
    fleet.cycle(moving=0.9)
    fleet.shows("js_trend", ALERT)


def test_many_series_that_drift_alert_and_noise_does_not(fleet):
    """Cycles of half an hour: sixty calm ones, and then every program does something else each time."""
    for _ in range(60):
        fleet.cycle()
        fleet.pass_time(HOUR / 2)
        assert fleet.look()["adwin_alarms"] == OK
    for number in range(24):
        fleet.cycle(moving=0.9, towards=number % 2)
        fleet.pass_time(HOUR / 2)
        if fleet.look()["adwin_alarms"] == ALERT:
            break
    fleet.shows("adwin_alarms", ALERT)


def test_a_change_under_a_frozen_rollout_alerts_and_a_frozen_one_that_is_left_alone_does_not(fleet):
    def post(path, **body):
        answer = fleet.admin.post(path, json=body)
        assert answer.status_code in {200, 201}, answer.text

    for name in AGENTS:
        fleet.beat(name)
    shares = {"baseline_upload_canary_percent": 0, "fleet_seed_canary_percent": 0}
    post("/endpoint/policy", policy_id="new", policy_version="v1", policy_json=shares)
    post("/endpoint/policy/advance", policy_id="new", to_percent=1, force=True, reason="a test")
    post("/endpoint/fleet/freeze", reason="an alarm")
    for _ in range(5):
        fleet.pass_time(HOUR)
        fleet.beats()
        fleet.cycle()
        assert fleet.look()["safety"] == OK
    post("/endpoint/policy", policy_id="new", policy_version="v2", policy_json={**shares, "bundle_canary_percent": 5})
    fleet.shows("safety", ALERT)
