"""Reading operators' lists of indicators: forms, canonical values, and refusals that name line and cause."""

import pytest

from eguard.detection.indicator_list import make_indicator, parse_indicators
from eguard.errors import RuleError


def test_a_plain_list_tells_kinds_by_form():
    text = "\ufeff# comment\n\n" + "\n".join(
        ["AB" * 32, "Evil.Example.", "203.0.113.9", "2001:DB8::0:1", "198.51.100.0/24", "203.0.113.9:8443", "[::2]:53"]
    )
    found = [(indicator.kind, indicator.value) for indicator in parse_indicators(text, "feed")]
    assert found == [
        ("sha256", "ab" * 32),
        ("domain", "evil.example"),
        ("address", "203.0.113.9"),
        ("address", "2001:db8::1"),
        ("network", "198.51.100.0/24"),
        ("address_port", "203.0.113.9:8443"),
        ("address_port", "[::2]:53"),
    ]


def test_a_table_names_kind_and_source():
    text = 'kind, value, source\ndomain,evil.example,"report, page 2"\naddress,203.0.113.9,\n'
    first, second = parse_indicators(text, "feed.csv")
    assert (first.source, second.source) == ("report, page 2", "feed.csv")


def test_duplicates_in_other_spelling_count_once():
    assert len(parse_indicators("evil.example\nEVIL[.]example.\n*.evil.example\n", "feed")) == 1


def test_an_address_in_ipv6_dress_is_the_ipv4_address():
    assert make_indicator("::ffff:203.0.113.9", source="s").value == "203.0.113.9"


def test_a_name_beyond_ascii_is_kept_as_it_goes_over_the_wire():
    assert make_indicator("b\u00fccher.example", source="s").value == "xn--bcher-kva.example"


def test_a_canonical_value_reads_back_as_itself():
    for value in ("203.0.113.9:80", "[2001:db8::1]:443", "10.0.0.0/8", "evil.example", "ab" * 32):
        once = make_indicator(value, source="s")
        assert make_indicator(once.value, kind=once.kind, source="s") == once


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("http://evil.example/a", "URL"),
        ("nodot", "no dot"),
        ("evil..example", "no domain name"),
        ("-evil.example", "no domain name"),
        ("evil.123", "no domain name"),
        ("999.1.1.1", "no domain name"),
        ("127.0.0.1", "own address"),
        ("0.0.0.0", "own address"),
        ("0.0.0.0/0", "too wide"),
        ("2000::/8", "too wide"),
        ("10.0.0.1/8", "no network"),
        ("203.0.113.9:0", "port"),
        ("203.0.113.9:70000", "port"),
        ("x" * 600, "600 characters"),
        ("b\u00fccher..example", "no domain name"),
    ],
)
def test_a_bad_line_is_refused_with_its_number_and_cause(line, cause):
    with pytest.raises(RuleError, match=cause) as caught:
        parse_indicators(f"# head\ngood.example\n{line}\n", "feed.txt")
    assert str(caught.value).startswith("feed.txt, line 3: ")
    assert caught.value.context["line"] == 3
    assert "nothing of the list was taken" in caught.value.remedy


@pytest.mark.parametrize(
    ("row", "cause"),
    [
        ("domain,evil.example", "2 columns"),
        ("hash,abc,s", "no kind"),
        ("sha256,abc,s", "64 hexadecimal"),
        ("address,evil.example,s", "no address"),
        ("network,10.0.0.0,s", None),
        ("domain,,s", "empty"),
        ("address_port,10.0.0.1,s", "port"),
    ],
)
def test_a_bad_row_of_a_table_is_refused(row, cause):
    text = f"kind,value,source\n{row}\n"
    if cause is None:
        assert parse_indicators(text, "feed")[0].value == "10.0.0.0/32"
        return
    with pytest.raises(RuleError, match=cause) as caught:
        parse_indicators(text, "feed")
    assert caught.value.context["line"] == 2
