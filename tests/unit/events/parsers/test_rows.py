import gzip

import pytest

from eguard.errors import CorruptFileError, ParseError, UnknownFormatError
from eguard.events import Event
from eguard.events.parsers.lines import LineReader
from eguard.events.parsers.report import ParseReport
from eguard.events.parsers.rows import CsvTable, events_of, json_objects


def reader(tmp_path, data):
    path = tmp_path / "rows"
    path.write_bytes(data)
    return LineReader(path, ParseReport())


def test_json_lines_that_are_no_objects_are_counted(tmp_path):
    deep = b'{"a":' * 3_000 + b"1" + b"}" * 3_000
    junk = [
        b"[1]",
        b"7",
        b"null",
        b"{",
        b'{"a":1e999}',
        b'{"a":"\xff"}',
        b"\0\0",
        b'{"a":NaN}',
        deep,
        b'{"a":"\\ud800"}',
    ]
    lines = reader(tmp_path, b"\n".join([b'{"a":1}', *junk, b"", b"   ", b'{"a":2}\r']))
    assert list(json_objects(lines)) == [{"a": 1}, {"a": 2}]
    assert dict(lines.report.rejected) == {"bad_json": 7, "not_an_object": 3}


def test_csv_rows_may_hold_quotes_commas_and_line_feeds(tmp_path):
    lines = reader(tmp_path, b'a,b\r\n1,"x, ""y"""\r\n2,"two\nlines"\r\n\r\n3,z')
    assert list(CsvTable(lines, ["b"]).records()) == [
        {"a": "1", "b": 'x, "y"'},
        {"a": "2", "b": "two\nlines"},
        {"a": "3", "b": "z"},
    ]
    assert not lines.report.rejected


def test_bad_csv_rows_are_counted_by_reason_and_the_rest_is_kept(tmp_path):
    rows = [b"a,b", b"1,x", b"2", b"3,x,y", b"4,\xff", b"a,b", b"5,\0", b"6,in\rside", b"7,y"]
    lines = reader(tmp_path, b"\n".join(rows))
    assert [row["a"] for row in CsvTable(lines, ["a", "b"]).records()] == ["1", "5", "7"]
    assert dict(lines.report.rejected) == {"wrong_column_count": 2, "not_utf8": 1, "bad_csv": 1}
    assert dict(lines.report.skipped) == {"repeated_header": 1}


def test_an_open_quote_costs_what_it_swallows_but_ends(tmp_path):
    lines = reader(tmp_path, b'a,b\n1,x\n2,"open\n' + b"3,y\n" * 50_000)
    rows = list(CsvTable(lines, ["a"]).records())
    assert rows[0] == {"a": "1", "b": "x"}
    assert lines.report.rejected["bad_csv"] == 1
    assert len(rows) > 10_000


def test_rows_before_damage_are_delivered(tmp_path):
    text = b"a,b\n" + b"".join(b"%d,x\n" % index for index in range(60_000))
    lines = reader(tmp_path, gzip.compress(text)[:-5_000])
    kept = []
    with pytest.raises(CorruptFileError):
        kept.extend(row["a"] for row in CsvTable(lines, ["a", "b"]).records())
    assert kept == [str(index) for index in range(len(kept))]
    assert len(kept) == lines.lines_read - 1


def test_a_missing_column_is_another_format(tmp_path):
    with pytest.raises(UnknownFormatError, match="column 'c' is missing"):
        CsvTable(reader(tmp_path, b"a,b\n1,2\n"), ["a", "c"])
    assert list(CsvTable(reader(tmp_path, b""), ["a"]).records()) == []


def test_every_translated_record_is_counted_once():
    report = ParseReport()

    def translate(number):
        if number == 1:
            raise ParseError("bad", reason="bad_number")
        return "other" if number == 2 else Event(time_unix=1.0, host_id="h", event_class=-1, pid=number)

    assert [event.pid for event in events_of(range(5), translate, report)] == [0, 3, 4]
    assert report.to_dict() == {
        "rows_read": 5,
        "accepted": 3,
        "skipped": {"other": 1},
        "rejected": {"bad_number": 1},
        "repaired": {},
        "damage": "",
    }
