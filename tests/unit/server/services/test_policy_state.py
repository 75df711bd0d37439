"""Which policy an agent is sent, and that its revision only rises: a model that changes at random."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.policy import PolicyDocument, parse_policy_document
from eguard.server.services.policy_state import BUILT_IN, Assignment, Place, PolicyState, StoredPolicy
from eguard.wire.policy import WhitelistEntry

AGENT, GROUP = "a1", "web"


def stored(revision, policy_id="p", version="v1", mode_revision=0, **document):
    return StoredPolicy(revision, policy_id, version, policy_id, mode_revision, parse_policy_document(document))


def state(*policies, **fields):
    held = {(each.policy_id, each.policy_version): each for each in policies}
    return PolicyState(policies=held, **fields)


DEFAULT = stored(1, "default")


@pytest.mark.parametrize(
    ("assignments", "expected", "source"),
    [
        ({}, "default", "default"),
        ({("group", GROUP): Assignment("g", None, 5)}, "g", "group"),
        ({("agent", AGENT): Assignment("a", None, 5)}, "a", "agent"),
        ({("agent", AGENT): Assignment("a", None, 5), ("group", GROUP): Assignment("g", None, 6)}, "a", "agent"),
        ({("agent", AGENT): Assignment(None, None, 7), ("group", GROUP): Assignment("g", None, 6)}, "g", "group"),
        ({("agent", AGENT): Assignment(None, None, 7)}, "default", "default"),
        ({("agent", "a2"): Assignment("a", None, 5), ("group", "db"): Assignment("g", None, 6)}, "default", "default"),
        ({("agent", AGENT): Assignment("gone", None, 5)}, "default", "default"),
        ({("agent", AGENT): Assignment("a", "v9", 5)}, "default", "default"),
    ],
    ids=["none", "group", "agent", "both", "agent withdrawn", "withdrawn", "others", "no policy", "no version"],
)
def test_agent_before_group_before_default(assignments, expected, source):
    chosen = state(DEFAULT, stored(2, "g"), stored(3, "a"), assignments=assignments).chosen(AGENT, Place(GROUP, 0))
    assert (chosen.policy.policy_id, chosen.source) == (expected, source)


def test_without_any_policy_nothing_overrides_the_agents_settings():
    chosen = state().chosen(AGENT, Place(GROUP, 0))
    assert chosen.policy is BUILT_IN
    assert chosen.policy.document == PolicyDocument()
    assert (chosen.revision, chosen.mode_revision) == (0, 0)


def test_an_assignment_without_a_version_follows_the_latest_one_and_a_pinned_one_stays():
    versions = (stored(3, version="v2"), stored(9, version="v1"), stored(4, version="v3"))
    for version, revision in ((None, 9), ("v2", 3)):
        assigned = {("agent", AGENT): Assignment("p", version, 2)}
        assert state(*versions, assignments=assigned).chosen(AGENT, Place("", 0)).policy.revision == revision


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("floor", 50),
        ("whitelist_revision", 50),
        ("assignments", {("agent", AGENT): Assignment(None, None, 50)}),
        ("assignments", {("group", GROUP): Assignment(None, None, 50)}),
        ("assignments", {("agent", AGENT): Assignment("default", None, 50)}),
    ],
    ids=["floor", "whitelist", "agent withdrawn", "group withdrawn", "assigned"],
)
def test_the_revision_is_the_highest_of_all_that_had_a_say(name, value):
    assert state(DEFAULT, **{name: value}).chosen(AGENT, Place(GROUP, 0)).revision == 50
    assert state(DEFAULT).chosen(AGENT, Place(GROUP, 50)).revision == 50


@pytest.mark.parametrize(
    ("assignments", "group_revision", "expected"),
    [
        ({("agent", AGENT): Assignment("m", None, 9)}, 0, 9),
        ({("agent", AGENT): Assignment("m", None, 3)}, 0, 4),
        ({("group", GROUP): Assignment("m", None, 3)}, 12, 12),
        ({("agent", AGENT): Assignment("m", None, 3)}, 12, 4),
        ({("agent", AGENT): Assignment("q", None, 9)}, 0, 0),
    ],
    ids=["assigned later", "posted later", "came into the group later", "group does not count", "no mode"],
)
def test_the_mode_is_asked_for_by_the_policy_or_by_giving_it_to_somebody(assignments, group_revision, expected):
    policies = (DEFAULT, stored(6, "m", mode_revision=4, baseline_mode="learning"), stored(7, "q", mode_revision=7))
    assert (
        state(*policies, assignments=assignments).chosen(AGENT, Place(GROUP, group_revision)).mode_revision == expected
    )


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["post", "agent", "group", "no agent", "no group", "move", "whitelist", "floor"]),
        st.sampled_from(["default", "p", "q"]),
        st.sampled_from([None, "v1", "v2"]),
    ),
    max_size=40,
)


@given(CHANGES)
def test_the_revision_rises_with_every_change_that_concerns_the_agent_and_never_falls(changes):
    policies, assignments, floor, whitelist = {("default", "v1"): DEFAULT}, {}, 0, 0
    place, counter = Place(GROUP, 0), 1
    before = PolicyState(policies=policies).chosen(AGENT, place)
    for kind, policy_id, version in changes:
        counter += 1
        if kind == "post":
            policies[policy_id, version or "v1"] = stored(counter, policy_id, version or "v1")
        elif kind in {"agent", "group"}:
            assignments[kind, AGENT if kind == "agent" else place.group] = Assignment(policy_id, version, counter)
        elif kind == "no agent":
            assignments["agent", AGENT] = Assignment(None, None, counter)
        elif kind == "no group":
            assignments["group", place.group] = Assignment(None, None, counter)
        elif kind == "move":
            place = Place("db" if place.group == GROUP else GROUP, counter)
        elif kind == "whitelist":
            whitelist = counter
        else:
            floor = counter
        after = PolicyState(
            policies=policies, assignments=assignments, floor=floor, whitelist_revision=whitelist
        ).chosen(AGENT, place)
        assert after.revision >= before.revision
        if after.policy != before.policy:
            assert after.revision == counter
        before = after


def test_the_whitelist_of_an_agent_is_the_fleets_its_groups_and_its_own_without_what_has_expired():
    def entry(name, scope, scope_id, expires=None):
        return scope, scope_id, WhitelistEntry(entry_id=name, kind="rule", value="r", expires_at_unix=expires)

    held = state(
        whitelist=(
            entry("fleet", "fleet", ""),
            entry("web", "group", GROUP),
            entry("db", "group", "db"),
            entry("own", "agent", AGENT, 101.0),
            entry("other", "agent", "a2"),
            entry("past", "fleet", "", 100.0),
            entry("group called as the agent", "group", AGENT),
        )
    )
    assert [each.entry_id for each in held.whitelist_for(AGENT, GROUP, 100.0)] == ["fleet", "web", "own"]
