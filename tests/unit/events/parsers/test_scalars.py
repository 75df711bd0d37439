import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.errors import ParseError
from eguard.events.parsers.scalars import (
    Memo,
    base_name,
    known,
    port_number,
    seconds_span,
    text_fields,
    time_from_iso,
    time_from_seconds,
    whole_number,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("2020-08-01T05:52:11", 1596261131.0),
        ("2020-08-01T05:52:11Z", 1596261131.0),
        ("2020-10-19 12:28:44.333", 1603110524.333),
        ("2022-05-11T18:10:20.4Z", 1652292620.4),
        ("2022-05-11T20:10:20.399931000+02:00", 1652292620.399931),
        ("2021-06-23 03:08:14.159814200+00:00", 1624417694.159814),
    ],
)
def test_both_forms_of_time_are_utc(text, seconds):
    assert time_from_iso(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "now", "12:00", "2020-13-01T00:00:00", "1969-12-31T23:59:59", "9999-99-99", "nan"]
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ParseError) as caught:
        time_from_iso(text)
    assert caught.value.context["reason"] == "bad_time"


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e300", "x", "", None, [], {}, 253402300800])
def test_seconds_outside_the_calendar_are_refused(value):
    with pytest.raises(ParseError) as caught:
        time_from_seconds(value)
    assert caught.value.context["reason"] == "bad_time"


@pytest.mark.parametrize("value", ["-1", "1.5", "x", "0x", "0xg", 1.5, -3, math.inf, True, [1], {"a": 1}, 2**63])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(ParseError) as caught:
        whole_number(value)
    assert caught.value.context["reason"] == "bad_number"


def test_numbers_are_decimal_hexadecimal_or_absent():
    assert [whole_number(value) for value in ("7", "0x16FC", "0XFf", "-", "", None, 9, 4.0)] == [
        *(7, 5884, 255, 0, 0, 0, 9, 4)
    ]
    assert whole_number(2**63 - 1) == 2**63 - 1
    assert port_number("65535") == 65535
    with pytest.raises(ParseError):
        port_number("65536")
    assert seconds_span("0.25") == 0.25
    assert seconds_span("-") == 0.0
    for value in ("nan", "-1", "x", [], "1e999"):
        with pytest.raises(ParseError):
            seconds_span(value)


@given(st.integers(0, 2**63 - 1))
def test_numbers_survive_both_spellings(number):
    assert whole_number(str(number)) == whole_number(hex(number)) == number


@given(st.datetimes(min_value=__import__("datetime").datetime(1970, 1, 1)))
def test_iso_times_equal_the_calendar(moment):
    epoch = moment - type(moment)(1970, 1, 1)
    assert time_from_iso(moment.isoformat()) == epoch.total_seconds()


@pytest.mark.parametrize(
    ("path", "name"),
    [("C:\\a\\b.exe", "b.exe"), ("/usr/bin/x", "x"), ("C:/a\\b", "b"), ("bare", "bare"), ("dir\\", ""), ("", "")],
)
def test_base_names_of_both_systems(path, name):
    assert base_name(path) == name


def test_marks_of_absence_are_empty():
    assert [known(text) for text in ("-", "?", None, "x", "")] == ["", "", "", "x", ""]


def test_text_fields_drop_nulls_and_depth():
    deep = []
    for _ in range(5_000):
        deep = [deep]
    record = {"a": "x", "b": None, "c": 3, "d": [1, "y", [2]], "e": True, "f": {"g": 1}, "h": deep}
    assert text_fields(record) == {"a": "x", "c": "3", "d": "1,y", "e": "true", "f": "", "h": ""}


def test_memo_computes_once_and_forgets_at_capacity():
    calls = []
    memo = Memo(lambda text: calls.append(text) or text.upper(), capacity=2)
    assert [memo[text] for text in ("a", "a", "b", "a", "c", "a")] == ["A", "A", "B", "A", "C", "A"]
    assert calls == ["a", "b", "c", "a"]
