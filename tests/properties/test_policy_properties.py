"""Policies: what is written is read back, cohorts are nested, and nothing but permission enables anything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.errors import PolicyError
from eguard.policy import (
    ServerAnswer,
    ServerVerdict,
    StartupControls,
    bucket_limit,
    canary_buckets,
    effective_controls,
    in_canary,
    parse_policy_document,
)
from eguard.wire.policy import PolicyPayload

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=128)
SALTS = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=64)
PERCENTS = st.integers(0, 10_000).map(lambda steps: steps / 100)
DOCUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "baseline_upload_enabled": st.booleans(),
        "fleet_seed_enabled": st.booleans(),
        "baseline_upload_canary_percent": PERCENTS,
        "fleet_seed_canary_percent": PERCENTS,
        "bundle_canary_percent": PERCENTS,
        "rollout_id": SALTS,
        "baseline_mode": st.sampled_from(["learning", "force_active", "skip_learning"]),
    },
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=40), inner, max_size=4),
    max_leaves=10,
)
STARTUPS = st.builds(
    StartupControls,
    upload_enabled=st.booleans(),
    seed_enabled=st.booleans(),
    upload_percent=PERCENTS,
    seed_percent=PERCENTS,
)
VERDICTS = st.sampled_from(list(ServerVerdict))


@given(DOCUMENTS)
def test_a_document_is_read_as_it_was_written(fields):
    document = parse_policy_document(fields)
    assert document.to_json() == fields
    assert parse_policy_document(document.to_json()) == document


@given(JSON | st.dictionaries(st.sampled_from(["baseline_upload_enabled", "rollout_id", "x"]), JSON, max_size=3))
def test_whatever_is_no_document_is_refused_by_name_and_by_nothing_else(value):
    faults, written = [], value
    try:
        written = parse_policy_document(value).to_json()
    except PolicyError as error:
        faults = error.errors or ["nothing named"]
    assert all(isinstance(field, str) and detail for field, detail in faults)
    assert written == value


@given(NAMES, SALTS, PERCENTS, PERCENTS)
def test_whoever_is_in_at_a_share_is_in_at_every_larger_one(name, salt, one, other):
    small, large = sorted((one, other))
    assert in_canary(name, salt, large) or not in_canary(name, salt, small)


@given(st.lists(NAMES, max_size=20), SALTS, PERCENTS)
def test_the_server_and_the_agent_deal_alike(names, salt, percent):
    inside = canary_buckets(names, salt) < bucket_limit(percent)
    assert inside.tolist() == [in_canary(name, salt, percent) for name in names]


@given(STARTUPS, DOCUMENTS, NAMES, st.integers(0, 20), VERDICTS, VERDICTS)
def test_nothing_but_every_permission_enables_anything(startup, fields, name, revision, upload, seed):
    policy = PolicyPayload(
        revision=10,
        mode_revision=0,
        policy_id="p",
        policy_version="v1",
        rollout_id=fields.get("rollout_id", "p"),
        agent_id=name,
        group="",
        policy=fields,
    )
    controls = effective_controls(startup, policy, name, ServerAnswer(revision, upload, seed))
    silent = effective_controls(startup, policy, name, None)
    for direction, allowed, field in (
        ("upload", startup.upload_enabled and startup.upload_percent > 0, "baseline_upload"),
        ("seed", startup.seed_enabled and startup.seed_percent > 0, "fleet_seed"),
    ):
        found = getattr(controls, direction)
        if found.enabled:
            assert allowed
            assert fields.get(f"{field}_enabled") is not False
            assert controls.bucket < bucket_limit(found.percent)
            assert getattr(silent, direction).enabled  # an answer never adds anything


@given(STARTUPS, NAMES)
def test_without_a_policy_nothing_is_enabled_beyond_the_startup_settings(startup, name):
    controls = effective_controls(startup, None, name)
    assert controls.upload_enabled <= startup.upload_enabled
    assert controls.seed_enabled <= startup.seed_enabled
    assert not controls.takes_candidate_bundle


def test_the_strategies_reach_both_sides():
    with pytest.raises(PolicyError):
        parse_policy_document({"x": 1})
