import json
from pathlib import Path

import pytest

from eguard.errors import ParseError, UnknownFormatError
from eguard.events import EventBatch
from eguard.events.parsers import FORMATS, ParseReport, detect_format, read_batches, read_events

SHIPPED = {
    "eguard-events": Path(__file__).parents[3] / "golden" / "recorded_events.jsonl",
    "sysmon": "endpoint-events/raw/cmd_sam_copy_esentutl.zip",
    "sysmon-csv": "endpoint-events/events.csv.gz",
    "defender": "endpoint-other-formats/mde_proc_cs1.csv.gz",
    "osquery": "endpoint-other-formats/osqueryd.results.log",
    "auditd": "endpoint-other-formats/linux_events.csv",
    "security-csv": "endpoint-other-formats/processes_on_host.csv",
    "zeek": "net-apt29-day1/SCRANTON_conn.log.gz",
    "ait": "alerts-ait/shaw_alerts.csv.xz",
    "messages-csv": "net-c2-sessions/asyncrat.messages.csv",
    "sigma-positives": "sigma-positives/events.ndjson.gz",
}


def test_every_format_is_shipped_and_recognised(raw):
    assert SHIPPED.keys() == FORMATS.keys()
    for name, path in SHIPPED.items():
        assert detect_format(raw / path) == name
        assert FORMATS[name].name == name


@pytest.mark.parametrize("name", [name for name in SHIPPED if FORMATS[name].read is not None])
def test_batches_hold_the_same_events(raw, name):
    path = raw / SHIPPED[name]
    report, again = ParseReport(), ParseReport()
    batches = list(read_batches(path, None, report, "g", batch_size=100))
    assert max(map(len, batches)) <= 100
    assert list(EventBatch.concatenate(batches).rows()) == list(read_events(path, None, again, "g"))
    assert report == again
    assert {group for batch in batches for group in batch.group} == {"g"}


def test_unknown_formats_and_files_are_named(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("nothing that anyone writes\n")
    with pytest.raises(UnknownFormatError, match=r"no parser claims .*nothing that anyone"):
        detect_format(path)
    with pytest.raises(UnknownFormatError, match="there is no format 'evtx'") as caught:
        list(read_events(path, "evtx"))
    assert "sysmon-csv" in caught.value.remedy
    path.write_text("")
    with pytest.raises(UnknownFormatError, match="is empty"):
        detect_format(path)
    with pytest.raises(ParseError, match="cannot read"):
        list(read_events(tmp_path / "absent"))


@pytest.mark.parametrize("name", list(FORMATS))
def test_an_empty_file_of_a_named_format_has_no_events(tmp_path, name):
    path = tmp_path / "empty"
    path.write_bytes(b"")
    report = ParseReport()
    assert list(read_events(path, name, report)) == []
    assert report.rows_read == 0


def test_a_file_whose_rows_are_all_bad_is_another_format(raw):
    with pytest.raises(UnknownFormatError, match="is not zeek: all of its"):
        list(read_events(raw / SHIPPED["messages-csv"], "zeek"))
    with pytest.raises(UnknownFormatError, match="is not osquery: all of its 364 rows"):
        list(read_events(raw / SHIPPED["security-csv"], "osquery"))


def test_one_report_may_count_several_files(tmp_path):
    report = ParseReport()
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text(json.dumps({"ts": 1, "id.orig_h": "h", "conn_state": "S0"}) + "\n")
    bad.write_text("{\n")
    list(read_events(good, "zeek", report))
    with pytest.raises(UnknownFormatError):
        list(read_events(bad, "zeek", report))
    assert (report.accepted, report.rejected.total()) == (1, 1)
