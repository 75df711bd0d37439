"""The watch over candidates: what halts one, what does not, and what it makes good between registry and repository."""

import json
from datetime import datetime

import pytest
from attacks.agent_place import release
from promotion_scene import Scene, digest_of, id_of, names, shadow

from eguard.bundle.promotion import StagedCandidate
from eguard.errors import ServerRefusalError
from eguard.server.services.signals import Signals

INSIDERS = names(2, inside=True)
OUTSIDERS = names(4, inside=False)
HOURS = 30


@pytest.fixture
def scene(fleet_database, fleet_clock, ada, tmp_path):
    return Scene(tmp_path, fleet_database, fleet_clock, ada)


@pytest.fixture
def canary(scene):
    """The candidate `two` at one percent of agents that have been heard for thirty hours."""
    scene.beats([*INSIDERS, *OUTSIDERS], release("one"), HOURS)
    two = release("two")
    scene.register(two)
    scene.promote(id_of(two), 1.0, reason="a test fleet")
    for agent_id in INSIDERS:
        scene.beat(agent_id, two)
    return two


def loud(scene, agents, model, *, alerts, seconds=600.0, begin=None):
    """Have agents raise alerts of kinds of their own, evenly over a time."""
    begin = scene.clock.now() if begin is None else begin
    for number in range(alerts):
        for agent_id in agents:
            scene.alert(agent_id, begin + (number + 0.5) * seconds / alerts, model, key=f"tool{number}:cron")


def test_a_load_failure_in_the_canary_halts_and_takes_the_candidate_out(scene, canary):
    scene.beat(INSIDERS[0], release("one"), refused=canary)
    scene.pass_time(30.0)
    found = scene.look()
    assert found["state"] == "halted"
    row = scene.row(id_of(canary))
    assert (row["stage"], row["percent"], row["stage_by"]) == ("halted", 0.0, "system")
    assert row["reason"] == f"1 of 2 agents that tried it could not load it: {INSIDERS[0]} (bundle_digest)"
    assert scene.offered() == ("one", None)
    decision = scene.decided()[-1]
    assert (decision.action, decision.principal, decision.detail["from_percent"]) == ("candidate.halt", "system", 1.0)
    assert [check["name"] for check in decision.detail["failed"]] == ["load_failures"]
    ((kind, severity, title),) = scene.messages()
    assert (kind, severity) == ("candidate_halted", "critical")
    assert "could not load it" in title
    assert "skipped" in scene.look()
    assert len(scene.messages()) == 1
    assert Signals(scene.database, scene.clock).summary("24h")["safety"]["actions"]["candidate.halt"] == 1
    with pytest.raises(ServerRefusalError, match="it was halted"):
        scene.promote(id_of(canary))


def test_a_load_failure_in_the_shadow_halts_as_well(scene):
    two = release("two")
    scene.register(two)
    scene.promote(id_of(two))
    scene.beat(OUTSIDERS[0], release("one"), refused=two)
    assert scene.look()["state"] == "halted"
    assert scene.offered() == ("one", None)


def test_the_share_of_machines_that_break_by_themselves_halts_nothing(scene):
    two = release("two")
    scene.register(two)
    scene.promote(id_of(two))
    for agent_id in names(97, inside=False):
        scene.beat(agent_id, release("one"), shadow=shadow(two))
    for agent_id in INSIDERS:
        scene.beat(agent_id, release("one"), refused=two)
    assert scene.look()["state"] == "halted"  # 2 of 99; one machine less would be 2 of 100
    scene.promote(id_of(two), reason="looked into it")
    scene.beat(names(98, inside=False)[-1], release("one"), shadow=shadow(two))
    for agent_id in (*names(98, inside=False), *INSIDERS):
        scene.beat(agent_id, release("one"), refused=two if agent_id in INSIDERS else None,
                   shadow=None if agent_id in INSIDERS else shadow(two))  # fmt: skip
    assert scene.look()["state"] == "shadow"


def test_agents_in_the_shadow_do_not_outvote_the_one_that_runs_it(scene, canary):
    for agent_id in names(120, inside=False):
        scene.beat(agent_id, release("one"), shadow=shadow(canary))
    scene.beat(INSIDERS[0], release("one"), refused=canary)
    assert scene.look()["state"] == "halted"


def test_an_earlier_refusal_of_another_bundle_halts_nothing(scene, canary):
    scene.beat(INSIDERS[0], canary, refused=release("zero"))
    assert scene.look()["state"] == "1 %"


def test_a_jump_of_the_alert_rate_halts_within_minutes(scene, canary):
    loud(scene, INSIDERS, "two", alerts=20, seconds=120.0)
    scene.pass_time(120.0)
    for agent_id in INSIDERS:
        scene.beat(agent_id, canary)
    found = scene.look()
    assert found["state"] == "halted"
    (check,) = [each for each in found["checks"] if each["name"] == "alert_rate"]
    assert check["detail"].startswith("more than 2 times the rate of before: 40 alerts in 0.07 agent-hours, 0 in 60.0")
    assert scene.offered() == ("one", None)


def test_the_same_alerts_on_every_agent_are_no_fault_of_the_candidate(scene, canary):
    loud(scene, INSIDERS, "two", alerts=20, seconds=120.0)
    loud(scene, OUTSIDERS, "one", alerts=20, seconds=120.0)
    scene.pass_time(120.0)
    for agent_id in INSIDERS:
        scene.beat(agent_id, canary)
    assert scene.look()["state"] == "1 %"


def test_what_waited_in_a_buffer_is_no_fault_of_the_candidate(scene, canary):
    loud(scene, INSIDERS, "one", alerts=20, seconds=120.0)
    scene.pass_time(120.0)
    for agent_id in INSIDERS:
        scene.beat(agent_id, canary)
    assert scene.look()["state"] == "1 %"


def test_one_process_that_alerts_without_end_counts_once_in_ten_minutes(scene, canary):
    for number in range(100):
        scene.alert(INSIDERS[0], scene.clock.now() + number, "two")
    scene.pass_time(120.0)
    for agent_id in INSIDERS:
        scene.beat(agent_id, canary)
    found = scene.look()
    (check,) = [each for each in found["checks"] if each["name"] == "alert_rate"]
    assert (found["state"], check["detail"][:9]) == ("1 %", "1 alerts ")


def test_each_look_is_spent_once_and_late_ones_are_not_made_up_for(scene, canary):
    looks = []
    for seconds in (30.0, 40.0, 0.0, 60.0, 1800.0, 10.0):
        scene.pass_time(seconds)
        scene.look()
        looks.append(scene.row(id_of(canary))["looks"])
    assert looks == [0, 1, 1, 2, 6, 6]


def test_between_two_looks_the_rate_is_not_asked(scene, canary):
    scene.pass_time(125.0)
    for agent_id in INSIDERS:
        scene.beat(agent_id, canary)
    assert scene.look()["state"] == "1 %"
    loud(scene, INSIDERS, "two", alerts=20, seconds=60.0)
    scene.pass_time(60.0)  # 185 s old: the next look is due at 240 s
    for agent_id in INSIDERS:
        scene.beat(agent_id, canary)
    assert scene.look()["state"] == "1 %"
    scene.pass_time(60.0)
    for agent_id in INSIDERS:
        scene.beat(agent_id, canary)
    assert scene.look()["state"] == "halted"


def test_a_night_that_succeeded_becomes_a_candidate_once(scene):
    two = release("two")
    gates = [{"name": "recall", "value": 0.9, "rule": ">=", "threshold": 0.7, "passed": True}]
    scene.night("20261123T020000Z-aaaa", two, gates=gates)
    assert scene.look() == {"registered": id_of(two), "stage": "registered"}
    row = scene.row(id_of(two))
    assert (row["digest"], row["run_id"], row["gates"]) == (digest_of(two), "20261123T020000Z-aaaa", gates)
    assert (row["registered_by"], row["source"], row["gates_passed"]) == ("system", "nightly", True)
    assert "skipped" in scene.look()
    assert [each.action for each in scene.decided()].count("candidate.register") == 1
    assert scene.offered() == ("one", None)  # nothing goes to agents by itself


@pytest.mark.parametrize("gates", [(), ({"name": "recall", "passed": False},), ({"name": "recall"},)], ids=str)
def test_a_night_that_names_no_gate_or_a_missed_one_has_not_met_them(scene, gates):
    """Whatever its manifest says of itself."""
    two = release("two")
    scene.night("20261123T020000Z-aaaa", two, gates=gates)
    scene.look()
    assert scene.row(id_of(two))["gates_passed"] is False


def test_a_night_whose_files_were_changed_afterwards_is_not_entered(scene):
    changed = {"models/signature-ml-model.json": b"{}"}
    scene.night("20261123T020000Z-aaaa", release("two"), changed=changed)
    assert "is not the file that the run reported" in scene.look()["night_refused"]
    assert scene.candidates.rows() == [scene.candidates.rows()[0]]  # the served release alone


def test_a_server_without_a_repository_registers_and_promotes_nothing(scene):
    import shutil

    shutil.rmtree(scene.place.directory)
    scene.night("20261123T020000Z-aaaa", release("two"))
    assert scene.look()["stage"] == "registered"
    with pytest.raises(ServerRefusalError, match="publish a first one") as caught:
        scene.promote(id_of(release("two")))
    assert caught.value.reason == "no_bundles"


def test_a_candidate_that_nobody_decided_on_is_taken_out(scene):
    two = release("two")
    scene.register(two)
    scene.list_behind_the_registry(StagedCandidate(two, 100.0, 100.0))
    assert scene.look()["state"] == "repaired"
    assert scene.offered() == ("one", None)
    assert scene.decided()[-1].action == "candidate.repair"


def test_a_share_that_nobody_decided_on_is_put_right(scene, canary):
    scene.list_behind_the_registry(StagedCandidate(canary, 50.0, 100.0))
    assert scene.look()["state"] == "repaired"
    assert scene.offered() == ("one", (digest_of(canary), 1.0))


def test_a_release_that_was_published_over_a_canary_ends_it(scene, canary):
    scene.place.publish("three")
    assert scene.look()["state"] == "withdrawn"
    assert scene.row(id_of(canary))["stage"] == "withdrawn"
    assert scene.row(id_of(release("three")))["stage"] == "stable"
    assert scene.offered() == ("three", None)


def test_models_that_nobody_promotes_for_weeks_are_signed_anew_in_time(scene, canary):
    def expires():
        path = max((scene.place.directory / "metadata").glob("*.nightly.json"), key=lambda path: int(path.name[:-13]))
        return json.loads(path.read_bytes())["signed"]["expires"], path.name

    before = expires()
    scene.look()
    assert expires() == before
    ends = datetime.fromisoformat(before[0]).timestamp()
    scene.pass_time(ends - scene.clock.now() - 14 * 86_400.0)
    key = scene.place.folder / "keys" / "nightly-1.pem"
    key.rename(scene.folder / "key")
    assert "nightly-1.pem" in scene.look()["not_renewed"]  # whoever keeps that key elsewhere signs there
    (scene.folder / "key").rename(key)
    assert scene.look()["renewed"]
    assert expires() > before
    assert scene.offered() == ("one", (digest_of(canary), 1.0))
    assert "renewed" not in scene.look()


def test_a_halt_that_cannot_be_signed_says_so_and_is_tried_again(scene, canary):
    scene.beat(INSIDERS[0], release("one"), refused=canary)
    key = scene.place.folder / "keys" / "nightly-1.pem"
    key.rename(scene.folder / "key")
    with pytest.raises(ServerRefusalError, match="cannot read the signing key"):
        scene.look()
    assert scene.row(id_of(canary))["stage"] == "canary"
    assert scene.messages() == []
    (scene.folder / "key").rename(key)
    assert scene.look()["state"] == "halted"


def test_cohorts_are_those_of_the_agents_policies(scene, fleet_database, fleet_clock):
    from eguard.agent.candidate_part import Part, part_of
    from eguard.bundle.candidate import CandidateListing
    from eguard.policy import PolicyDocument, StartupControls, effective_controls
    from eguard.server.services.candidate_measures import candidate_cohort
    from eguard.server.services.policies import Target
    from eguard.server.services.policy_assembly import open_policies
    from eguard.server.services.policy_writes import Assigned

    everybody = names(30, inside=False) + names(3, inside=True)
    for agent_id in everybody:
        scene.beat(agent_id, release("one"))
    parts = open_policies(fleet_database, fleet_clock, scene.folder / "policy-keys")
    parts.policies.create(scene.admin, "careful", "v1", PolicyDocument(bundle_canary_percent=10.0, rollout_id="salt"))
    for agent_id in everybody[:20]:
        parts.policies.assign(scene.admin, Target("agent", agent_id), Assigned("careful"))
    for percent in (0.0, 1.0, 30.0, 100.0):
        with fleet_database.read() as connection:
            cohort = candidate_cohort(connection, percent)
        listing = CandidateListing(manifest_sha256="0" * 64, model_version="m", percent=percent, shadow_percent=100.0)
        ours = []
        for agent_id in sorted(everybody):
            policy = _payload(parts.policies.signed_for_all([agent_id])[0])
            if part_of(effective_controls(StartupControls(), policy, agent_id), listing) is Part.RUN:
                ours.append(agent_id)
        assert cohort == ours
    assert 0 < len(cohort) < len(everybody)


def _payload(signed):
    import msgspec

    from eguard.wire.policy import PolicyPayload

    return msgspec.json.decode(signed.payload, type=PolicyPayload)
