"""Rollouts on both databases: forward, held, stopped, back. The figures of the checks are rows in the tables."""

import pytest
import sqlalchemy as sa

from eguard.errors import ServerRefusalError
from eguard.fleet.ingest import EXPIRY_SECONDS
from eguard.fleet.tables import (
    alert_feedback,
    audit_log,
    endpoint_agent,
    endpoint_baseline,
    endpoint_event,
    endpoint_inventory,
    fleet_generation,
)
from eguard.policy import canary_bucket, parse_policy_document
from eguard.server.services.policies import Target
from eguard.server.services.policy_assembly import open_policies
from eguard.server.services.policy_writes import Assigned
from eguard.server.services.rollout_checks import STAGES
from eguard.server.services.rollouts import Step

#: What depends on how a database locks, compares or orders.
ON_BOTH = pytest.mark.parametrize("one_database", ["sqlite", "mariadb"], indirect=True)
POLICY = "mlops-rollout"
#: Every tenth of two thousand in the order of their buckets: each stage has somebody.
AGENTS = sorted((f"agent-{index:04d}" for index in range(2000)), key=lambda name: canary_bucket(name, POLICY))[::10]
HALF_AN_HOUR = 1800.0
DAYS = 86_400.0


class Fleet:
    """Two hundred agents of the group web, sorted by bucket, and what they leave in the database."""

    def __init__(self, database, clock, services, ada):
        self.database, self.clock, self.services, self.ada = database, clock, services, ada
        self.policies, self.rollouts = services.policies, services.rollouts
        begun = clock.now() - 30 * DAYS
        self._insert(
            endpoint_agent,
            [
                {"agent_id": name, "incarnation": "i", "incarnation_ordinal": 1, "group": "web", "status": "active"}
                | {"enrolled_at": begun, "last_heartbeat": begun, "cpu_fraction": 0.004, "rss_bytes": 150 << 20}
                for name in AGENTS
            ],
        )
        self.events = 0

    def _insert(self, table, rows):
        with self.database.write() as connection:
            connection.execute(sa.insert(table), rows)

    def post(self, percent, **fields):
        shares = {"baseline_upload_canary_percent": percent, "fleet_seed_canary_percent": percent}
        document = parse_policy_document(
            {"baseline_upload_enabled": True, "fleet_seed_enabled": True} | shares | fields
        )
        stored, _ = self.policies.create(self.ada, POLICY, "v1", document)
        self.policies.assign(self.ada, Target("group", "web"), Assigned(POLICY))
        return stored

    def pass_time(self, seconds, *, heard=AGENTS, **report):
        """Let time pass; those that are `heard` send heartbeats at its end."""
        self.clock.advance_to(self.clock.now() + seconds)
        with self.database.write() as connection:
            wanted = endpoint_agent.c.agent_id.in_(list(heard))
            connection.execute(
                sa.update(endpoint_agent).where(wanted).values(last_heartbeat=self.clock.now(), **report)
            )

    def upload(self, *names, prior_generation=None):
        now = self.clock.now()
        row = {"process_key": "bash:sshd", "event_distribution": {}, "distribution_vector": b"\0" * 32}
        row |= {"sample_count": 1, "entropy_threshold": 1.0, "learned_at": now, "key_shard": 0, "seq": 1}
        row |= {"incarnation": "i", "incarnation_ordinal": 1, "prior_generation": prior_generation}
        row |= {"updated_at": now, "expires_at": now + EXPIRY_SECONDS}
        with self.database.write() as connection:
            wanted = endpoint_baseline.c.agent_id.in_(names)
            connection.execute(sa.delete(endpoint_baseline).where(wanted))
            connection.execute(sa.insert(endpoint_baseline), [row | {"agent_id": name} for name in names])

    def alert(self, name, *verdicts, at=None, suppressed_by=None):
        self.events += 1
        event_id = f"event-{self.events}"
        now = self.clock.now() if at is None else at
        row = {"event_id": event_id, "agent_id": name, "observed_at": now, "received_at": now, "detail": {}}
        row |= {"event_class": "process_exec", "process_key": "k:k", "rule_id": "r", "severity": "high"}
        self._insert(endpoint_event, [row | {"search_text": "", "suppressed_by": suppressed_by}])
        for number, verdict in enumerate(verdicts):
            said = {"feedback_id": f"{event_id}-{number}", "event_id": event_id, "verdict": verdict}
            self._insert(alert_feedback, [said | {"analyst": "bob", "note": "", "created_at": now + number}])

    def stage(self):
        return self.rollouts.status(POLICY)["rollouts"][0]

    def check(self, name):
        return next(check for check in self.stage()["checks"] if check["name"] == name)

    def advance(self, **step):
        return self.rollouts.advance(self.ada, POLICY, Step(**step))

    def actions(self):
        with self.database.read() as connection:
            return list(connection.execute(sa.select(audit_log.c.action).order_by(audit_log.c.sequence)).scalars())

    def allowed(self):
        found = [self.policies.controls_for(name) for name in AGENTS]
        return sum(each.upload_enabled and each.upload_in_canary for each in found)


@pytest.fixture
def fleet(one_database, fleet_clock, tmp_path, ada):
    return Fleet(one_database, fleet_clock, open_policies(one_database, fleet_clock, tmp_path / "keys"), ada)


def refusal(call, *arguments, **named):
    with pytest.raises(ServerRefusalError) as refused:
        call(*arguments, **named)
    return refused.value.reason, [code for code, _ in refused.value.errors]


@ON_BOTH
def test_the_whole_way_from_nobody_to_everybody(fleet):
    fleet.post(0, baseline_mode="learning")
    mode = fleet.policies.payload_for(AGENTS[0]).mode_revision
    assert fleet.allowed() == 0
    for stage in STAGES[1:]:
        fleet.pass_time(HALF_AN_HOUR)
        answered = fleet.advance()
        cohort = [name for name in AGENTS if canary_bucket(name, POLICY) < stage * 100]
        assert (answered["stage_percent"], answered["cohort_size"]) == (stage, len(cohort))
        assert fleet.allowed() == len(cohort)
        assert answered["forced"] == []
        fleet.pass_time(60.0)
        fleet.upload(*cohort)
    # Nobody learned anew on the way, and the buckets stayed.
    payload = fleet.policies.payload_for(AGENTS[0])
    assert (payload.mode_revision, payload.rollout_id) == (mode, POLICY)
    fleet.pass_time(HALF_AN_HOUR)
    assert refusal(fleet.advance) == ("rollout_complete", [])
    assert fleet.actions().count("policy.advance") == 4


def test_a_stage_lasts_half_an_hour(fleet):
    fleet.post(0)
    fleet.pass_time(HALF_AN_HOUR - 1.0)
    assert refusal(fleet.advance) == ("rollout_refused", ["dwell"])
    assert not fleet.stage()["may_advance"]
    fleet.pass_time(1.0)
    assert fleet.stage()["may_advance"]
    fleet.advance()
    assert fleet.stage()["stage_percent"] == 1.0
    assert refusal(fleet.advance)[1][0] == "dwell"


def test_a_stage_is_not_skipped_and_nothing_goes_backwards(fleet):
    fleet.post(0)
    fleet.pass_time(HALF_AN_HOUR)
    assert refusal(fleet.advance, to_percent=5.0) == ("rollout_refused", ["skip"])
    fleet.advance(to_percent=1.0)
    assert refusal(fleet.advance, to_percent=1.0) == ("rollout_backwards", [])
    assert refusal(fleet.advance, to_percent=0.5, is_forced=True, reason="x") == ("rollout_backwards", [])


def test_force_needs_a_reason_and_says_on_record_what_it_overrode(fleet):
    fleet.post(0)
    assert refusal(fleet.advance, is_forced=True, reason=" ")[0] == "reason_required"
    answered = fleet.advance(to_percent=20.0, is_forced=True, reason="a drill")
    assert answered["stage_percent"] == 20.0
    with fleet.database.read() as connection:
        wanted = sa.select(audit_log.c.detail).where(audit_log.c.action == "policy.advance")
        detail = connection.execute(wanted).scalar_one()
    assert detail["reason"] == "a drill"
    assert {"dwell", "skip"} <= {code for code, _ in detail["forced"]}


@ON_BOTH
def test_frozen_rollouts_stay_until_they_are_resumed(fleet):
    fleet.post(0)
    fleet.pass_time(HALF_AN_HOUR)
    assert fleet.rollouts.freeze(fleet.ada, "drift alarm") == {"frozen": [POLICY]}
    assert fleet.rollouts.freeze(fleet.ada, "again") == {"frozen": []}
    assert refusal(fleet.advance) == ("rollout_refused", ["frozen"])
    stage = fleet.stage()
    assert (stage["is_frozen"], stage["frozen_reason"], stage["frozen_by"]) == (True, "drift alarm", "ada")
    # Posting a larger share would be a way around.
    assert refusal(fleet.post, 5)[0] == "rollout_frozen"
    assert refusal(fleet.post, 5, rollout_id="other")[0] == "rollout_frozen"
    assert fleet.rollouts.resume(fleet.ada, "organic", "other") == {"resumed": []}
    assert fleet.rollouts.resume(fleet.ada, "organic", POLICY) == {"resumed": [POLICY]}
    fleet.advance()
    actions = fleet.actions()
    assert (actions.count("rollout.freeze"), actions.count("rollout.resume")) == (1, 1)


def test_an_upload_from_outside_the_cohort_stops_the_rollout(fleet):
    fleet.post(20)
    fleet.pass_time(HALF_AN_HOUR)
    inside = fleet.stage()["cohort_size"]
    fleet.upload(*AGENTS[:inside])
    assert fleet.check("uploads_inside_cohort")["state"] == "ok"
    fleet.upload(AGENTS[inside])
    found = fleet.check("uploads_inside_cohort")
    assert (found["ok"], found["value"]) == (False, {"agents_inside": inside, "agents_outside": 1})
    assert AGENTS[inside] in found["detail"]
    assert refusal(fleet.advance) == ("rollout_refused", ["uploads_inside_cohort"])


def test_uploads_from_before_the_stage_do_not_count(fleet):
    fleet.upload(*AGENTS)
    fleet.pass_time(60.0)
    fleet.post(20)
    fleet.pass_time(HALF_AN_HOUR)
    assert fleet.check("uploads_inside_cohort")["state"] == "unknown"
    assert refusal(fleet.advance)[1] == ["uploads_inside_cohort", "seeds_inside_cohort"]


@ON_BOTH
def test_a_seed_outside_the_cohort_counts_unless_its_generation_was_replaced_before(fleet):
    fleet.upload(AGENTS[0])
    row = {"source": "aggregate", "key_count": 1, "is_reference": False, "is_pruned": False}
    for generation, at in ((6, -DAYS), (7, -60.0)):
        fleet._insert(fleet_generation, [row | {"generation": generation, "computed_at": fleet.clock.now() + at}])
    fleet.post(20, baseline_upload_canary_percent=100)
    fleet.pass_time(HALF_AN_HOUR)
    fleet.upload(AGENTS[0], prior_generation=7)
    fleet.upload(AGENTS[-1], prior_generation=6)
    assert fleet.check("seeds_inside_cohort")["state"] == "ok"
    fleet.upload(AGENTS[-1], prior_generation=7)
    found = fleet.check("seeds_inside_cohort")
    assert (found["ok"], found["value"]) == (False, {"agents_inside": 1, "agents_outside": 1})
    assert fleet.check("uploads_inside_cohort")["state"] == "ok"


def test_a_stage_without_anybody_in_it_is_not_known_and_does_not_pass(fleet):
    fleet.post(0.01)
    fleet.pass_time(HALF_AN_HOUR)
    assert fleet.stage()["cohort_size"] == 0
    assert {check["state"] for check in fleet.stage()["checks"]} == {"unknown"}
    assert len(refusal(fleet.advance)[1]) == 4


def test_only_agents_of_the_policy_are_looked_at(fleet):
    fleet.post(20)
    outside = AGENTS[-1]
    fleet.policies.assign(fleet.ada, Target("agent", outside), Assigned("default"))
    fleet.pass_time(HALF_AN_HOUR)
    fleet.upload(AGENTS[0], outside)
    assert fleet.check("uploads_inside_cohort")["state"] == "ok"
    assert fleet.stage()["agents"] == len(AGENTS) - 1


@pytest.mark.parametrize(
    ("report", "share", "state"),
    [
        ({"cpu_fraction": 0.2}, 0.5, "missed"),
        ({"rss_bytes": 300 << 20}, 0.5, "missed"),
        ({"cpu_fraction": 0.2}, 0.02, "ok"),
        ({"rss_bytes": 0}, 1.0, "unknown"),
    ],
    ids=["cpu", "memory", "one in fifty", "not measured"],
)
def test_the_budget_is_that_of_the_95th_percentile(fleet, report, share, state):
    fleet.post(100)
    fleet.pass_time(HALF_AN_HOUR)
    fleet.pass_time(1.0, heard=AGENTS[: int(share * len(AGENTS))], **report)
    assert fleet.check("agents_inside_budget")["state"] == state


def test_agents_that_fell_silent_in_the_stage_stop_it(fleet):
    fleet.post(100)
    fleet.pass_time(60.0)
    fleet.pass_time(HALF_AN_HOUR, heard=AGENTS[30:])
    found = fleet.check("agents_inside_budget")
    assert (found["ok"], found["value"]["silent_fraction"]) == (False, 0.15)


def test_agents_that_were_silent_all_along_are_not_known(fleet):
    fleet.post(5)
    fleet.pass_time(HALF_AN_HOUR, heard=[])
    assert fleet.check("agents_inside_budget")["state"] == "unknown"


def test_a_spike_of_alerts_inside_the_cohort_stops_it_and_one_outside_does_not(fleet):
    fleet.post(20)
    fleet.pass_time(HALF_AN_HOUR)
    for _ in range(40):
        fleet.alert(AGENTS[-1])
        fleet.alert(AGENTS[0], suppressed_by="w1")
    assert fleet.check("alert_queue")["state"] == "ok"
    for _ in range(12):
        fleet.alert(AGENTS[0], "true_positive")
    found = fleet.check("alert_queue")
    assert found["ok"] is False
    assert found["value"]["alerts_per_agent_hour"] == pytest.approx(12 / (fleet.stage()["cohort_size"] / 2))


@ON_BOTH
def test_the_latest_verdict_of_each_alert_counts(fleet):
    fleet.post(100)
    fleet.pass_time(HALF_AN_HOUR)
    for index in range(6):
        fleet.alert(AGENTS[index], "true_positive", "false_positive")
    found = fleet.check("alert_queue")
    assert (found["ok"], found["value"]["false_positive_fraction"]) == (False, 1.0)
    for index in range(6):
        fleet.alert(AGENTS[index], "false_positive", "true_positive")
    assert fleet.check("alert_queue")["value"]["false_positive_fraction"] == 0.5


def test_alerts_that_nobody_judged_are_not_known(fleet):
    fleet.post(100)
    fleet.pass_time(HALF_AN_HOUR)
    fleet.alert(AGENTS[0])
    assert fleet.check("alert_queue")["state"] == "unknown"


def test_two_that_advance_at_once_make_one_step(fleet, monkeypatch):
    fleet.post(0)
    fleet.pass_time(HALF_AN_HOUR)
    look = type(fleet.rollouts)._look

    def meanwhile(rollouts, connection, policy_id):
        seen = look(rollouts, connection, policy_id)
        monkeypatch.undo()
        fleet.advance()
        return seen

    monkeypatch.setattr(type(fleet.rollouts), "_look", meanwhile)
    assert refusal(fleet.advance)[0] == "rollout_changed"
    assert fleet.stage()["stage_percent"] == 1.0


def test_a_freeze_while_the_checks_are_made_counts(fleet, monkeypatch):
    fleet.post(0)
    fleet.pass_time(HALF_AN_HOUR)
    look = type(fleet.rollouts)._look

    def meanwhile(rollouts, connection, policy_id):
        seen = look(rollouts, connection, policy_id)
        monkeypatch.undo()
        fleet.rollouts.freeze(fleet.ada, "drift")
        return seen

    monkeypatch.setattr(type(fleet.rollouts), "_look", meanwhile)
    assert refusal(fleet.advance)[0] == "rollout_changed"
    assert fleet.stage()["stage_percent"] == 0.0


def test_the_kill_switch_stops_one_policy(fleet):
    fleet.post(100)
    assert fleet.allowed() == len(AGENTS)
    mode = fleet.policies.payload_for(AGENTS[0]).mode_revision
    answered = fleet.rollouts.kill(fleet.ada, "bad profiles", POLICY)
    assert fleet.allowed() == 0
    assert answered["frozen"] == [POLICY]
    stage = fleet.stage()
    assert (stage["is_switched_off"], stage["frozen_reason"]) == (True, "kill switch: bad profiles")
    assert fleet.policies.payload_for(AGENTS[0]).mode_revision == mode
    assert fleet.policies.controls_for("agent of another group").upload_enabled
    fleet.pass_time(HALF_AN_HOUR)
    assert refusal(fleet.advance)[0] == "rollout_complete"


@ON_BOTH
def test_the_kill_switch_stops_everything_at_once(fleet):
    fleet.post(100)
    fleet.policies.create(fleet.ada, "pinned", "v1", parse_policy_document({}))
    fleet.policies.create(fleet.ada, "pinned", "v2", parse_policy_document({"bundle_canary_percent": 7}))
    fleet.policies.assign(fleet.ada, Target("agent", AGENTS[0]), Assigned("pinned", "v1"))
    fleet.policies.assign(fleet.ada, Target("agent", AGENTS[1]), Assigned("pinned"))
    answered = fleet.rollouts.kill(fleet.ada, "everything")
    assert {each["policy_id"] for each in answered["revisions"]} == {"default", POLICY, "pinned"}
    for name in (*AGENTS, "never enrolled"):
        controls = fleet.policies.controls_for(name)
        assert (controls.upload_enabled, controls.seed_enabled) == (False, False)
    # Whoever follows the latest version still follows the same one.
    assert fleet.policies.payload_for(AGENTS[1]).policy["bundle_canary_percent"] == 7
    assert fleet.actions().count("policy.kill") == 1
    again = fleet.rollouts.kill(fleet.ada, "everything")
    assert again == {"revisions": [], "frozen": []}
    assert fleet.actions().count("policy.kill") == 1


def test_the_latest_version_stays_the_latest_when_an_older_one_is_stopped(fleet):
    fleet.post(100)
    off = {"baseline_upload_enabled": False, "fleet_seed_enabled": False, "bundle_canary_percent": 9}
    fleet.policies.create(fleet.ada, POLICY, "v2", parse_policy_document(off))
    answered = fleet.rollouts.kill(fleet.ada, "stop", POLICY)
    assert [each["policy_version"] for each in answered["revisions"]] == ["v1", "v2"]
    assert fleet.policies.get(POLICY).policy_version == "v2"
    assert fleet.policies.payload_for(AGENTS[0]).policy["bundle_canary_percent"] == 9


@ON_BOTH
def test_the_rollback_walks_the_manuals_steps_and_begins_anew_at_stage_0(fleet):
    fleet.post(100)
    fleet.policies.assign(fleet.ada, Target("agent", AGENTS[0]), Assigned(POLICY, "v1"))
    fleet.pass_time(60.0)
    inventory = {"hostname": "h", "os_type": "linux", "os_version": "", "kernel_version": "", "architecture": ""}
    inventory |= {"ip_address": "", "mac_address": "", "cpu_count": 1, "memory_bytes": 1, "agent_version": ""}
    inventory |= {"sensor": "", "collected_at": fleet.clock.now()}
    fleet._insert(endpoint_inventory, [inventory | {"agent_id": name} for name in AGENTS[:150]])

    steps = fleet.rollouts.roll_back(fleet.ada, POLICY, Assigned("default"), "poisoned")["steps"]

    assert [(step["step"], step["state"]) for step in steps] == [
        (1, "done"),
        (2, "done"),
        (3, "operator"),
        (4, "pending"),
        (5, "ready"),
    ]
    assert steps[1]["assignments"] == [f"agent {AGENTS[0]}", "group web"]
    assert (steps[3]["agents"], steps[3]["fresh_heartbeats"], steps[3]["fresh_inventories"]) == (200, 200, 150)
    assert {fleet.policies.payload_for(name).policy_id for name in AGENTS} == {"default"}
    stage = fleet.stage()
    assert (stage["stage_percent"], stage["is_switched_off"], stage["agents"]) == (0.0, True, 0)
    assert fleet.actions()[-1] == "policy.rollback"
    assert fleet.actions().count("policy.rollback") == 1

    # Step 5: the policy is given to the group again, and goes its way from the beginning.
    fleet.policies.assign(fleet.ada, Target("group", "web"), Assigned(POLICY))
    assert fleet.allowed() == 1  # whom an operator had named keeps the stable one
    fleet.pass_time(HALF_AN_HOUR)
    answered = fleet.advance()
    assert answered["stage_percent"] == 1.0
    document = fleet.policies.get(POLICY).document
    assert (document.baseline_upload_enabled, document.fleet_seed_enabled) == (True, True)


def test_a_rollback_to_an_earlier_version_of_the_same_policy(fleet):
    fleet.post(100, bundle_canary_percent=3)
    document = parse_policy_document({"baseline_upload_canary_percent": 100, "fleet_seed_canary_percent": 100})
    fleet.policies.create(fleet.ada, POLICY, "v2", document)
    fleet.policies.assign(fleet.ada, Target("group", "web"), Assigned(POLICY, "v2"))
    with pytest.raises(ServerRefusalError, match="itself"):
        fleet.rollouts.roll_back(fleet.ada, POLICY, Assigned(POLICY, "v2"), "bad")
    fleet.rollouts.roll_back(fleet.ada, POLICY, Assigned(POLICY, "v1"), "bad")
    payload = fleet.policies.payload_for(AGENTS[0])
    assert (payload.policy_version, payload.policy["bundle_canary_percent"]) == ("v1", 3.0)
    assert payload.policy["baseline_upload_canary_percent"] == 0.0
    assert fleet.allowed() == 0
    assert fleet.policies.get(POLICY).policy_version == "v1"


def test_a_rollback_of_the_default_policy_leaves_it_off(fleet):
    steps = fleet.rollouts.roll_back(fleet.ada, "default", Assigned("default"), "bad")["steps"]
    assert steps[1]["state"] == "skipped"
    assert fleet.allowed() == 0


def test_a_rollback_without_a_way_back_changes_nothing(fleet):
    fleet.post(100)
    before = fleet.actions()
    assert refusal(fleet.rollouts.roll_back, fleet.ada, POLICY, Assigned("gone"), "bad")[0] == "unknown_policy"
    assert refusal(fleet.rollouts.roll_back, fleet.ada, "gone", Assigned("default"), "bad")[0] == "unknown_policy"
    assert fleet.allowed() == len(AGENTS)
    assert fleet.actions() == before


def test_a_stopped_policy_does_not_go_on(fleet):
    fleet.post(5)
    fleet.rollouts.kill(fleet.ada, "stop", POLICY)
    fleet.rollouts.resume(fleet.ada, "go")
    fleet.pass_time(HALF_AN_HOUR)
    assert refusal(fleet.advance, is_forced=True, reason="please") == ("switched_off", [])
    assert not fleet.stage()["may_advance"]


def test_switches_come_back_as_they_were_before_the_stop(fleet):
    fleet.post(0, fleet_seed_enabled=False)
    fleet.rollouts.kill(fleet.ada, "stop", POLICY)
    fleet.rollouts.resume(fleet.ada, "go")
    fleet.pass_time(HALF_AN_HOUR)
    fleet.advance()
    document = fleet.policies.get(POLICY).document
    assert (document.baseline_upload_enabled, document.fleet_seed_enabled) == (True, False)


def test_the_status_lists_every_rollout_and_says_what_holds_it(fleet):
    fleet.post(5)
    fleet.policies.create(fleet.ada, "other", "v1", parse_policy_document({"fleet_seed_canary_percent": 1}))
    status = fleet.rollouts.status()
    assert [each["policy_id"] for each in status["rollouts"]] == [POLICY, "other"]
    assert [each["stage_percent"] for each in status["rollouts"]] == [5.0, 100.0]
    codes = [cause["code"] for cause in status["rollouts"][0]["causes"]]
    assert codes[0] == "dwell"
    assert "uploads_inside_cohort" in codes
    with pytest.raises(ServerRefusalError, match="no policy gone"):
        fleet.rollouts.status("gone")


def test_two_policies_cannot_deal_one_rollout(fleet):
    fleet.post(5)
    document = parse_policy_document({"fleet_seed_canary_percent": 1, "rollout_id": POLICY})
    assert refusal(fleet.policies.create, fleet.ada, "other", "v1", document)[0] == "rollout_taken"
