"""Rollouts on both databases, stopped and taken back."""

import pytest
from rollout_fleet import AGENTS, HALF_AN_HOUR, POLICY, RolloutFleet, refusal

from eguard.errors import ServerRefusalError
from eguard.fleet.tables import (
    endpoint_inventory,
)
from eguard.policy import parse_policy_document
from eguard.server.services.policies import Target
from eguard.server.services.policy_assembly import open_policies
from eguard.server.services.policy_writes import Assigned

#: What depends on how a database locks, compares or orders.
ON_BOTH = pytest.mark.parametrize("one_database", ["sqlite", "mariadb"], indirect=True)


@pytest.fixture
def fleet(one_database, fleet_clock, tmp_path, ada):
    return RolloutFleet(one_database, fleet_clock, open_policies(one_database, fleet_clock, tmp_path / "keys"), ada)


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
