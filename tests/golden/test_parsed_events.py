"""What the first and last event of shipped files parse to, whole. A change here changes what every later stage sees."""

import json
from pathlib import Path

import msgspec
import pytest

from eguard.errors import CorruptFileError
from eguard.events.parsers import read_events

GOLDEN = Path(__file__).with_name("parsed_events.json")
RAW = Path(__file__).parents[2] / "data" / "raw"
EXPECTED = json.loads(GOLDEN.read_text())


def first_and_last(path):
    events = []
    try:
        events.extend(read_events(RAW / path, group="golden"))
    except CorruptFileError:
        assert path.endswith(("corrupt.gz", "persiststartup.tar.gz"))
    return [msgspec.to_builtins(events[index]) for index in (0, -1)]


@pytest.mark.parametrize("path", EXPECTED)
def test_first_and_last_events_are_what_they_were(path):
    assert first_and_last(path) == EXPECTED[path]
