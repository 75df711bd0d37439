import gzip
from pathlib import Path

import pytest

from eguard.events.parsers import ParseReport, read_events


@pytest.fixture(scope="session")
def raw() -> Path:
    """The shipped data."""
    return Path(__file__).parents[4] / "data" / "raw"


@pytest.fixture
def parse(tmp_path):
    """Parse text as a format: events and report."""

    def run(text, name, *, group="", file_name="log"):
        path = tmp_path / file_name
        data = text.encode() if isinstance(text, str) else text
        path.write_bytes(gzip.compress(data, mtime=0) if file_name.endswith(".gz") else data)
        report = ParseReport()
        events = list(read_events(path, name, report, group))
        assert report.rows_read == len(events) + report.skipped.total() + report.rejected.total()
        return events, report

    return run
