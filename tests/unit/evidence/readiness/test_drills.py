"""Each drill against rows and answers as they are, and as they should not be."""

import json
import shutil

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import EvidenceError
from eguard.evidence.readiness.agents import choose_agent
from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.evidence.readiness.drills import DRILLS, run_drill
from eguard.evidence.redaction import Redactor
from eguard.fleet.database import Database
from eguard.fleet.tables import (
    audit_log,
    endpoint_agent,
    endpoint_baseline,
    endpoint_certificate,
    endpoint_inventory,
    fleet_generation,
    notification,
    notification_delivery,
)

NOW = 1_772_000_000.0
STAGES = ((0, 1), (1, 5), (5, 20), (20, 100))


class Scripted(Course):
    """A course whose commands answer what the test says: by the command's first words, each answer a value or error."""

    def __init__(self, drill, answers, database=None):
        super().__init__(drill, Redactor(), SimulatedClock(NOW), database=database)
        self.answers = answers
        self.asked = []

    def run(self, *arguments, **_named):
        self.asked.append(" ".join(arguments))
        for words, answer in self.answers.items():
            if self.asked[-1].startswith(words):
                if isinstance(answer, EvidenceError):
                    raise answer
                return answer
        raise EvidenceError(f"nobody answers {self.asked[-1]}")


@pytest.fixture
def database(tmp_path, migrated_sqlite):
    made = Database(f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'fleet.db')}")
    yield made
    made.dispose()


def insert(database, table, *rows):
    with database.write() as connection:
        connection.execute(sa.insert(table), list(rows))


def run(drill, answers, database=None, **options):
    course = Scripted(drill, answers, database)
    return run_drill(course, DrillOptions(wait_seconds=0.0, **options)), course


def missed(record):
    return [check["name"] for check in record["checks"] if not check["passed"]]


def agent(name, **changes):
    return {
        "agent_id": name,
        "incarnation": "i",
        "incarnation_ordinal": 1,
        "group": "default",
        "status": "active",
        "enrolled_at": NOW - 9e5,
        "last_heartbeat": NOW - 10,
        "last_seed_at": NOW - 600,
        "bundle_version": "m1",
        **changes,
    }


def machine(name, **changes):
    texts = ("hostname", "os_type", "os_version", "kernel_version", "architecture", "ip_address", "agent_version")
    return {
        "agent_id": name,
        **dict.fromkeys(texts, "x"),
        "mac_address": "",
        "cpu_count": 1,
        "memory_bytes": 1,
        "sensor": "ebpf",
        "collected_at": NOW - 60,
        **changes,
    }


def baseline(name, **changes):
    return {
        "agent_id": name,
        "process_key": "bash:sshd",
        "event_distribution": {"process_exec": 1.0},
        "distribution_vector": bytes(32),
        "sample_count": 10,
        "entropy_threshold": 1.0,
        "learned_at": NOW - 700,
        "prior_generation": 4,
        "key_shard": 0,
        "updated_at": NOW - 300,
        "expires_at": NOW + 9e6,
        "incarnation": "i",
        "incarnation_ordinal": 1,
        "seq": 1,
        **changes,
    }


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


SIGNALS = {
    "until_unix": NOW,
    "alerts": [{"rule": "aggregation", "state": "ok", "looked_at_unix": NOW - 30}],
}
TRIED = {"results": [{"sink": "webhook", "address": "https://hook.example", "ok": True}]}


@pytest.fixture
def scraped(monkeypatch):
    monkeypatch.setattr(
        "eguard.evidence.readiness.drills.alerts._metrics", lambda: 'eguard_alert_firing{rule="aggregation"} 0.0\n'
    )


def with_rule(**changes):
    return {"fleet signals": SIGNALS | {"alerts": [SIGNALS["alerts"][0] | changes]}}


@pytest.mark.usefixtures("scraped")
@pytest.mark.parametrize(
    ("answers", "names"),
    [
        ({}, []),
        ({"server notify": {"results": []}}, ["receivers that took the test message"]),
        (
            {"server notify": {"results": [{"sink": "syslog", "address": "udp://log:514", "ok": True}]}},
            ["receivers that took the test message"],
        ),
        (
            {"server notify": {"results": [*TRIED["results"], {"sink": "syslog", "address": "tls://x", "ok": False}]}},
            ["receivers that took the test message"],
        ),
        (with_rule(looked_at_unix=NOW - 900), ["rules that were not judged lately"]),
        (with_rule(looked_at_unix=None), ["rules that were not judged lately"]),
        (with_rule(state="alert"), ["rules that fire now"]),
        (with_rule(rule="safety"), ["rules that a scraper does not find at /metrics"]),
    ],
    ids=["well", "nobody", "udp-alone", "one-refuses", "stale", "never", "fires", "not-scraped"],
)
def test_alerts_are_judged_told_and_scraped(database, answers, names):
    record, _ = run("alerts", {"server notify": TRIED, "fleet signals": SIGNALS} | answers, database)
    assert (missed(record), record["error"]) == (names, "")


@pytest.mark.usefixtures("scraped")
def test_a_message_that_nobody_took_fails_alerts(database):
    base = {"kind": "alert", "severity": "warning", "title": "t", "detail": {}, "created_at": NOW - 9000}
    insert(database, notification, {"notification_id": "n", **base})
    delivery = {"notification_id": "n", "sink": "webhook", "status": "given_up", "attempts": 9, "next_attempt_at": NOW}
    insert(database, notification_delivery, delivery)
    record, _ = run("alerts", {"server notify": TRIED, "fleet signals": SIGNALS}, database)
    assert missed(record) == ["messages given up"]


def doctor(names, **states):
    return {"checks": [{"name": name, "state": states.get(name, "ok"), "cause": "x"} for name in names]}


def parity(recall=1.0, key_accuracy=1.0, works=True):
    seen = {"done": 100, "seen": 100, "recall": recall, "key_accuracy": key_accuracy}
    classes = {"classes": {"process_exec": seen}} if works else {"reason": "no eBPF here"}
    return {"record": {"sensors": {"ebpf": {"works": works, **classes}}}}


SENSORS = ("kernel", "btf", "kernel_headers", "tracefs", "bcc", "tracepoints", "privileges", "ebpf")


@pytest.mark.parametrize(
    ("found", "measured", "names"),
    [
        (doctor(SENSORS), parity(), []),
        (doctor(SENSORS, btf="warning"), parity(), ["doctor: btf"]),
        (doctor(SENSORS[1:]), parity(), ["doctor: kernel"]),
        (doctor(SENSORS), parity(recall=0.98), ["process_exec"]),
        (doctor(SENSORS), parity(key_accuracy=0.98), ["process_exec"]),
        (doctor(SENSORS), parity(key_accuracy=None), ["process_exec"]),
        (doctor(SENSORS), parity(works=False), ["the eBPF sensor works here"]),
    ],
    ids=["well", "warning", "not-checked", "blind", "wrong-names", "no-names", "no-ebpf"],
)
def test_the_sensor_is_held_to_what_surely_happened(found, measured, names):
    record, _ = run("sensors", {"doctor": found, "sensor parity": measured})
    assert (missed(record), record["error"]) == (names, "")


BUNDLE = ("bundle_signature", "bundle_expiry", "bundle_content")


def test_a_bundle_is_clean_or_it_is_not(database):
    insert(database, endpoint_agent, agent("a"), agent("b"))
    record, _ = run("bundle", {"doctor": doctor(BUNDLE)}, database)
    assert record["passed"]
    record, _ = run("bundle", {"doctor": doctor(BUNDLE, bundle_expiry="skipped")}, database)
    assert missed(record) == ["doctor: bundle_expiry"]
    insert(database, endpoint_agent, agent("c", bundle_version=None))
    record, _ = run("bundle", {"doctor": doctor(BUNDLE)}, database)
    assert missed(record) == ["agents that run without a bundle"]


def test_agents_without_a_valid_certificate_fail_mtls(database, monkeypatch):
    monkeypatch.delenv("EGUARD_SERVER", raising=False)
    certificate = {
        "fingerprint": "f",
        "not_before": NOW - 100,
        "issued_at": NOW - 100,
        "issued_for": "enrolment",
    }
    insert(database, endpoint_agent, *(agent(name) for name in ("good", "late", "revoked", "none")))
    insert(
        database,
        endpoint_certificate,
        {"serial": "1", "agent_id": "good", "not_after": NOW + 9, "revoked_at": None, **certificate},
        {"serial": "2", "agent_id": "late", "not_after": NOW - 9, "revoked_at": None, **certificate},
        {"serial": "3", "agent_id": "revoked", "not_after": NOW + 9, "revoked_at": NOW - 9, **certificate},
    )
    names = ("transport", "tls_files", "tls_certificate", "tls_authority")
    names += ("server_name", "server_connect", "server_tls", "server_identity")
    record, _ = run("mtls", {"doctor": doctor(names)}, database)
    assert missed(record) == ["agents without a valid certificate"]
    assert record["checks"][-1]["observed"] == ["late", "none", "revoked"]


def packed(age_days=1.0, **states):
    sections = {name: {"state": states.get(name, "present"), "missing": []} for name in ("logs", "sql", "screenshots")}
    return {
        "files": [{"name": "x", "bytes": 1}],
        "sections": sections,
        "collected_at_unix": NOW - age_days * 86_400,
        "manifest_sha256": "f" * 64,
    }


@pytest.mark.parametrize(
    ("answer", "names"),
    [
        (packed(), []),
        (packed(screenshots="absent"), ["screenshots"]),
        (packed(sql="partial"), ["sql"]),
        (packed(age_days=31), ["days since it was collected"]),
    ],
    ids=["well", "no-pictures", "rows-missing", "old"],
)
def test_an_archived_pack_has_what_the_box_asks_for(tmp_path, answer, names):
    record, course = run("evidence", {"evidence verify": answer}, pack=tmp_path / "pack")
    assert missed(record) == names
    assert course.asked == [f"evidence verify {tmp_path / 'pack'}"]


def test_a_pack_that_does_not_verify_fails(tmp_path):
    record, _ = run("evidence", {"evidence verify": EvidenceError("was changed")}, pack=tmp_path / "pack")
    assert record["error"] == "was changed"
    record, _ = run("evidence", {})
    assert "no evidence pack was named" in record["error"]


def test_the_runbook_is_the_simulated_drill_apart_from_this_machine():
    titles = ("Go back to the last good generation", "Take the liars' votes", "Every step is on record", "one more")
    steps = [{"title": title, "facts": {}} for title in titles]
    record, course = run("runbook", {"simulate drill": {"complete": True, "steps": steps}})
    assert (record["passed"], course.asked) == (True, ["simulate drill"])
    record, _ = run("runbook", {"simulate drill": {"complete": True, "steps": steps[1:]}})
    assert not record["passed"]


@pytest.mark.parametrize("drill", DRILLS)
def test_a_drill_where_there_is_nothing_fails_and_says_why(drill):
    record, _ = run(drill, {})
    assert not record["passed"]
    assert record["error"]
    json.dumps(record)
