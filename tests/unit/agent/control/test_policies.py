"""The policy in force: only a good one replaces it, it outlives a restart, and nothing lost enables anything."""

import msgspec
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eguard.agent.control.policies import KeptPolicy, PolicyKeeper
from eguard.errors import PolicyError
from eguard.policy import ServerVerdict, StartupControls, policy_key_id, public_key_text, sign_policy
from eguard.wire.control import PolicyKey
from eguard.wire.policy import PolicyPayload, SignedPolicy, WhitelistEntry

KEY, NEXT_KEY, STRANGER = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2, 3))
OFF = {"baseline_upload_enabled": False, "fleet_seed_enabled": False}


def public(key):
    text = public_key_text(key)
    return PolicyKey(key_id=policy_key_id(text), public_key=text)


def signed(revision, document=None, *, key=KEY, keys=(KEY,), **given):
    fields = {
        "revision": revision, "mode_revision": revision, "policy_id": "p", "policy_version": "v1", "rollout_id": "r",
        "agent_id": "a", "group": "default", "policy": document or {}, "policy_keys": tuple(map(public, keys)),
    }  # fmt: skip
    return sign_policy(PolicyPayload(**(fields | given)), key)


@pytest.fixture
def keeper(tmp_path):
    def make(startup=None, *, key=KEY, enrolment="first"):
        return PolicyKeeper(
            tmp_path / "control", "a", startup or StartupControls(), [public(key)], enrolment=enrolment
        )  # fmt: skip

    return make


def test_without_a_policy_nothing_is_allowed(keeper):
    assert not keeper().may_upload
    assert not keeper().may_seed
    assert keeper().describe()["upload"] == {"enabled": False, "decided_by": "no policy yet", "percent": None}


def test_a_policy_counts_at_once_and_after_a_restart(keeper):
    policies = keeper()
    assert policies.take(signed(3, OFF))
    for each in (policies, keeper()):
        assert (each.revision, each.may_upload, each.may_seed) == (3, False, False)
    assert not policies.take(signed(3, OFF))  # the same again changes nothing
    assert policies.take(signed(4))
    assert keeper().may_upload


def test_the_environment_is_final(keeper):
    policies = keeper(StartupControls(upload_enabled=False, seed_percent=0.0))
    policies.take(signed(1, {"baseline_upload_enabled": True, "fleet_seed_canary_percent": 100}))
    assert not policies.may_upload
    assert not policies.may_seed
    assert policies.describe()["upload"]["decided_by"] == "environment"


def tampered(policy, old, new):
    return SignedPolicy(payload=policy.payload.replace(old, new), key_id=policy.key_id, signature=policy.signature)


BAD = {
    "lower_revision": signed(4),
    "unknown_key": signed(6, key=STRANGER),
    "bad_signature": tampered(signed(6, OFF), "false", "true"),
    "other_agent": signed(6, agent_id="b"),
    "invalid_policy": signed(6, {"baseline_upload_enabled": "yes"}),
    "same_revision_other_content": signed(5),
}


@pytest.mark.parametrize("reason", sorted(BAD))
def test_a_bad_policy_is_refused_whole_and_the_one_in_force_stays(reason, keeper):
    policies = keeper()
    policies.take(signed(5, OFF))
    with structlog.testing.capture_logs() as logs, pytest.raises(PolicyError) as caught:
        policies.take(BAD[reason])
    assert caught.value.context["reason"] == reason
    assert [line["event"] for line in logs] == ["refused policy"]
    for each in (policies, keeper()):
        assert (each.revision, each.may_upload) == (5, False)
    assert policies.describe()["refusals_total"] == 1


def test_keys_change_hands_by_the_old_keys_word_alone(keeper):
    policies = keeper()
    with pytest.raises(PolicyError):
        policies.take(signed(2, key=NEXT_KEY, keys=(NEXT_KEY,)))
    policies.take(signed(2, keys=(KEY, NEXT_KEY)))
    policies.take(signed(3, key=NEXT_KEY, keys=(NEXT_KEY,)))
    with pytest.raises(PolicyError):
        policies.take(signed(4, key=KEY))  # its time is over
    again = keeper()
    assert again.revision == 3
    assert again.take(signed(4, key=NEXT_KEY, keys=(NEXT_KEY,)))


@pytest.mark.parametrize("damage", ["empty", "cut", "another agent's", "signature", "json"])
def test_a_damaged_file_allows_nothing_until_a_good_policy_comes(damage, keeper, tmp_path):
    keeper().take(signed(5))
    path = tmp_path / "control" / "policy.json"
    kept = msgspec.json.decode(path.read_bytes(), type=KeptPolicy)
    path.write_bytes({
        "empty": b"",
        "cut": path.read_bytes()[:-20],
        "json": b'{"signed": 1}',
        "another agent's": msgspec.json.encode(
            KeptPolicy(signed=signed(5, agent_id="b"), trusted_keys={}, enrolment="first")
        ),
        "signature": msgspec.json.encode(
            KeptPolicy(signed=tampered(kept.signed, '"r"', '"s"'), trusted_keys=kept.trusted_keys, enrolment="first")
        ),
    }[damage])  # fmt: skip
    policies = keeper()
    assert not policies.may_upload
    assert policies.revision == 0
    policies.take(signed(6))
    assert policies.may_upload


def test_another_enrolment_begins_with_revisions_and_keys_of_its_own(keeper):
    keeper().take(signed(50))
    policies = keeper(key=STRANGER, enrolment="second")
    assert (policies.revision, policies.may_upload) == (0, False)
    with pytest.raises(PolicyError):
        policies.take(signed(51))  # of the server that it left
    assert policies.take(signed(1, key=STRANGER, keys=(STRANGER,)))


def test_the_file_is_the_users_alone(keeper, tmp_path):
    keeper().take(signed(1))
    assert (tmp_path / "control" / "policy.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "control").stat().st_mode & 0o777 == 0o700


def test_changes_are_logged_in_the_manuals_words_and_only_changes(keeper):
    policies = keeper()
    changed = {"baseline_upload_canary_percent": 5, "fleet_seed_canary_percent": 20}
    with structlog.testing.capture_logs() as logs:
        policies.take(signed(1))
        policies.take(signed(2, changed))
        policies.take(signed(3, changed | OFF))
        policies.take(signed(4, OFF | changed, group="other"))
        policies.take(signed(5, {}))
    said = [(line["event"], line["revision"]) for line in logs if line["event"] != "applied policy"]
    assert said == [
        ("updated baseline upload canary percent from policy", 2),
        ("updated fleet-seed canary percent from policy", 2),
        ("updated baseline upload flag from policy", 3),
        ("updated fleet-seed flag from policy", 3),
        ("updated baseline upload flag from policy", 5),
        ("updated baseline upload canary percent from policy", 5),
        ("updated fleet-seed flag from policy", 5),
        ("updated fleet-seed canary percent from policy", 5),
    ]


def test_a_servers_refusal_counts_until_another_policy_comes(keeper):
    policies = keeper()
    policies.take(signed(1))
    policies.note_upload(ServerVerdict.NOT_IN_CANARY)
    assert not policies.may_upload
    assert policies.may_seed
    assert policies.describe()["upload"]["decided_by"] == "server"
    policies.take(signed(2))
    assert policies.may_upload


def test_mode_and_whitelist_come_with_the_policy(keeper):
    policies = keeper()
    entry = WhitelistEntry(entry_id="w", kind="rule", value="r1")
    policies.take(signed(9, {"baseline_mode": "learning"}, mode_revision=7, whitelist=[entry]))
    assert policies.wanted_mode == ("learning", 7)
    assert policies.whitelist == (entry,)
    policies.take(signed(10))
    assert policies.wanted_mode is None


def test_a_disk_that_refuses_leaves_the_old_policy_in_force(keeper, tmp_path, monkeypatch):
    policies = keeper()
    policies.take(signed(1, OFF))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("eguard.agent.control.policies.write_private", full)
    with pytest.raises(OSError, match="No space"):
        policies.take(signed(2))
    assert (policies.revision, policies.may_upload) == (1, False)
