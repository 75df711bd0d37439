"""Policies on both databases: written, assigned, sent, sized."""

import threading

import msgspec
import pytest
import sqlalchemy as sa

from eguard.errors import FleetStoreError, ServerRefusalError
from eguard.fleet.tables import audit_log, endpoint_agent, policy
from eguard.policy import canary_bucket, open_policy, parse_policy_document
from eguard.server.principal import Principal, Role
from eguard.server.services.policies import Target
from eguard.server.services.policy_assembly import open_policies
from eguard.server.services.policy_writes import Assigned
from eguard.server.services.revisions import next_revision
from eguard.server.services.sent_policies import Controls

#: What depends on how a database locks, compares or orders.
ON_BOTH = pytest.mark.parametrize("one_database", ["sqlite", "mariadb"], indirect=True)
AGENT = "agent-31bbb93f38b4"  # bucket 8892 of mlops-rollout
MANUAL_12_1 = {
    "baseline_upload_enabled": True,
    "fleet_seed_enabled": True,
    "baseline_upload_canary_percent": 5,
    "fleet_seed_canary_percent": 5,
    "baseline_mode": "learning",
}
KILL = {"baseline_upload_enabled": False, "fleet_seed_enabled": False}


@pytest.fixture
def services(one_database, fleet_clock, tmp_path):
    return open_policies(one_database, fleet_clock, tmp_path / "keys")


@pytest.fixture
def policies(services):
    return services.policies


@pytest.fixture
def enrol(one_database, fleet_clock):
    def enrol(*agent_ids, group="default", status="active", **fields):
        rows = [
            {
                "agent_id": agent_id,
                "incarnation": "i",
                "incarnation_ordinal": 1,
                "group": group,
                "status": status,
                "enrolled_at": fleet_clock.now(),
                **fields,
            }
            for agent_id in agent_ids
        ]
        with one_database.write() as connection:
            connection.execute(sa.insert(endpoint_agent), rows)

    return enrol


@pytest.fixture
def actions(one_database):
    """What the audit log says was done since the test began."""

    def read(connection):
        return connection.execute(sa.select(audit_log.c.action).order_by(audit_log.c.sequence)).scalars().all()

    with one_database.read() as connection:
        before = len(read(connection))

    def actions():
        with one_database.read() as connection:
            return read(connection)[before:]

    return actions


def document(**fields):
    return parse_policy_document(fields)


def create(policies, principal, fields=MANUAL_12_1, policy_id="mlops-rollout", version="v1"):
    return policies.create(principal, policy_id, version, parse_policy_document(fields))


def to_agent(agent_id=AGENT):
    return Target("agent", agent_id)


def refusal(call, *arguments, **named):
    with pytest.raises(ServerRefusalError) as refused:
        call(*arguments, **named)
    return refused.value.status, refused.value.reason


@ON_BOTH
def test_posting_the_same_again_makes_no_revision_and_no_record(policies, ada, services, actions):
    first, is_new = create(policies, ada)
    again, is_new_again = create(policies, ada)
    assert (is_new, is_new_again) == (True, False)
    assert again == first
    changed, _ = create(policies, ada, MANUAL_12_1 | {"fleet_seed_canary_percent": 6})
    assert changed.revision > first.revision
    # The same words under another version are another policy.
    assert create(policies, ada, version="v2")[1]
    assert actions() == ["policy.create"] * 3


def test_a_policy_in_force_reaches_the_agent_signed(policies, services, ada, enrol):
    enrol(AGENT, group="web")
    create(policies, ada)
    policies.assign(ada, to_agent(), Assigned("mlops-rollout", "v1"))
    trusted = {key.key_id: key.public_key for key in services.keys.trusted()}
    payload = open_policy(policies.signed_for(AGENT), trusted, agent_id=AGENT, minimum_revision=0)
    assert payload == policies.payload_for(AGENT)
    assert payload.policy == MANUAL_12_1
    assert (payload.policy_id, payload.policy_version, payload.rollout_id) == ("mlops-rollout", "v1", "mlops-rollout")
    assert (payload.agent_id, payload.group) == (AGENT, "web")
    assert payload.revision == policies.revision_for(AGENT)
    assert payload.policy_keys == services.keys.trusted()


@ON_BOTH
def test_agent_group_default_and_back(policies, ada, enrol, actions):
    enrol(AGENT, "a2", group="web")
    for name in ("own", "groups"):
        create(policies, ada, {"rollout_id": name}, policy_id=name)
    seen = [policies.payload_for(AGENT)]
    answers = [
        policies.assign(ada, Target("group", "web"), Assigned("groups")),
        policies.assign(ada, to_agent(), Assigned("own", "v1")),
        policies.withdraw(ada, to_agent()),
        policies.withdraw(ada, Target("group", "web")),
    ]
    assert [answer["agents"] for answer in answers] == [2, 1, 1, 2]
    assert policies.payload_for(AGENT).policy_id == "default"
    revisions = [answer["revision"] for answer in answers]
    assert revisions == sorted(set(revisions))
    assert policies.revision_for(AGENT) == revisions[-1] > seen[0].revision
    # The other agent was never told of what is not its own.
    assert policies.revision_for("a2") == revisions[-1]
    assert actions() == ["policy.create"] * 2 + ["policy.assign"] * 2 + ["policy.withdraw"] * 2


def test_an_agent_is_sent_what_concerns_it_and_nothing_else_moves(policies, ada, enrol):
    enrol(AGENT, "a2")
    create(policies, ada)
    before = policies.revision_for("a2")
    policies.assign(ada, to_agent(), Assigned("mlops-rollout"))
    assert policies.revision_for("a2") == before


def test_assigning_the_same_again_changes_nothing(policies, ada, enrol, actions):
    enrol(AGENT)
    create(policies, ada)
    first = policies.assign(ada, to_agent(), Assigned("mlops-rollout", "v1"))
    again = policies.assign(ada, to_agent(), Assigned("mlops-rollout", "v1"))
    assert first["changed"]
    assert again == first | {"changed": False}
    assert actions() == ["policy.create", "policy.assign"]


def test_who_and_what_is_unknown_is_refused_and_leaves_no_record(policies, ada, enrol, actions):
    enrol(AGENT)
    enrol("gone", status="decommissioned")
    create(policies, ada)
    assert refusal(policies.assign, ada, to_agent(), Assigned("other")) == (404, "unknown_policy")
    assert refusal(policies.assign, ada, to_agent(), Assigned("mlops-rollout", "v9")) == (404, "unknown_policy")
    assert refusal(policies.assign, ada, to_agent("nobody"), Assigned("mlops-rollout")) == (404, "unknown_agent")
    assert refusal(policies.assign, ada, to_agent("gone"), Assigned("mlops-rollout")) == (404, "unknown_agent")
    assert refusal(policies.withdraw, ada, to_agent()) == (404, "not_assigned")
    assert refusal(policies.get, "other") == (404, "unknown_policy")
    assert actions() == ["policy.create"]


def test_a_mutation_without_its_record_does_not_happen(policies, ada, one_database, monkeypatch):
    def fail(*_arguments, **_named):
        raise FleetStoreError("the disk is full", reason="database")

    monkeypatch.setattr("eguard.server.services.audit.record", fail)
    with pytest.raises(FleetStoreError):
        create(policies, ada)
    with one_database.read() as connection:
        wanted = sa.select(sa.func.count()).where(policy.c.policy_id == "mlops-rollout")
        assert connection.execute(wanted).scalar_one() == 0


def test_the_mode_is_asked_for_once_however_often_shares_are_posted(policies, ada, enrol):
    enrol(AGENT)
    first, _ = create(policies, ada)
    second, _ = create(policies, ada, MANUAL_12_1 | {"baseline_upload_canary_percent": 20})
    third, _ = create(policies, ada, MANUAL_12_1 | {"baseline_upload_canary_percent": 50}, version="v2")
    assert first.mode_revision == second.mode_revision == third.mode_revision == first.revision
    fourth, _ = create(policies, ada, MANUAL_12_1 | {"baseline_mode": "force_active"})
    assert fourth.mode_revision == fourth.revision


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, (True, True, True, True)),
        (KILL, (False, True, False, True)),
        ({"baseline_upload_canary_percent": 88.92}, (True, False, True, True)),
        ({"baseline_upload_canary_percent": 88.93}, (True, True, True, True)),
        ({"fleet_seed_canary_percent": 0}, (True, True, True, False)),
        ({"fleet_seed_enabled": False}, (True, True, False, True)),
    ],
    ids=["empty", "kill", "just outside", "just inside", "zero", "seeds off"],
)
def test_the_servers_decision_follows_switches_and_bucket(policies, ada, enrol, fields, expected):
    assert canary_bucket(AGENT, "mlops-rollout") == 8892
    enrol(AGENT)
    create(policies, ada, fields)
    revision = policies.assign(ada, to_agent(), Assigned("mlops-rollout"))["revision"]
    assert policies.controls_for(AGENT) == Controls(*expected, revision)


@ON_BOTH
def test_a_kill_committed_elsewhere_counts_here_within_half_a_second(
    services, one_database, fleet_clock, ada, enrol, tmp_path
):
    elsewhere = open_policies(one_database, fleet_clock, tmp_path / "keys")
    enrol(AGENT)
    assert services.policies.controls_for(AGENT).upload_enabled
    create(elsewhere.policies, ada, KILL, policy_id="default")
    assert not elsewhere.policies.controls_for(AGENT).upload_enabled
    fleet_clock.advance_to(fleet_clock.now() + 0.49)
    assert services.policies.controls_for(AGENT).upload_enabled  # a view of half a second may still be used
    fleet_clock.advance_to(fleet_clock.now() + 0.01)
    assert not services.policies.controls_for(AGENT).upload_enabled


def test_in_between_no_query_is_made_however_many_agents_ask(services, one_database, fleet_clock, enrol):
    names = [f"agent-{index:03d}" for index in range(200)]
    enrol(*names)
    services.policies.controls_for(names[0])
    statements = []

    @sa.event.listens_for(sa.Engine, "before_cursor_execute")
    def count(_connection, _cursor, statement, *_rest):
        statements.append(statement)

    try:
        for name in names:
            services.policies.controls_for(name)
            services.policies.payload_for(name)
        assert statements == []
        fleet_clock.advance_to(fleet_clock.now() + 0.5)
        for name in names:
            services.policies.controls_for(name)
        assert sum("server_counter" in statement for statement in statements) == 1
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", count)


@ON_BOTH
def test_an_agent_that_enrols_later_is_found_in_its_group(policies, ada, enrol):
    create(policies, ada, KILL, policy_id="stop")
    policies.assign(ada, Target("group", "lab"), Assigned("stop"))
    assert policies.controls_for("late").upload_enabled  # not enrolled: it has no group yet
    enrol("late", group="lab")
    assert not policies.controls_for("late").upload_enabled


@ON_BOTH
def test_reissue_goes_above_everything_that_agents_report(policies, ada, enrol, actions):
    enrol(AGENT, policy_revision=5_000)
    answered = policies.reissue(ada, "restored from yesterday's copy")
    assert answered == {"revision": 5_001, "highest_reported": 5_000}
    assert policies.revision_for(AGENT) == 5_001
    assert create(policies, ada)[0].revision == 5_002
    assert actions() == ["policy.reissue", "policy.create"]


@ON_BOTH
def test_revisions_are_taken_once_when_several_servers_ask_at_the_same_time(one_database):
    taken, start = [], threading.Barrier(4)

    def take():
        start.wait()
        taken.extend(one_database.retrying(next_revision) for _ in range(8))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(min(taken), min(taken) + 32))


@ON_BOTH
def test_the_same_posted_by_several_at_once_is_one_revision(policies, ada):
    start = threading.Barrier(4)
    made = []

    def post():
        start.wait()
        made.append(create(policies, ada)[1])

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False, False, False, True]
    assert len(policies.history("mlops-rollout")) == 1


@ON_BOTH
def test_the_preview_counts_the_real_cohort_of_active_agents(policies, ada, enrol):
    names = [f"agent-{index:04d}" for index in range(400)]
    enrol(*names[:200])
    enrol(*names[200:300], status="quarantined")
    enrol(*names[300:], status="decommissioned")
    seen = policies.preview(document(baseline_upload_canary_percent=20, fleet_seed_enabled=False), "r1")
    expected = sorted(name for name in names[:200] if canary_bucket(name, "r1") < 2000)
    assert seen["agents"] == 200
    assert sorted(seen["cohort"]) == expected
    assert (seen["cohort_size"], seen["upload"]["size"], seen["seed"]) == (
        len(expected),
        len(expected),
        {"percent": 0.0, "size": 0},
    )
    assert not seen["is_truncated"]


def test_a_preview_for_a_policy_counts_whom_it_governs(policies, ada, enrol):
    enrol("a1", "a2", group="web")
    enrol("b1")
    create(policies, ada)
    policies.assign(ada, Target("group", "web"), Assigned("mlops-rollout"))
    seen = policies.preview(document(), policy_id="mlops-rollout")
    assert (seen["agents"], sorted(seen["cohort"]), seen["rollout_id"]) == (2, ["a1", "a2"], "mlops-rollout")
    assert policies.preview(document(), policy_id="default")["cohort"] == ["b1"]


def test_a_stored_document_that_cannot_be_read_switches_everything_off(policies, services, ada, enrol, one_database):
    enrol(AGENT)
    create(policies, ada)
    policies.assign(ada, to_agent(), Assigned("mlops-rollout"))
    with one_database.write() as connection:
        wanted = policy.c.policy_id == "mlops-rollout"
        connection.execute(sa.update(policy).where(wanted).values(document={"baseline_upload_enabled": "yes"}))
    services.view.changed()
    policies.reissue(ada)
    controls = policies.controls_for(AGENT)
    assert (controls.upload_enabled, controls.seed_enabled) == (False, False)


def test_the_overview_names_policies_assignments_and_how_many_they_govern(policies, ada, enrol):
    enrol("a1", "a2", group="web")
    enrol("b1")
    create(policies, ada)
    policies.assign(ada, Target("group", "web"), Assigned("mlops-rollout", "v1"))
    policies.assign(ada, to_agent("b1"), Assigned("mlops-rollout"))
    policies.withdraw(ada, to_agent("b1"))
    seen = policies.overview()
    assert [each["policy_id"] for each in seen["policies"]] == ["default", "mlops-rollout"]
    assert [(each["scope"], each["scope_id"]) for each in seen["assignments"]] == [("group", "web")]
    assert seen["agents"] == {"mlops-rollout": 2, "default": 1}
    msgspec.json.encode(seen)


def test_history_is_newest_first(policies, ada):
    create(policies, ada)
    create(policies, ada, KILL)
    assert [stored.document.to_json() for stored in policies.history("mlops-rollout")] == [KILL, MANUAL_12_1]


def test_who_wrote_it_is_kept(policies, fleet_clock):
    stored, _ = create(policies, Principal("bob", Role.ADMIN))
    assert (stored.created_by, stored.created_at) == ("bob", fleet_clock.now())
    assert policies.get("mlops-rollout") == stored
