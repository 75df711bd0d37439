import json

import pytest

from eguard.errors import CorruptFileError
from eguard.events import EventClass
from eguard.events.parsers import ParseReport, read_events

NAMES = ("ts", "id.orig_h", "id.orig_p", "id.resp_h", "id.resp_p", "orig_bytes", "resp_bytes", "duration")
HEAD = "#separator \\x09\n#path\tconn\n#fields\t" + "\t".join(NAMES) + "\n"
ROW = "1379288667.706265\t192.168.33.10\t1032\t54.245.228.191\t80\t601\t38393\t0.447460\n"


def test_tsv_connections(parse):
    (event,), _ = parse(HEAD + ROW, "zeek", group="site")
    assert (event.time_unix, event.host_id, event.group) == (1379288667.706265, "192.168.33.10", "site")
    assert (event.destination_address, event.destination_port) == ("54.245.228.191", 80)
    assert (event.sent_bytes, event.received_bytes, event.duration_seconds) == (601, 38393, 0.44746)
    assert (event.event_class, event.event_type, event.source) == (EventClass.NETWORK_CONNECT, "conn", "zeek")
    assert event.fields == {"id.orig_p": "1032"}


def test_unset_values_are_absent(parse):
    (event,), _ = parse(HEAD + "1.5\th\t-\t1.2.3.4\t80\t-\t(empty)\t-\n", "zeek")
    assert (event.sent_bytes, event.received_bytes, event.duration_seconds) == (0, 0, 0.0)
    assert event.fields == {}


@pytest.mark.parametrize("separator", ["_", "."])
def test_json_names_with_dots_and_underscores_are_the_same(parse, separator):
    row = {"@stream": "conn", "ts": 1588205199.82437, "uid": "C1", "proto": "udp", "orig_bytes": 39, "resp_bytes": 55}
    row |= {f"id{separator}orig_h": "10.0.1.6", f"id{separator}resp_h": "10.0.0.4", f"id{separator}resp_p": 53}
    (event,), _ = parse(json.dumps(row), "zeek")
    assert (event.host_id, event.destination_address, event.destination_port) == ("10.0.1.6", "10.0.0.4", 53)
    assert event.fields == {"uid": "C1", "proto": "udp"}


@pytest.mark.parametrize(
    ("record", "kind", "target"),
    [
        ({"query": "WWW.Example.org", "rtt": 0.25, "answers": ["a", "b"]}, "dns", "www.example.org"),
        ({"server_name": "mail.example.org", "cipher": "x"}, "ssl", "mail.example.org"),
        (
            {"method": "GET", "host": "example.org", "request_body_len": 7, "response_body_len": 9},
            "http",
            "example.org",
        ),
        ({"trans_depth": 1, "request_body_len": 7}, "http", ""),
        ({"conn_state": "SF"}, "conn", ""),
    ],
)
def test_the_kind_of_json_is_told_by_its_fields(parse, record, kind, target):
    (event,), _ = parse(json.dumps({"ts": 1.0, "id.orig_h": "h"} | record), "zeek")
    assert (event.event_type, event.target) == (kind, target)
    assert event.event_class == (EventClass.DNS_QUERY if kind == "dns" else EventClass.NETWORK_CONNECT)
    if kind == "dns":
        assert (event.duration_seconds, event.fields["answers"]) == (0.25, "a,b")
    if "response_body_len" in record:
        assert (event.sent_bytes, event.received_bytes) == (7, 9)


def test_times_may_be_iso(parse):
    (event,), _ = parse(json.dumps({"ts": "2020-08-01T05:52:11.5Z", "id.orig_h": "h", "conn_state": "S0"}), "zeek")
    assert event.time_unix == 1596261131.5


def test_bad_rows_are_counted_by_reason(parse):
    rows = [
        "1.0\th\t1",
        "x" + ROW,
        "nan" + ROW[ROW.index("\t") :],
        "1.0\t-\t1\tr\t80\t1\t1\t1",
        "1.0\th\t1\tr\t80\t-5\t1\t1",
        "1.0\th\t1\tr\t99999\t1\t1\t1",
        "1.0\th\t1\tr\t80\t1\t1\t-1",
        '{"ts":1.0,"id.orig_h":"h","conn_state"',
    ]
    events, report = parse(ROW + HEAD + "\n".join(rows) + "\n" + ROW, "zeek")
    assert len(events) == 1
    assert dict(report.rejected) == {
        "no_header": 1,
        "wrong_column_count": 1,
        "bad_time": 2,
        "no_host": 1,
        "bad_number": 3,
        "bad_json": 1,
    }


def test_files_joined_end_to_end_keep_their_own_columns(parse):
    second = "#path\tdns\n#fields\tts\tquery\tid.orig_h\n2.0\texample.org\th2\n"
    events, _ = parse(HEAD + ROW + "#close\t2014\n" + second, "zeek")
    assert [(event.event_type, event.host_id) for event in events] == [("conn", "192.168.33.10"), ("dns", "h2")]


def test_a_tab_at_the_end_of_rows_is_no_column(parse):
    events, report = parse((HEAD + ROW).replace("\n", "\t\n").replace("duration\t", "duration"), "zeek")
    assert len(events) == 1
    assert not report.rejected


def test_labels_of_a_labelled_log(raw):
    events = list(read_events(raw / "net-c2-sessions" / "remcos_ctu_sme11.conn.log.labeled.gz"))
    remcos = [event for event in events if "RemcosRAT" in event.label]
    assert len(events) == 766
    assert {(event.destination_address, event.destination_port) for event in remcos} == {("66.63.168.35", 5888)}
    assert len(remcos) == 719
    assert {event.label for event in events if "RemcosRAT" not in event.label} == {""}


@pytest.mark.parametrize(
    ("path", "accepted", "skipped", "kind"),
    [
        ("net-zeek-format-samples/json/conn.log", 50, 0, "conn"),
        ("net-zeek-format-samples/json/dns.log", 50, 0, "dns"),
        ("net-zeek-format-samples/json/http.log", 28, 0, "http"),
        ("net-zeek-format-samples/json/ssl.log", 50, 0, "ssl"),
        ("net-zeek-format-samples/tsv/conn.log", 360, 0, "conn"),
        ("net-zeek-format-samples/tsv/dns.log", 54, 0, "dns"),
        ("net-zeek-format-samples/tsv/http.log", 150, 0, "http"),
        ("net-zeek-format-samples/tsv/ssl.log", 37, 0, "ssl"),
        ("net-zeek-format-samples/tsv/http_empty.log", 0, 0, ""),
        ("net-zeek-format-samples/tsv/dhcp.log.gz", 0, 2, ""),
        ("net-apt29-day1/NASHUA_conn.log.gz", 479, 0, "conn"),
        ("net-apt29-day1/SCRANTON_conn.log.gz", 134, 0, "conn"),
        ("net-c2-sessions/slips_test_cc_1.conn.log.gz", 299, 0, "conn"),
        ("net-rita-http24h/http.log.gz", 27_204, 0, "http"),
        ("net-rita-3days/conn.2024-04-19.log.gz", 31_367, 0, "conn"),
    ],
)
def test_shipped_logs_are_read_whole(raw, path, accepted, skipped, kind):
    report = ParseReport()
    kinds = {event.event_type for event in read_events(raw / path, report=report)}
    assert (report.accepted, report.skipped.total(), report.rejected.total()) == (accepted, skipped, 0)
    assert kinds == ({kind} if kind else set())


def test_the_corrupt_log_delivers_its_rows(raw):
    report, events = ParseReport(), []
    with pytest.raises(CorruptFileError, match=r"http\.log\.corrupt\.gz is damaged at byte 8,491"):
        events.extend(read_events(raw / "net-zeek-format-samples/tsv/http.log.corrupt.gz", report=report))
    sound = list(read_events(raw / "net-zeek-format-samples/tsv/http.log"))
    assert events == sound[: len(events)]
    assert len(events) == 150


def test_the_ratio_of_the_beacon_is_where_it_was_described(raw):
    events = list(read_events(raw / "net-rita-3days/conn.2024-04-20.log.gz"))
    beacon = [event for event in events if (event.host_id, event.destination_port) == ("73.54.23.243", 80)]
    assert len(beacon) > 300
    assert {event.destination_address for event in beacon} == {"64.225.56.201"}
