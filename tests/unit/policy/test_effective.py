"""The table of all combinations: startup setting x policy x the server's answer, both directions."""

import itertools

import pytest

from eguard.errors import PolicyError
from eguard.policy import (
    DecidedBy,
    ServerAnswer,
    ServerVerdict,
    StartupControls,
    canary_bucket,
    effective_controls,
)
from eguard.settings.agent import AgentSettings
from eguard.wire.policy import PolicyPayload

AGENT = "agent-31bbb93f38b4"  # bucket 8892 of rollout mlops-rollout, 88.92 % in
SALT = "mlops-rollout"
REVISION = 7

#: Startup: switch and percentage. The agent is inside 95 % and outside 5 %.
STARTUP = {
    "on": (True, 100.0),
    "on inside": (True, 95.0),
    "on outside": (True, 5.0),
    "on zero": (True, 0.0),
    "off": (False, 100.0),
    "off zero": (False, 0.0),
}
ANSWERS = {
    "none": None,
    "allowed": (REVISION, "allowed"),
    "error": (REVISION, "error"),
    "disabled": (REVISION, "disabled"),
    "canary": (REVISION, "not_in_canary"),
    "outdated": (REVISION - 1, "disabled"),
}
#: Policy: "-" none, else switch (T, F, . not given) and percentage (. not given, 0, 5 outside, 95 inside, 100).
#: A cell holds the six answers' outcomes in the order of ANSWERS: a capital is on, a small letter off, and
#: E environment, P policy, C canary, S server.
TABLE = """
policy    on      on inside  on outside  on zero  off     off zero
-         EEEsss  EEEsss     cccccc      eeeeee   eeeeee  eeeeee
..        EEEssE  EEEssE     cccccc      eeeeee   eeeeee  eeeeee
.0        cccccc  cccccc     cccccc      eeeeee   eeeeee  eeeeee
.5        cccccc  cccccc     cccccc      eeeeee   eeeeee  eeeeee
.95       PPPssP  PPPssP     PPPssP      eeeeee   eeeeee  eeeeee
.100      PPPssP  PPPssP     PPPssP      eeeeee   eeeeee  eeeeee
T.        PPPssP  PPPssP     cccccc      eeeeee   eeeeee  eeeeee
T0        cccccc  cccccc     cccccc      eeeeee   eeeeee  eeeeee
T5        cccccc  cccccc     cccccc      eeeeee   eeeeee  eeeeee
T95       PPPssP  PPPssP     PPPssP      eeeeee   eeeeee  eeeeee
T100      PPPssP  PPPssP     PPPssP      eeeeee   eeeeee  eeeeee
F.        pppppp  pppppp     pppppp      eeeeee   eeeeee  eeeeee
F0        pppppp  pppppp     pppppp      eeeeee   eeeeee  eeeeee
F5        pppppp  pppppp     pppppp      eeeeee   eeeeee  eeeeee
F95       pppppp  pppppp     pppppp      eeeeee   eeeeee  eeeeee
F100      pppppp  pppppp     pppppp      eeeeee   eeeeee  eeeeee
"""
LETTERS = {"e": "environment", "p": "policy", "c": "canary", "s": "server"}
DIRECTIONS = {
    "upload": ("baseline_upload_enabled", "baseline_upload_canary_percent"),
    "seed": ("fleet_seed_enabled", "fleet_seed_canary_percent"),
}


def combinations():
    for line in TABLE.strip().splitlines()[1:]:
        policy, *cells = line.split()
        for startup, cell in zip(STARTUP, cells, strict=True):
            for answer, letter in zip(ANSWERS, cell, strict=True):
                yield pytest.param(policy, startup, answer, letter, id=f"{policy}/{startup}/{answer}")


def payload(policy, **fields):
    return PolicyPayload(
        revision=REVISION,
        mode_revision=0,
        policy_id=SALT,
        policy_version="v1",
        rollout_id=SALT,
        agent_id=AGENT,
        group="default",
        policy=policy,
        **fields,
    )


def read_policy(code, direction):
    if code == "-":
        return None
    switch, percent = DIRECTIONS[direction]
    document = {} if code[0] == "." else {switch: code[0] == "T"}
    return payload(document if code[1:] == "." else document | {percent: float(code[1:])})


@pytest.mark.parametrize("direction", sorted(DIRECTIONS))
@pytest.mark.parametrize(("policy", "startup", "answer", "letter"), list(combinations()))
def test_table(policy, startup, answer, letter, direction):
    enabled, percent = STARTUP[startup]
    other = "seed" if direction == "upload" else "upload"
    settings = StartupControls(**{f"{direction}_enabled": enabled, f"{direction}_percent": percent})
    # Without a policy there is no revision that could outdate an answer.
    said = ANSWERS[answer] and ServerAnswer(
        ANSWERS[answer][0], **{direction: ServerVerdict(ANSWERS[answer][1]), other: ServerVerdict.ALLOWED}
    )
    controls = effective_controls(settings, read_policy(policy, direction), AGENT, said)
    found = getattr(controls, direction)
    assert (found.enabled, found.decided_by) == (letter.isupper(), DecidedBy(LETTERS[letter.lower()]))
    assert getattr(controls, f"{direction}_enabled") is found.enabled
    # The other direction was given nothing: it is as the defaults have it, whatever happens to this one.
    assert getattr(controls, other).enabled
    assert getattr(controls, other).decided_by is DecidedBy.ENVIRONMENT


def test_the_table_is_complete():
    codes = {"-"} | {f"{switch}{percent}" for switch, percent in itertools.product(".TF", [".", "0", "5", "95", "100"])}
    assert len(list(combinations())) == len(codes) * len(STARTUP) * len(ANSWERS)
    assert {line.split()[0] for line in TABLE.strip().splitlines()[1:]} == codes
    assert canary_bucket(AGENT, SALT) < 9_500
    assert canary_bucket(AGENT, "default") < 9_500  # the salt without a policy
    assert min(canary_bucket(AGENT, SALT), canary_bucket(AGENT, "default")) >= 500


def test_one_salt_makes_both_cohorts_the_same_agents():
    document = {"baseline_upload_canary_percent": 20, "fleet_seed_canary_percent": 20}
    for index in range(300):
        controls = effective_controls(StartupControls(), payload(document), f"agent-{index}")
        assert controls.upload_enabled is controls.seed_enabled
        assert controls.upload_enabled == (controls.bucket < 2_000)


def test_a_policy_percentage_replaces_that_of_the_environment():
    controls = effective_controls(
        StartupControls(upload_percent=5.0), payload({"baseline_upload_canary_percent": 95}), AGENT
    )
    assert (controls.upload.percent, controls.seed.percent) == (95.0, 100.0)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [(None, False), ({}, True), ({"bundle_canary_percent": 5}, False), ({"bundle_canary_percent": 95}, True)],
    ids=["no policy", "not given", "outside", "inside"],
)
def test_the_candidate_bundle_is_for_agents_inside_its_share(policy, expected):
    controls = effective_controls(StartupControls(), policy if policy is None else payload(policy), AGENT)
    assert controls.takes_candidate_bundle is expected


def test_startup_controls_are_those_of_the_settings(monkeypatch):
    monkeypatch.setenv("EGUARD_BASELINE_UPLOAD_ENABLED", "no")
    monkeypatch.setenv("EGUARD_FLEET_SEED_CANARY_PERCENT", "0")
    assert StartupControls.from_settings(AgentSettings()) == StartupControls(upload_enabled=False, seed_percent=0.0)


def test_a_policy_that_is_none_decides_nothing():
    with pytest.raises(PolicyError):
        effective_controls(StartupControls(), payload({"baseline_upload_enabled": "yes"}), AGENT)
