"""What a parser delivers must not depend on the labels that stand beside an event in a data set."""

from pathlib import Path

import msgspec

from eguard.events.parsers import read_events

HEADER = "time,name,ip,host,short,time_label,event_label\n"
ALERT = "1642213952,Wazuh: ClamAV database update,172.17.131.81,mail,W-Sys-Cav,{},{}\n"


def read_one(folder: Path, time_label: str, event_label: str):
    path = folder / "fox_alerts.csv"
    path.write_text(HEADER + ALERT.format(time_label, event_label))
    (event,) = read_events(path, "ait")
    return event


def test_an_alerts_label_reaches_no_other_field(tmp_path):
    benign = read_one(tmp_path, "false_positive", "-")
    attack = read_one(tmp_path, "dnsteal", "dnsteal")
    assert (benign.label, attack.label) == ("", "dnsteal")
    assert msgspec.structs.replace(attack, label="") == benign


def test_the_size_of_an_alert_is_that_of_its_row_without_labels(tmp_path):
    event = read_one(tmp_path, "service_scans", "-")
    assert event.event_bytes == len("1642213952,Wazuh: ClamAV database update,172.17.131.81,mail,W-Sys-Cav")


FIELDS = "ts\tid.orig_h\tid.orig_p\tid.resp_h\tid.resp_p\tproto\tlabel\tdetailedlabel"
ZEEK = f"#separator \\x09\n#path\tconn\n#fields\t{FIELDS}\n"
CONNECTION = "1677024003.7\t10.0.0.1\t1024\t10.0.0.2\t5888\ttcp\t{}\t{}\n"


def test_a_labelled_connections_label_reaches_no_other_field(tmp_path):
    events = []
    for label in (("Benign", "-"), ("Malicious", "From_malicious-To_malicious-RAT")):
        path = tmp_path / "conn.log.labeled"
        path.write_text(ZEEK + CONNECTION.format(*label))
        events += read_events(path, "zeek")
    benign, attack = events
    assert (benign.label, attack.label) == ("", "From_malicious-To_malicious-RAT")
    assert msgspec.structs.replace(attack, label="") == benign
