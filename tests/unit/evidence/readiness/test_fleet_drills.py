"""Drills on the fleet, against rows and answers as they are, and as they should not be."""

import pytest
from drill_scene import NOW, STAGES, Scripted, agent, baseline, insert, machine, missed, run

from eguard.errors import EvidenceError
from eguard.evidence.readiness.agents import choose_agent
from eguard.fleet.tables import (
    audit_log,
    endpoint_agent,
    endpoint_baseline,
    endpoint_inventory,
    fleet_generation,
    notification,
)

LOOP = {
    "fleet aggregate": {"aggregated": 3, "generation": 5},
    "fleet rows": {"generation": 5, "fleet_baselines": [{"process_key": "bash:sshd"}]},
}


def fill_loop(database, sensor="ebpf", heard=NOW - 10, seeded=NOW - 600, prior=4, updated=NOW - 300):
    names = ("a", "b", "c")
    insert(database, endpoint_agent, *(agent(name, last_heartbeat=heard, last_seed_at=seeded) for name in names))
    insert(database, endpoint_inventory, *(machine(name, sensor=sensor) for name in names))
    insert(
        database,
        fleet_generation,
        {
            "generation": 4,
            "computed_at": NOW - 500,
            "source": "aggregate",
            "key_count": 1,
            "is_reference": False,
            "is_pruned": False,
        },
    )
    insert(database, endpoint_baseline, *(baseline(name, prior_generation=prior, updated_at=updated) for name in names))


def test_the_loop_is_followed_from_upload_to_the_use_of_a_seed(database):
    fill_loop(database)
    record, course = run("loop", LOOP, database)
    assert (record["passed"], missed(record), record["error"]) == (True, [], "")
    assert course.asked == ["fleet aggregate", "fleet rows --limit 1000"]
    assert [len(each["rows"]) for each in record["observed"]] == [3, 3, 3]


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ({"sensor": "replay"}, 3),
        ({"heard": NOW - 1000}, 3),
        ({"updated": NOW - 90_000}, 2),
        ({"seeded": None}, 1),
        ({"prior": None}, 1),
        ({"updated": NOW - 550}, 1),
    ],
    ids=["replayed", "silent", "old-uploads", "never-fetched", "no-seed", "uploaded-before-the-seed-was-made"],
)
def test_the_loop_fails_without_each_of_its_steps(database, how, names):
    fill_loop(database, **how)
    record, _ = run("loop", LOOP, database)
    assert not record["passed"]
    assert len(missed(record)) == names


def test_the_loop_fails_where_nothing_is_published(database):
    fill_loop(database)
    record, _ = run("loop", LOOP | {"fleet rows": {"generation": 4, "fleet_baselines": []}}, database)
    assert missed(record) == ["rows handed out of the current generation"]
    record, _ = run("loop", {"fleet aggregate": EvidenceError("refused")}, database)
    assert record["error"] == "refused"


def audited(number, at, action, object_id="mlops", object_type="policy", **detail):
    return {
        "sequence": number,
        "at": at,
        "principal": "op",
        "role": "admin",
        "action": action,
        "object_type": object_type,
        "object_id": object_id,
        "detail": detail,
        "credential": "token",
        "address": "",
        "previous_hash": f"{number - 1:064d}",
        "record_hash": f"{number:064d}",
    }


def rollout(seconds=2000.0, forced=(), stages=STAGES):
    begin = NOW - (len(stages)) * seconds
    return [
        audited(
            number + 1,
            begin + number * seconds,
            "policy.advance",
            from_percent=stage[0],
            to_percent=stage[1],
            forced=[["dwell", "x"]] if stage[1] in forced else [],
        )
        for number, stage in enumerate(stages)
    ]


def test_a_rollout_through_all_stages_passes(database):
    insert(database, audit_log, *rollout())
    record, course = run("canary", {"policy status": {"rollouts": []}}, database)
    assert (record["passed"], record["error"]) == (True, "")
    assert course.asked == ["policy status mlops"]


@pytest.mark.parametrize(
    ("rows", "names"),
    [
        (rollout(forced=(20,)), ["stages that were forced"]),
        (rollout(seconds=600.0), ["seconds in each stage", "seconds at 100 percent"]),
        (rollout(stages=((0, 1), (1, 20), (20, 100))), ["stages"]),
        ([*rollout(), audited(9, NOW - 5000, "policy.kill", "*")], ["setbacks"]),
        ([*rollout(), audited(9, NOW - 5000, "policy.rollback")], ["setbacks"]),
        ([*rollout(), audited(9, NOW - 5000, "fleet.drift_alarm", "7", "fleet")], ["setbacks"]),
        ([*rollout(), audited(9, NOW - 5000, "policy.kill", "readiness-drill")], []),
        ([*rollout(), audited(9, NOW - 90_000, "policy.kill", "*")], []),
    ],
    ids=["forced", "hurried", "skipped", "killed", "rolled-back", "drift", "a-drill-meanwhile", "long-before"],
)
def test_what_spoils_a_rollout(database, rows, names):
    insert(database, audit_log, *rows)
    record, _ = run("canary", {"policy status": {"rollouts": []}}, database)
    assert missed(record) == names


def test_a_critical_message_on_the_way_spoils_a_rollout(database):
    insert(database, audit_log, *rollout())
    message = {"severity": "critical", "title": "drift", "detail": {}, "created_at": NOW - 3000, "kind": "fleet_drift"}
    insert(database, notification, {"notification_id": "n", **message})
    record, _ = run("canary", {"policy status": {"rollouts": []}}, database)
    assert missed(record) == ["Sev-1/2 incidents"]


def test_a_rollout_begun_anew_is_judged_by_its_second_way(database):
    first = rollout(forced=(1, 5))[:2]
    second = [row | {"sequence": row["sequence"] + 10, "record_hash": f"x{row['sequence']:063d}"} for row in rollout()]
    insert(database, audit_log, *[row | {"at": row["at"] - 50_000} for row in first], *second)
    record, _ = run("canary", {"policy status": {"rollouts": []}}, database)
    assert record["passed"]


def test_no_rollout_is_no_canary(database):
    insert(database, audit_log, *rollout()[:3])
    record, _ = run("canary", {}, database)
    assert "no rollout has reached 100 percent" in record["error"]
    record, _ = run("canary", {}, database, policy="mlops")
    assert "mlops has not reached 100 percent" in record["error"]


def test_the_agent_of_a_drill_runs_now(database):
    insert(database, endpoint_agent, agent("old", last_heartbeat=NOW - 500), agent("new"), agent("q", status="x"))
    course = Scripted("kill-switch", {}, database)
    assert choose_agent(course) == "new"
    for name in ("old", "q", "nobody"):
        with pytest.raises(EvidenceError, match=name):
            choose_agent(course, name)


def switching(controls=None):
    shown = {
        "policy": {"bundle_canary_percent": 5},
        "bucket": 400,
        "controls": controls or {"upload_enabled": False, "seed_enabled": False},
        "policy_id": "default",
        "revision": 8,
    }
    return {
        "policy show": shown,
        "policy create": {"revision": 6},
        "policy assign": {"revision": 7},
        "policy kill": {"revisions": [{"revision": 8}]},
        "policy resume": {},
        "policy withdraw": {},
    }


def test_an_agent_that_does_not_follow_the_switch_fails_the_drill_and_is_given_back(database):
    insert(database, endpoint_agent, agent("a", policy_revision=7, events_total=5))
    record, course = run("kill-switch", switching(), database)
    assert missed(record) == [
        "seconds until a heartbeat said that the agent follows it",
        "heartbeats seen meanwhile",
    ]
    assert course.asked[-2:] == [
        "policy resume --policy readiness-drill --reason readiness drill",
        "policy withdraw --agent a --reason readiness drill",
    ]


def test_a_server_that_goes_on_serving_fails_the_drill(database):
    insert(database, endpoint_agent, agent("a", policy_revision=9))
    record, _ = run("kill-switch", switching({"upload_enabled": True, "seed_enabled": False}), database)
    assert "what the server lets the agent do at once" in missed(record)


def test_an_agent_is_given_back_though_the_drill_breaks_off(database):
    insert(database, endpoint_agent, agent("a", policy_revision=9))
    record, course = run("kill-switch", switching() | {"policy kill": EvidenceError("refused")}, database)
    assert record["error"] == "refused"
    assert course.asked[-1].startswith("policy withdraw --agent a")


def test_a_rollback_that_leaves_the_agent_where_it_was_fails(database):
    insert(database, endpoint_agent, agent("a", policy_revision=7, events_total=5))
    insert(database, endpoint_inventory, machine("a"))
    steps = [{"step": n, "state": state} for n, state in enumerate(("done", "done", "operator", "done", "ready"), 1)]
    answers = switching() | {
        "policy rollback": {"steps": steps},
        "policy advance": {"from_percent": 0.0, "stage_percent": 1.0},
    }
    record, _ = run("rollback", answers, database)
    assert missed(record) == ["the agent follows it", "documented"]
