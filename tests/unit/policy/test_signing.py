import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from eguard.errors import PolicyError
from eguard.policy import open_policy, policy_key_id, public_key_text, sign_policy
from eguard.wire.bodies import decode_body, encode_body
from eguard.wire.control import PolicyKey
from eguard.wire.policy import PolicyPayload, SignedPolicy, WhitelistEntry

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(bytes(32))
TRUSTED = {policy_key_id(public_key_text(KEY)): public_key_text(KEY)}
AGENT = "agent-1"


def payload(**changes):
    fields = {
        "revision": 7,
        "mode_revision": 3,
        "policy_id": "mlops-rollout",
        "policy_version": "v1",
        "rollout_id": "mlops-rollout",
        "agent_id": AGENT,
        "group": "default",
        "policy": {"baseline_upload_enabled": True, "baseline_upload_canary_percent": 0.29},
        "whitelist": [WhitelistEntry(entry_id="w1", kind="domain", value="bücher.example")],
        "policy_keys": (PolicyKey(key_id="k", public_key="ab" * 32),),
    }
    return PolicyPayload(**(fields | changes))


def opened(signed, *, keys=TRUSTED, agent_id=AGENT, minimum_revision=0):
    return open_policy(signed, keys, agent_id=agent_id, minimum_revision=minimum_revision)


def reason(signed, **choices):
    with pytest.raises(PolicyError) as refused:
        opened(signed, **choices)
    assert refused.value.remedy
    return refused.value.context["reason"]


def signed_text(text, key=KEY):
    return SignedPolicy(
        payload=text, key_id=policy_key_id(public_key_text(key)), signature=key.sign(text.encode()).hex()
    )


def test_what_is_signed_is_what_is_opened_after_a_journey():
    signed = decode_body(encode_body(sign_policy(payload(), KEY)), SignedPolicy)
    assert opened(signed, minimum_revision=7) == payload()


def test_the_same_payload_is_signed_the_same():
    assert sign_policy(payload(), KEY) == sign_policy(payload(), KEY)


def test_an_unknown_key_is_refused():
    assert reason(sign_policy(payload(), OTHER)) == "unknown_key"
    assert reason(sign_policy(payload(), KEY), keys={}) == "unknown_key"


def test_a_key_that_borrows_a_trusted_name_is_refused():
    forged = msgspec.structs.replace(sign_policy(payload(), OTHER), key_id=next(iter(TRUSTED)))
    assert reason(forged) == "bad_signature"


@pytest.mark.parametrize("signature", ["", "zz", "00" * 64, "00" * 63], ids=["empty", "no hex", "zeros", "short"])
def test_a_signature_that_is_none_is_refused(signature):
    assert reason(msgspec.structs.replace(sign_policy(payload(), KEY), signature=signature)) == "bad_signature"


def test_any_changed_character_is_refused():
    signed = sign_policy(payload(whitelist=[], policy_keys=()), KEY)
    for index, character in enumerate(signed.payload):
        changed = signed.payload[:index] + ("0" if character != "0" else "1") + signed.payload[index + 1 :]
        assert reason(msgspec.structs.replace(signed, payload=changed)) == "bad_signature"


def test_a_lone_surrogate_is_refused():
    assert reason(msgspec.structs.replace(sign_policy(payload(), KEY), payload="\ud800")) == "bad_signature"


def test_another_agents_policy_is_refused():
    assert reason(sign_policy(payload(agent_id="agent-2"), KEY)) == "other_agent"
    assert reason(sign_policy(payload(), KEY), agent_id="Agent-1") == "other_agent"


def test_a_lower_revision_is_refused_and_the_same_is_taken():
    signed = sign_policy(payload(), KEY)
    assert reason(signed, minimum_revision=8) == "lower_revision"
    assert opened(signed, minimum_revision=7).revision == 7


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", "null", '{"revision": 1, "revision": 2}', '{"revision": NaN}', "[" * 100],
    ids=["empty", "broken", "list", "nothing", "null", "twice", "NaN", "deep"],
)
def test_a_signed_text_that_is_no_payload_is_refused(text):
    assert reason(signed_text(text)) == "unreadable"


def test_a_signed_document_that_is_none_is_refused():
    assert reason(sign_policy(payload(policy={"baseline_upload_canary_percent": "5"}), KEY)) == "invalid_policy"
    assert reason(sign_policy(payload(policy={"shiny": True}), KEY)) == "invalid_policy"


@pytest.mark.parametrize("text", ["", "ab", "zz" * 32, "ab" * 33], ids=["empty", "short", "no hex", "long"])
def test_an_announced_key_that_is_none_is_refused(text):
    announced = (PolicyKey(key_id="k", public_key=text),)
    assert reason(sign_policy(payload(policy_keys=announced), KEY)) == "unreadable"


def test_a_later_field_of_the_envelope_does_not_matter():
    text = msgspec.json.encode(msgspec.to_builtins(payload()) | {"later": 1}).decode()
    assert opened(signed_text(text)) == payload()
