"""Rollouts on both databases, forward and held. The figures of the checks are rows in the tables."""

import pytest
import sqlalchemy as sa
from rollout_fleet import AGENTS, DAYS, HALF_AN_HOUR, POLICY, RolloutFleet, refusal

from eguard.errors import ServerRefusalError
from eguard.fleet.tables import (
    audit_log,
    fleet_generation,
)
from eguard.policy import canary_bucket, parse_policy_document
from eguard.server.services.policies import Target
from eguard.server.services.policy_assembly import open_policies
from eguard.server.services.policy_writes import Assigned
from eguard.server.services.rollout_checks import STAGES

#: What depends on how a database locks, compares or orders.
ON_BOTH = pytest.mark.parametrize("one_database", ["sqlite", "mariadb"], indirect=True)


@pytest.fixture
def fleet(one_database, fleet_clock, tmp_path, ada):
    return RolloutFleet(one_database, fleet_clock, open_policies(one_database, fleet_clock, tmp_path / "keys"), ada)


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
