"""The shipped CSV was derived from the original logs by other code: parsed originals must say the same, row for row."""

import gzip
from collections import Counter
from csv import reader
from itertools import groupby
from pathlib import Path

import pytest

from eguard.errors import CorruptFileError
from eguard.events import EventBatch
from eguard.events.parsers import ParseReport, carry_parents, read_events
from eguard.events.parsers.scalars import base_name

EVENTS = Path(__file__).parents[2] / "data" / "raw" / "endpoint-events"
ORIGINALS = {
    "otrf:cmd_sam_copy_esentutl": ("cmd_sam_copy_esentutl.zip", 724),
    "otrf:covenant_persiststartup": ("covenant_persiststartup.tar.gz", 1_108),
    "otrf:covenant_sharpsc_stop_dcerpc_smb_svcctl": ("covenant_sharpsc_stop_dcerpc_smb_svcctl.zip", 1_241),
    "otrf:empire_powerdump_sam_access": ("empire_powerdump_sam_access.zip", 662),
    "otrf:metasploit_comsvcs_lsass_memory_dump": ("metasploit_comsvcs_lsass_memory_dump.zip", 38_256),
}
#: The Security events that the table keeps (data/raw/endpoint-events/SOURCE.md).
KEPT = {
    *(4688, 4689, 5156, 5158, 5154, 4624, 4625, 4634, 4648, 4656, 4658, 4663, 4690, 4673, 4703, 4670, 4672),
    *(5145, 5140, 4662, 4661, 4697, 4698, 4702),
}
#: What the table shows as target, by type; an exact copy of the object otherwise.
FILE_TYPES = {"file_time", "file_create", "file_stream", "file_delete"}
NO_TARGET = {"file_block", "file_exec", "raw_read"}


@pytest.fixture(scope="module")
def table():
    with gzip.open(EVENTS / "events.csv.gz", "rt", newline="") as file:
        rows = reader(file)
        next(rows)
        return {capture: list(group) for capture, group in groupby(rows, lambda row: row[0]) if capture in ORIGINALS}


def kept_events(capture, *, is_channel_exact=True):
    """Parse an original with the table's filter, in the table's order. It spells the channel "Security" only."""
    events = []
    try:
        for event in read_events(EVENTS / "raw" / ORIGINALS[capture][0], "sysmon", group=capture):
            is_security = event.fields["Channel"] == "Security" or not is_channel_exact
            if event.source == "sysmon" or (event.source == "security" and is_security and event.event_code in KEPT):
                events.append(event)
    except CorruptFileError:
        assert capture == "otrf:covenant_persiststartup"
    return list(carry_parents(EventBatch.from_events(events)).rows())


def coarse_target(event):
    """Reduce an event's target as the table does."""
    target, kind = event.target, event.event_type
    if kind == "net":
        return f"{event.destination_address}:{event.destination_port}/{event.fields['Protocol']}"
    if kind in FILE_TYPES:
        stem, dot, extension = base_name(target).lower().rpartition(".")
        return dot + extension if stem else ""
    if kind in {"module_load", "proc_access", "remote_thread", "pipe_create", "pipe_connect"}:
        return base_name(target).lower()
    if kind in {"reg_key", "reg_set", "reg_rename"}:
        return target.split("\\")[0]
    if event.source == "security":
        return base_name(event.fields["ShareName"]).lower() if kind in {"share", "share_access"} else ""
    return "" if kind in NO_TARGET else target


@pytest.mark.slow
@pytest.mark.parametrize("capture", ORIGINALS)
def test_originals_equal_the_table_row_for_row(table, capture):
    events, rows = kept_events(capture), table[capture]
    assert len(events) == len(rows) == ORIGINALS[capture][1]
    counts = Counter((event.source, event.event_code, event.event_type) for event in events)
    assert counts == Counter((row[3], int(row[4]), row[5]) for row in rows)
    for event, row in zip(events, rows, strict=True):
        assert event.group == row[0]
        said = (event.host_id, event.source, str(event.event_code), event.event_type, event.comm, event.parent_comm)
        assert said == (row[1], row[3], row[4], row[5], row[6], row[7])
        assert coarse_target(event) == row[8]
        assert (event.command_line[:400] if event.event_type == "exec" else "") == row[9]


@pytest.mark.slow
def test_the_table_left_out_security_events_whose_channel_is_in_lower_case():
    extra = {
        capture: len(kept_events(capture, is_channel_exact=False)) - ORIGINALS[capture][1]
        for capture in ("otrf:covenant_persiststartup", "otrf:empire_powerdump_sam_access")
    }
    assert extra == {"otrf:covenant_persiststartup": 119, "otrf:empire_powerdump_sam_access": 257}


def test_the_damaged_original_delivers_all_rows_and_says_where_it_is_damaged():
    report = ParseReport()
    events = []
    with pytest.raises(CorruptFileError, match=r"covenant_persiststartup.tar.gz is damaged at byte 105,96\d") as caught:
        events.extend(read_events(EVENTS / "raw" / "covenant_persiststartup.tar.gz", report=report))
    assert len(events) == report.accepted == report.rows_read == 1_238
    assert caught.value.context["line"] == 1_238
    assert report.damage == str(caught.value)
