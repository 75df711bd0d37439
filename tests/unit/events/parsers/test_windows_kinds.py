import csv
import gzip

import pytest

from eguard.events import UNCOUNTED, EventClass
from eguard.events.parsers.windows_kinds import CLASS_OF_EVENT_TYPE, KINDS, OTHER, event_kind


def test_the_table_says_what_the_derived_table_says(raw):
    with gzip.open(raw / "endpoint-events" / "events.csv.gz", "rt", newline="") as file:
        rows = csv.reader(file)
        next(rows)
        kinds = {(source, int(code), kind) for source, code, kind in {tuple(row[3:6]) for row in rows}}
    assert len(kinds) == 50
    assert [kind for kind in sorted(kinds) if event_kind(kind[0], kind[1]).event_type != kind[2]] == []


@pytest.mark.parametrize(
    ("event_type", "event_class"),
    [
        ("exec", EventClass.PROCESS_EXEC),
        ("exit", EventClass.PROCESS_EXIT),
        ("file_create", EventClass.FILE_OPEN),
        ("file_delete", EventClass.FILE_OPEN),
        ("file_stream", EventClass.FILE_OPEN),
        ("net", EventClass.NETWORK_CONNECT),
        ("dns", EventClass.DNS_QUERY),
        ("module_load", EventClass.MODULE_LOAD),
        ("driver_load", EventClass.MODULE_LOAD),
        ("logon", EventClass.LOGIN),
        ("logon_explicit", EventClass.LOGIN),
        ("logon_fail", EventClass.LOGIN),
        ("logoff", EventClass.LOGIN),
        ("proc_access", UNCOUNTED),
        ("priv_logon", UNCOUNTED),
        ("net_listen", UNCOUNTED),
        ("reg_set", UNCOUNTED),
    ],
)
def test_types_fall_into_the_classes_that_baselines_count(event_type, event_class):
    assert CLASS_OF_EVENT_TYPE[event_type] == event_class


def test_one_type_has_one_class_wherever_it_comes_from():
    for kinds in KINDS.values():
        for kind in kinds.values():
            assert CLASS_OF_EVENT_TYPE[kind.event_type] == kind.event_class


def test_unknown_events_are_other_and_not_counted():
    assert event_kind("security", 1) == event_kind("nowhere", 4688) == OTHER
    assert OTHER.event_class == UNCOUNTED
