"""What a baseline gave up is kept: durable, bounded, readable after a crash."""

import pytest

from eguard.baseline.archive import BaselineArchive
from eguard.errors import BaselineStoreError

SH = ("sh", "cron")
COUNTS = (3, 0, 0, 1, 0, 0, 0, 0)


def test_hostile_names_survive(tmp_path):
    archive = BaselineArchive(tmp_path / "a.jsonl")
    archive.keep({("a:\n\x1b[2J", "\udcff"): COUNTS}, reason="drift", now=1.0)
    (line,) = archive.read()
    assert line.counts == COUNTS
    assert "\n" not in line.process_key
    assert (tmp_path / "a.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_crash_cut_off_costs_no_other(tmp_path):
    archive = BaselineArchive(tmp_path / "a.jsonl")
    archive.keep({SH: COUNTS}, reason="one", now=1.0)
    with (tmp_path / "a.jsonl").open("ab") as stream:
        stream.write(b'{"archived_at_unix":2.0,"rea')
    archive.keep({SH: COUNTS}, reason="three", now=3.0)
    assert [line.reason for line in archive.read()] == ["one", "three"]


def test_it_is_bounded_and_keeps_the_latest(tmp_path):
    archive = BaselineArchive(tmp_path / "a.jsonl", max_bytes=1000)
    for number in range(100):
        archive.keep({SH: COUNTS}, reason=str(number), now=float(number))
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 2000
    kept = [int(line.reason) for line in archive.read()]
    assert kept == list(range(kept[0], 100))


def test_nothing_is_written_for_nothing(tmp_path):
    BaselineArchive(tmp_path / "a.jsonl").keep({}, reason="drift", now=1.0)
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_its_place_is_refused(tmp_path):
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BaselineStoreError, match="cannot archive"):
        BaselineArchive(tmp_path / "a.jsonl").keep({SH: COUNTS}, reason="drift", now=1.0)
    assert not (tmp_path / "elsewhere").exists()
