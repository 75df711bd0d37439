"""A candidate's way to agents and back: what is asked before each step, what is on record, what agents are offered."""

import shutil

import pytest
from attacks.agent_place import release
from promotion_scene import Scene, digest_of, id_of, names, shadow

from eguard.errors import ServerRefusalError
from eguard.policy import PolicyDocument
from eguard.server.principal import SYSTEM
from eguard.server.services import audit, candidates
from eguard.server.services.rollouts import Step
from eguard.wire.canonical import canonical_json

HALF_AN_HOUR = 1801.0
(INSIDER,) = names(1, inside=True)
OUTSIDERS = names(3, inside=False)


@pytest.fixture
def scene(fleet_database, fleet_clock, ada, tmp_path):
    return Scene(tmp_path, fleet_database, fleet_clock, ada)


def refused(call, *args, **named):
    with pytest.raises(ServerRefusalError) as caught:
        call(*args, **named)
    return caught.value


def causes(error):
    assert error.reason == "promotion_refused"
    return {code for code, _ in error.errors}


def to_shadow_and_canary(scene, files):
    """Take a candidate through the shadow to one percent, with agents that say what good ones say."""
    scene.promote(id_of(files))
    for agent_id in (INSIDER, *OUTSIDERS):
        scene.beat(agent_id, release("one"), shadow=shadow(files))
    scene.pass_time(HALF_AN_HOUR)
    return scene.promote(id_of(files))


def test_a_candidate_goes_through_every_stage_and_each_is_offered_and_on_record(scene):
    two = release("two")
    scene.register(two)
    scene.beats([INSIDER, *OUTSIDERS], release("one"), hours=30)
    seen = []
    for expected in ("shadow", "canary", "canary", "canary", "stable"):
        runs = two if len(seen) > 1 else release("one")
        scene.beat(INSIDER, runs, shadow=None if runs is two else shadow(two))
        scene.pass_time(HALF_AN_HOUR)
        scene.beat(INSIDER, runs, shadow=None if runs is two else shadow(two))
        answer = scene.promote(id_of(two))
        assert answer["stage"] == expected
        seen.append((answer["from"], answer["percent"], answer["versions"]["nightly"], *scene.offered()))
    listing = digest_of(two)
    assert seen == [
        ("registered", 0.0, 3, "one", (listing, 0.0)),
        ("shadow", 1.0, 4, "one", (listing, 1.0)),
        ("1 %", 5.0, 5, "one", (listing, 5.0)),
        ("5 %", 20.0, 6, "one", (listing, 20.0)),
        ("20 %", 100.0, 7, "two", None),
    ]
    one = id_of(release("one"))
    assert scene.row(one)["stage"] == "superseded"
    told = [(each.action, each.principal, each.object_id) for each in scene.decided()]
    assert told == [
        ("candidate.register", "ada", id_of(two)),
        ("candidate.adopt", "system", one),
        *[("candidate.promote", "ada", id_of(two))] * 5,
    ]
    assert refused(scene.promote, id_of(two)).reason == "already_stable"
    history = scene.promotions.show(id_of(two))["history"]
    assert [each["detail"]["percent"] for each in history if each["action"] == "candidate.promote"] == [
        0,
        1,
        5,
        20,
        100,
    ]


def test_a_step_waits_for_time_data_and_its_turn(scene):
    two = release("two")
    scene.register(two)
    scene.promote(id_of(two))
    assert causes(refused(scene.promote, id_of(two))) == {"dwell", "load_failures", "shadow_scores"}
    scene.pass_time(HALF_AN_HOUR)
    scene.beat(OUTSIDERS[0], release("one"), shadow=shadow(two))
    assert causes(refused(scene.promote, id_of(two), 20.0)) == {"skip"}
    assert scene.promote(id_of(two))["percent"] == 1.0
    assert causes(refused(scene.promote, id_of(two))) == {"dwell", "agents_running", "alert_rate"}
    assert refused(scene.promote, id_of(two), 1.0).reason == "same_stage"
    assert scene.offered() == ("one", (digest_of(two), 1.0))
    assert scene.promote(id_of(two), 0.0)["stage"] == "shadow"  # back needs no reason and no time
    assert scene.offered() == ("one", (digest_of(two), 0.0))


def test_a_shadow_that_flags_far_more_keeps_a_candidate_from_the_canary(scene):
    two = release("two")
    scene.register(two)
    scene.promote(id_of(two))
    scene.pass_time(HALF_AN_HOUR)
    scene.beat(OUTSIDERS[0], release("one"), shadow=shadow(two, shadow_flagged=60, only_shadow=51))
    error = refused(scene.promote, id_of(two))
    assert causes(error) == {"shadow_scores"}
    assert "it flags 60, the model in use 10" in error.message


def test_force_needs_a_reason_and_what_it_overrode_is_on_record(scene):
    two = release("two")
    scene.register(two)
    bare = Step(20.0, is_forced=True, reason=" ")
    assert refused(scene.promotions.promote, scene.admin, id_of(two), bare).reason == "reason_required"
    answer = scene.promote(id_of(two), 20.0, reason="a test fleet")
    assert answer["forced"] == ["after registered comes shadow"]
    detail = scene.decided()[-1].detail
    assert (detail["forced"], detail["reason"]) == ([["skip", "after registered comes shadow"]], "a test fleet")


def test_a_frozen_rollout_holds_candidates_too(scene, fleet_database, fleet_clock):
    from eguard.server.services.policy_assembly import open_policies

    parts = open_policies(fleet_database, fleet_clock, scene.folder / "policy-keys")
    document = PolicyDocument(baseline_upload_canary_percent=1.0, fleet_seed_canary_percent=1.0)
    parts.policies.create(scene.admin, "mlops-rollout", "v1", document)
    parts.rollouts.freeze(scene.admin, "drift")
    two = release("two")
    scene.register(two)
    assert causes(refused(scene.promote, id_of(two))) == {"frozen"}


def test_a_bundle_that_counts_otherwise_or_mixes_two_releases_is_entered_as_refused_and_never_offered(scene):
    mixed = {**release("three"), "models/signature-ml-model.json": canonical_json(scene.place.model_document("four"))}
    damaged = {**release("five"), "models/manifest.json": b'{"format":1'}
    for files, said in (
        (release("two", counts={"rules.json": 7}), "rules.json: the loader counts 1 records, the release had 7"),
        (mixed, "models/signature-ml-model.json is not the file that the manifest names"),
        (damaged, "the bundle's manifest cannot be read"),
    ):
        candidate_id = scene.register(files)
        row = scene.row(candidate_id)
        assert row["stage"] == "refused"
        assert row["reason"].startswith(said)
        error = refused(scene.promote, candidate_id, reason="I want it")
        assert (error.status, error.reason) == (409, "candidate_refused")
    assert scene.offered() == ("one", None)


def test_no_gate_is_lowered_to_promote_a_model(scene):
    candidate_id = scene.register(release("two", promoted=False))
    assert scene.row(candidate_id)["stage"] == "registered"
    assert refused(scene.promote, candidate_id, reason="I want it").reason == "gates_missed"
    assert scene.offered() == ("one", None)


def test_agents_have_one_candidate_at_a_time(scene):
    two, three = release("two"), release("three")
    scene.register(two)
    scene.register(three)
    scene.promote(id_of(two))
    error = refused(scene.promote, id_of(three))
    assert error.reason == "another_candidate"
    assert id_of(two) in error.message
    scene.roll_back()
    assert scene.promote(id_of(three))["stage"] == "shadow"


def test_a_step_that_cannot_be_recorded_or_signed_changes_nothing(scene, monkeypatch):
    two = release("two")
    scene.register(two)
    scene.promotions.adopt()
    before = len(scene.decided())
    key = scene.place.folder / "keys" / "nightly-1.pem"
    shutil.move(key, scene.folder)
    error = refused(scene.promote, id_of(two))
    assert (error.status, error.reason) == (409, "bundle_repository")
    assert "nightly-1.pem" in error.message
    shutil.move(scene.folder / key.name, key)
    with monkeypatch.context() as patch:
        patch.setattr(candidates.audit, "record", _refuse)
        with pytest.raises(OSError, match="no audit"):
            scene.promote(id_of(two))
    assert scene.row(id_of(two))["stage"] == "registered"
    assert len(scene.decided()) == before
    assert scene.offered() == ("one", None)
    scene.promote(id_of(two))
    assert audit.record is candidates.audit.record


def _refuse(*_, **__):
    raise OSError("no audit")


def test_nothing_is_promoted_below_a_release_that_has_expired(scene):
    two = release("two")
    scene.register(two)
    scene.pass_time(400 * 86_400.0)
    error = refused(scene.promote, id_of(two))
    assert (error.status, error.reason) == (409, "bundle_expired")
    assert scene.row(id_of(two))["stage"] == "registered"
    assert scene.offered() == ("one", None)


def test_a_model_of_other_rules_needs_the_release_key(scene):
    other = release("two", rules=canonical_json({"format": 1, "rules": [], "prefilter": {}}), counts={"rules.json": 0})
    candidate_id = scene.register(other)
    assert scene.row(candidate_id)["stage"] == "registered"
    assert refused(scene.promote, candidate_id).reason == "other_release"
    assert scene.offered() == ("one", None)


def test_a_candidate_whose_kept_files_are_damaged_or_gone_is_not_promoted(scene):
    two = release("two")
    scene.register(two)
    model = scene.folder / "candidates" / scene.row(id_of(two))["files"]["models/signature-ml-model.json"]
    whole = model.read_bytes()
    model.write_bytes(whole[:-1] + b" ")
    assert refused(scene.promote, id_of(two)).reason == "candidate_damaged"
    model.unlink()
    error = refused(scene.promote, id_of(two))
    assert error.reason == "candidate_damaged"
    assert "Restore the folder" in error.message
    assert scene.offered() == ("one", None)
    model.write_bytes(whole)
    assert scene.promote(id_of(two))["stage"] == "shadow"


def test_a_full_disk_promotes_nothing_and_says_so(scene, monkeypatch):
    two = release("two")
    scene.register(two)
    scene.promotions.adopt()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("eguard.bundle.repository.write_durably", full)
        error = refused(scene.promote, id_of(two))
    assert (error.reason, "No space left" in error.message) == ("bundle_repository", True)
    assert (scene.row(id_of(two))["stage"], scene.offered()) == ("registered", ("one", None))
    scene.place.publish("three")
    with monkeypatch.context() as patch:
        patch.setattr("eguard.server.services.candidate_files.write_durably", full)
        assert refused(scene.promote, id_of(two)).reason == "no_room"
    assert scene.promote(id_of(two))["stage"] == "shadow"
    assert scene.offered() == ("three", (digest_of(two), 0.0))


def test_two_admins_do_not_take_the_same_step_twice(scene, monkeypatch):
    two = release("two")
    scene.register(two)
    read = scene.candidates.files.read

    def meanwhile(digests):
        monkeypatch.undo()
        scene.promote(id_of(two))
        return read(digests)

    monkeypatch.setattr(scene.candidates.files, "read", meanwhile)
    assert refused(scene.promote, id_of(two)).reason == "candidate_changed"
    assert [each.action for each in scene.decided()].count("candidate.promote") == 1


def test_one_command_takes_a_canary_back(scene):
    two = release("two")
    scene.register(two)
    to_shadow_and_canary(scene, two)
    answer = scene.roll_back()
    assert (answer["stage"], answer["withdrawn"]) == ("withdrawn", id_of(two))
    assert scene.offered() == ("one", None)
    assert scene.decided()[-1].action == "candidate.rollback"
    assert causes(refused(scene.promote, id_of(two))) == {"withdrawn"}
    assert refused(scene.roll_back).reason == "no_earlier_release"


def test_going_back_offers_the_old_files_under_new_versions(scene):
    one, two, three = release("one"), release("two"), release("three")
    for files in (two, three):
        scene.register(files)
        scene.promote(id_of(files), 100.0, reason="a test fleet")
    before = scene.row(id_of(three))["versions"]["nightly"]
    answer = scene.roll_back()
    assert (answer["candidate_id"], answer["stage"]) == (id_of(two), "stable")
    assert answer["versions"]["nightly"] == before + 1
    assert scene.offered() == ("two", None)
    assert scene.row(id_of(three))["stage"] == "withdrawn"
    assert scene.roll_back(to=id_of(one))["candidate_id"] == id_of(one)
    assert scene.offered() == ("one", None)
    assert scene.row(id_of(two))["stage"] == "withdrawn"
    assert refused(scene.roll_back, to=id_of(one)).reason == "already_stable"
    scene.register(release("four"))
    assert refused(scene.roll_back, to=id_of(release("four"))).reason == "not_released"
    assert refused(scene.roll_back, to="0" * 16).reason == "unknown_candidate"
    assert [each.action for each in scene.decided()].count("candidate.rollback") == 2


def test_a_release_of_the_release_key_is_adopted_and_can_be_gone_back_to(scene):
    scene.promotions.adopt()
    rules = canonical_json({"format": 1, "rules": [], "prefilter": {}})
    scene.place.publish("two", rules=rules, counts={"rules.json": 0})
    scene.promotions.adopt()
    two = release("two", rules=rules, counts={"rules.json": 0})
    assert (scene.row(id_of(two))["stage"], scene.row(id_of(two))["source"]) == ("stable", "published")
    assert [(each.action, each.principal) for each in scene.decided()] == [("candidate.adopt", SYSTEM.name)] * 2
    error = refused(scene.roll_back)  # its rules are signed by the release key
    assert error.reason == "other_release"
    assert scene.offered() == ("two", None)
