import csv
import lzma
from collections import Counter

import pytest

from eguard.events import EventClass
from eguard.events.parsers import ParseReport, read_batches
from eguard.events.parsers.ait_alerts import attack_step

HEADER = "time,name,ip,host,short,time_label,event_label\n"


def test_columns_equal_a_plain_reading_row_by_row(raw):
    path = raw / "alerts-ait" / "russellmitchell_alerts.csv.xz"
    with lzma.open(path, "rt", newline="") as file:
        rows = list(csv.DictReader(file))
    (batch,) = read_batches(path, "ait")
    assert len(batch) == len(rows) == 45_544
    steps = [
        [row[name] for name in ("event_label", "time_label") if row[name] not in {"-", "false_positive"}]
        for row in rows
    ]
    assert batch.time_unix.tolist() == [float(row["time"]) for row in rows]
    assert batch.host_id == [f"russellmitchell/{row['host']}" for row in rows]
    assert batch.rule_id == [row["short"] for row in rows]
    assert batch.target == [row["name"] for row in rows]
    assert batch.detector == [{"W": "wazuh", "S": "suricata", "A": "aminer"}[row["short"][0]] for row in rows]
    assert batch.label == [labels[0] if labels else "" for labels in steps]
    # Without the two label columns, or a size would tell the label.
    assert batch.event_bytes.tolist() == [len(",".join(list(row.values())[:5])) for row in rows]
    assert set(batch.group) == {"russellmitchell"}
    assert set(batch.event_class.tolist()) == {EventClass.ALERT}
    assert {*batch.event_type, *batch.source} == {"alert", "ait"}


@pytest.mark.slow
def test_shipped_networks_have_the_published_sizes(raw):
    sizes = {}
    for path in sorted((raw / "alerts-ait").glob("*.xz")):
        report, hosts, labels = ParseReport(), set(), Counter()
        for batch in read_batches(path, report=report):
            hosts.update(batch.host_id)
            labels.update(batch.label)
            network = batch.group[0]
        sizes[network] = (report.accepted, len(hosts), labels["dnsteal"])
        assert not report.rejected
    assert {name: size[:2] for name, size in sizes.items()} == {
        "fox": (473_104, 13),
        "harrison": (593_948, 11),
        "russellmitchell": (45_544, 11),
        "santos": (130_779, 11),
        "shaw": (70_782, 12),
    }
    # By the windows of time alone these would be 3,239 and 832: either label counts.
    assert sizes["harrison"][2] > 46_482
    assert sizes["santos"][2] > 25_709


@pytest.mark.parametrize(
    ("time_label", "event_label", "step"),
    [
        ("false_positive", "-", ""),
        ("dirb", "-", "dirb"),
        ("false_positive", "dnsteal", "dnsteal"),
        ("dirb", "wpscan", "wpscan"),
        ("-", "false_positive", ""),
        ("", "", ""),
    ],
)
def test_either_label_makes_an_attack_and_the_events_goes_first(time_label, event_label, step):
    assert attack_step(time_label, event_label) == step


def test_bad_rows_are_counted_by_reason(parse):
    rows = [
        "1642213952,Wazuh: x,1.2.3.4,mail,W-Sys,false_positive,-",
        'nan,"Wazuh: x",1.2.3.4,mail,W-Sys,false_positive,-',
        "soon,Wazuh: x,1.2.3.4,mail,W-Sys,false_positive,-",
        "1642213952,Wazuh: x,1.2.3.4,,W-Sys,false_positive,-",
        "1642213952,Wazuh: x,1.2.3.4,mail,,false_positive,-",
        "1642213952,Wazuh: x",
        "1642213952",
        '1642213953.5,"a, b",1.2.3.4,mail,X-Odd,dirb,-',
    ]
    events, report = parse(HEADER + "\n".join(rows), "ait", file_name="fox_alerts.csv")
    assert dict(report.rejected) == {"bad_time": 2, "no_host": 1, "no_rule": 1, "wrong_column_count": 2}
    assert [(event.host_id, event.target, event.detector, event.label) for event in events] == [
        ("fox/mail", "Wazuh: x", "wazuh", ""),
        ("fox/mail", "a, b", "", "dirb"),
    ]
    assert parse(HEADER + rows[0], "ait", group="site")[0][0].host_id == "site/mail"
