"""The script that is loaded: a golden file, and what must hold whatever the plan."""

import re
from ipaddress import ip_address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.agent.isolation.ruleset import (
    BASE_CHAINS,
    COUNTERS,
    Plan,
    elements_digest,
    question_rule,
    question_tag,
    record_rules,
    render,
    render_removal,
    render_sets,
)

GOLDEN = Path(__file__).parents[3] / "golden" / "isolation.nft"


def plan_of(**changes):
    values = {
        "endpoints": frozenset(
            {
                (ip_address("192.0.2.10"), 8443),
                (ip_address("192.0.2.9"), 8443),
                (ip_address("192.0.2.9"), 443),
                (ip_address("2001:db8::7"), 8443),
            }
        ),
        "resolvers": frozenset({ip_address("192.0.2.53"), ip_address("2001:db8::53")}),
        "questions": ("server.example", "server.example.corp.example"),
        "since_unix": 1_790_000_000,
        "requested_by": "alice (sudo)",
    }
    return Plan(**{**values, **changes})


def test_script_is_the_golden_one():
    assert render(plan_of(), {"dropped_input": (3, 180)}) == GOLDEN.read_text()


def test_nothing_of_the_plan_but_addresses_numbers_and_names_reaches_the_script():
    hostile = 'x" accept; flush ruleset; # \n\\ $(reboot) {} \x1b[2J \udcff'
    script = render(plan_of(requested_by=hostile))
    by = next(line for line in script.splitlines() if "by=" in line)
    assert re.fullmatch(r' *return comment "by=[A-Za-z0-9@._%~-]*"', by)
    assert script.isascii()


@given(st.text(max_size=400))
def test_the_person_fits_the_kernels_comment(by):
    tag = record_rules(plan_of(requested_by=by))[2].tag
    assert len(tag.encode()) <= 100
    assert re.fullmatch(r"by=[A-Za-z0-9@._%~-]*", tag)


def test_every_chain_of_traffic_ends_in_a_counted_drop():
    for hook, rules in BASE_CHAINS.items():
        assert (rules[-1].verdict, rules[-1].match) == ("drop", f"counter name dropped_{hook}")
        assert f"type filter hook {hook} priority -350; policy drop;" in render(plan_of())


def test_nothing_is_forwarded():
    assert [rule.verdict for rule in BASE_CHAINS["forward"]] == ["drop"]


def test_tags_are_unique_in_their_chain():
    for rules in BASE_CHAINS.values():
        assert len({rule.tag for rule in rules}) == len(rules)


def test_empty_sets_have_no_elements_line():
    script = render(plan_of(endpoints=frozenset(), resolvers=frozenset(), questions=()))
    assert "elements" not in script


def test_exchange_of_addresses_touches_our_sets_and_record_alone():
    lines = render_sets(plan_of(resolvers=frozenset())).splitlines()
    assert all(re.match(r"(flush|add) \w+ inet eguard_isolation (server|resolver)_v[46]|.* record", x) for x in lines)
    assert lines.index("flush set inet eguard_isolation resolver_v4") >= 0
    assert not any(line.startswith("add element inet eguard_isolation resolver") for line in lines)


def test_removal_names_our_table_only():
    assert set(render_removal().split()) == {"add", "delete", "table", "inet", "eguard_isolation"}


def test_digest_depends_on_the_elements_and_not_on_their_order():
    base = {"server_v4": ["a", "b"], "resolver_v4": ["c"]}
    assert elements_digest(base) == elements_digest({"resolver_v4": ["c"], "server_v4": ["b", "a"], "server_v6": []})
    assert elements_digest(base) != elements_digest({"server_v4": ["a"], "resolver_v4": ["b", "c"]})


def test_counters_go_on_from_where_they_were():
    script = render(plan_of(), dict.fromkeys(COUNTERS, (7, 420)))
    assert script.count("{ packets 7 bytes 420 }") == 3


@pytest.mark.parametrize("length", [1, 14, 15, 16, 30, 31, 63, 199])
def test_question_covers_every_byte_of_the_name_once(length):
    name = ".".join(["a" * 49] * (length // 50) + ["a" * (length % 50)]).rstrip(".") if length > 63 else "a" * length
    wire = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"
    pieces = re.findall(r"@th,(\d+),(\d+) 0x([0-9a-f]+)", question_rule(name).match)[1:]
    compared, expected_offset = b"", 160
    for offset, bits, value in pieces:
        if expected_offset == 160 + len(wire) * 8:
            break
        assert (int(offset), int(bits)) == (expected_offset, len(value) * 4)
        assert int(bits) <= 128
        compared += bytes.fromhex(value)
        expected_offset += int(bits)
    assert compared == wire
    assert f"@th,{160 + len(wire) * 8},32 {{ 0x00010001, 0x001c0001 }}" in question_rule(name).match
    assert 20 + len(wire) + 4 <= 255


def test_long_names_keep_apart_in_their_tags():
    first, second = "a" * 63 + ".example" * 10, "a" * 63 + ".example" * 9 + ".example2"
    assert question_tag(first) != question_tag(second)
    assert max(len(question_tag(first)), len(question_tag(second))) <= 100
