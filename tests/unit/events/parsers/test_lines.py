import gzip

import pytest

from eguard.errors import CorruptFileError
from eguard.events.parsers.lines import MAX_LINE_BYTES, LineReader, first_line
from eguard.events.parsers.report import ParseReport


def lines_of(path):
    report = ParseReport()
    reader = LineReader(path, report)
    lines = [line for block in reader.blocks() for line in block]
    assert reader.lines_read == len(lines)
    return lines, report


def test_lines_are_whole_across_blocks(tmp_path):
    wanted = [b"x" * (index * 37 % 9_000) for index in range(400)] + [b"last without a line feed"]
    path = tmp_path / "log"
    path.write_bytes(b"\n".join(wanted))
    assert lines_of(path)[0] == wanted


def test_byte_order_mark_is_dropped_at_the_start_only(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"\xef\xbb\xbfone\n\xef\xbb\xbftwo")
    assert lines_of(path)[0] == [b"one", b"\xef\xbb\xbftwo"]
    path.write_bytes(b"\xef\xbb\xbfonly")
    assert lines_of(path)[0] == [b"only"]
    assert first_line(path) == "only"


@pytest.mark.parametrize("ending", [b"\nafter", b""])
@pytest.mark.parametrize("size", [MAX_LINE_BYTES + 1, 3 * MAX_LINE_BYTES])
def test_a_line_beyond_the_limit_is_counted_and_passed_over(tmp_path, size, ending):
    path = tmp_path / "log"
    path.write_bytes(b"before\n" + b"x" * size + ending)
    lines, report = lines_of(path)
    assert lines == [b"before", *([b"after"] if ending else [])]
    assert dict(report.rejected) == {"line_too_long": 1}


def test_a_line_of_the_limit_is_kept(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"x" * MAX_LINE_BYTES + b"\nafter\n")
    lines, report = lines_of(path)
    assert [len(line) for line in lines] == [MAX_LINE_BYTES, 5]
    assert not report.rejected


def test_damage_names_file_and_line_and_counts_the_line_it_cuts(tmp_path):
    path = tmp_path / "log.gz"
    text = b"".join(b"line %06d\n" % index for index in range(20_000))
    path.write_bytes(gzip.compress(text)[:-2_000])
    report = ParseReport()
    reader = LineReader(path, report)
    blocks = []
    with pytest.raises(CorruptFileError) as caught:
        blocks.extend(reader.blocks())
    lines = [line for block in blocks for line in block]
    assert lines == text.split(b"\n")[: len(lines)]
    assert 10_000 < len(lines) < 20_000
    assert caught.value.context["line"] == len(lines)
    assert report.damage == str(caught.value)
    assert f"{len(lines):,} lines were read before it" in str(caught.value)
    assert dict(report.rejected) == {"cut_off": 1}


def test_first_line_is_the_first_that_says_something(tmp_path):
    path = tmp_path / "log"
    path.write_bytes(b"\n \r\nfirst\nsecond")
    assert first_line(path) == "first"
    path.write_bytes(gzip.compress(b"first\n" * 5_000)[:-9])
    assert first_line(path) == "first"
    path.write_bytes(b"")
    assert first_line(path) == ""
