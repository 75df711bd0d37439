import gzip
import json
from pathlib import Path

import pytest

from eguard.errors import GateFailedError, ParseError
from eguard.events.parsers import FORMATS
from eguard.mlops.ingest import IngestParams, IngestSource, run
from eguard.mlops.ingest_sources import SHIPPED_SOURCES
from eguard.mlops.tables import read_events_table
from eguard.mlops.workspace import Workspace

SHIPPED = Path(__file__).parents[3] / "data" / "raw"
CSV = "capture,host,ts,src,eid,event_type,image,parent,target,cmdline\n"
ZEEK = "#path\tconn\n#fields\tts\tuid\tid.orig_h\tid.resp_h\tid.resp_p\n"


@pytest.fixture
def workspace(tmp_path):
    (tmp_path / "data" / "raw").mkdir(parents=True)
    return Workspace(tmp_path)


def write(workspace, name, text):
    path = workspace.raw / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return name


def sysmon(code, time, guid, **fields):
    row = {"Channel": "Microsoft-Windows-Sysmon/Operational", "EventID": code, "Hostname": "H", "ProcessGuid": guid}
    return json.dumps(row | {"@timestamp": f"2020-01-01T00:00:{time:02}Z", "Image": "C:\\a.exe"} | fields) + "\n"


def source(path, name, table="events", **changes):
    return IngestSource(path=path, format=name, table=table, **changes)


def ingest(workspace, *sources, **changes):
    return run(IngestParams(sources=sources, **changes), seed=1, workspace=workspace)


def test_rows_are_sorted_by_group_and_time_and_ties_keep_their_order(workspace):
    rows = [f"b,h,2020-01-01T00:00:0{second},sysmon,1,exec,p{at}.exe,,," for at, second in enumerate((2, 1, 1))]
    rows += ["a,h,2020-01-01T00:00:09,sysmon,1,exec,p3.exe,,,"]
    report = ingest(workspace, source(write(workspace, "x.csv", CSV + "\n".join(rows)), "sysmon-csv"))
    batch = read_events_table(workspace.interim / "events.parquet")
    assert batch.group == ["a", "b", "b", "b"]
    assert batch.comm == ["p3.exe", "p1.exe", "p2.exe", "p0.exe"]
    assert report["tables"]["events"]["rows"] == 4
    assert report["tables"]["alerts"] == {"rows": 0}
    assert len(read_events_table(workspace.interim / "alerts.parquet")) == 0
    assert json.loads((workspace.reports / "ingest.json").read_text()) == report


def test_an_original_replaces_its_rows_in_the_derived_table(workspace):
    original = write(workspace, "o.json", sysmon(1, 5, "g") + sysmon(3, 6, "g"))
    rows = "cap,h,2020-01-01T00:00:05,sysmon,1,exec,a.exe,,,\nother,h,2020-01-01T00:00:05,sysmon,1,exec,b.exe,,,\n"
    derived = source(write(workspace, "x.csv", CSV + rows), "sysmon-csv")
    report = ingest(workspace, source(original, "sysmon", group="cap"), derived)
    batch = read_events_table(workspace.interim / "events.parquet")
    assert batch.group == ["cap", "cap", "other"]
    assert [fields is not None for fields in batch.fields] == [True, True, False]
    assert report["sources"][1]["superseded_by_original"] == 1
    assert report["tables"]["events"]["rows_with_fields"] == 2
    report = ingest(workspace, source(original, "sysmon", group="cap", enabled=False), derived)
    assert report["sources"][0]["superseded_by_original"] == 0
    assert report["tables"]["events"]["rows"] == 2


def test_parents_reach_events_that_an_unordered_log_puts_before_the_start(workspace):
    text = sysmon(7, 8, "g") + sysmon(1, 5, "g", ParentImage="C:\\P.exe") + sysmon(7, 4, "g")
    ingest(workspace, source(write(workspace, "o.json", text), "sysmon", group="cap"))
    assert read_events_table(workspace.interim / "events.parquet").parent_comm == ["", "p.exe", "p.exe"]


def test_repeated_records_are_dropped_where_records_have_an_identity(workspace):
    rows = "".join(f"1.5\tC{uid}\th\tr\t80\n" for uid in (1, 2, 1))
    first, second = (write(workspace, name, ZEEK + rows) for name in ("a.log", "b.log"))
    kept = ingest(workspace, source(first, "zeek", "connections", group="g", deduplicate=True))
    assert kept["sources"][0]["duplicates"] == 1
    assert kept["tables"]["connections"]["rows"] == 2
    both = [source(name, "zeek", "connections", group="g", deduplicate=True) for name in (first, second)]
    assert ingest(workspace, *both)["tables"]["connections"]["rows"] == 2
    plain = [source(name, "zeek", "connections", group="g") for name in (first, second)]
    assert ingest(workspace, *plain)["tables"]["connections"]["rows"] == 6


def test_most_rows_of_a_file(workspace):
    rows = "".join(f"{index}.5\tC{index}\th\tr\t80\n" for index in range(700))
    name = write(workspace, "a.log", ZEEK + rows)
    report = ingest(workspace, source(name, "zeek", "connections"), max_rows=600)
    assert report["tables"]["connections"]["rows"] == 600


def test_damage_fails_the_stage_after_writing_unless_it_is_known(workspace):
    rows = "".join(f"{index}.5\tC{index}\th\tr\t80\n" for index in range(5_000))
    name = write(workspace, "a.log.gz", gzip.compress((ZEEK + rows).encode())[:-4_000])
    with pytest.raises(GateFailedError, match="is damaged at byte") as caught:
        ingest(workspace, source(name, "zeek", "connections"))
    report = json.loads((workspace.reports / "ingest.json").read_text())
    assert caught.value.report == report
    assert not report["passed"]
    assert report["tables"]["connections"]["rows"] > 1_000
    assert len(read_events_table(workspace.interim / "connections.parquet")) > 1_000
    report = ingest(workspace, source(name, "zeek", "connections", is_known_damaged=True))
    assert report["passed"]
    assert "damaged" in report["sources"][0]["damage"]


def test_too_many_bad_rows_fail_the_stage(workspace):
    rows = "1.5\tC\th\tr\t80\n" * 95 + "x\tC\th\tr\t80\n" * 5
    name = write(workspace, "a.log", ZEEK + rows)
    with pytest.raises(GateFailedError, match=r"a\.log: 5 of 100 rows are bad"):
        ingest(workspace, source(name, "zeek", "connections"))
    report = ingest(workspace, source(name, "zeek", "connections"), max_rejected_fraction=0.05)
    assert report["sources"][0]["rejected"] == {"bad_time": 5}


def test_a_missing_file_is_named(workspace):
    with pytest.raises(ParseError, match=r"cannot read .*absent\.log"):
        ingest(workspace, source("absent.log", "zeek", "connections"))


def test_progress_names_each_source(workspace):
    name = write(workspace, "a.log", ZEEK + "1.5\tC\th\tr\t80\n")
    told = []
    params = IngestParams(sources=[source(name, "zeek", "connections")])
    run(params, seed=1, workspace=workspace, progress=lambda *step: told.append(step))
    assert told == [(name, 0, 1)]


def test_shipped_sources_exist_and_are_in_known_formats():
    # Recordings are made on the spot; none is shipped.
    assert {entry.format for entry in SHIPPED_SOURCES} == FORMATS.keys() - {"eguard-events"}
    assert [entry.path for entry in SHIPPED_SOURCES if not (SHIPPED / entry.path).is_file()] == []
    assert len({entry.path for entry in SHIPPED_SOURCES}) == len(SHIPPED_SOURCES) == 28


def test_twice_is_the_same_to_the_byte(workspace):
    (workspace.raw / "net-apt29-day1").symlink_to(SHIPPED / "net-apt29-day1")
    (workspace.raw / "endpoint-events").symlink_to(SHIPPED / "endpoint-events")
    sources = [
        entry
        for entry in SHIPPED_SOURCES
        if entry.path.startswith(("net-apt29", "endpoint-events/raw/c")) or entry.format == "auditd"
    ]
    sources = [entry for entry in sources if "other-formats" not in entry.path]
    written = []
    for _ in range(2):
        report = ingest(workspace, *sources)
        written.append([path.read_bytes() for path in sorted(workspace.interim.iterdir())] + [report])
    assert written[0] == written[1]
    assert report["tables"]["events"]["rows"] == 913 + 1_238 + 1_258 + 50


@pytest.mark.slow
def test_the_shipped_data_whole(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw").symlink_to(SHIPPED)
    report = run(IngestParams(), seed=1, workspace=Workspace(tmp_path))
    tables = report["tables"]
    assert report["passed"]
    assert [entry["path"] for entry in report["sources"] if entry["damage"]] == [
        "endpoint-events/raw/covenant_persiststartup.tar.gz"
    ]
    assert sum(sum(entry["rejected"].values()) for entry in report["sources"]) == 0
    assert tables["alerts"]["rows"] == 1_314_157
    assert (tables["alerts"]["hosts"], tables["alerts"]["groups"], tables["alerts"]["rules"]) == (58, 5, 71)
    # 483,543 rows of the derived table, of which 41,991 come from five originals with 686 rows more.
    assert tables["events"]["rows_by_source"]["sysmon"] == 440_944
    superseded = sum(entry["superseded_by_original"] for entry in report["sources"])
    assert superseded == 41_991
    assert tables["events"]["rows_by_source"]["sigma"] == tables["events"]["labelled_rows"] == 153
    assert tables["connections"]["rows"] == 105_918 + 27_204 + 479 + 134 + 766 + 299 + 39 + 26
    assert tables["connections"]["labelled_rows"] == 719
