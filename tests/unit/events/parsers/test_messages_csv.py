import numpy as np

from eguard.events import EventClass
from eguard.events.parsers import detect_format, read_events

HEADER = "ts,orig_h,resp_h,resp_p,proto,orig_bytes\n"


def test_a_message_is_a_connection(parse):
    (event,), _ = parse(HEADER + "1709051041.039950,192.168.100.124,181.131.218.39,4041,tcp,431\n", "messages-csv")
    assert (event.time_unix, event.host_id, event.sent_bytes) == (1709051041.03995, "192.168.100.124", 431)
    assert (event.destination_address, event.destination_port) == ("181.131.218.39", 4041)
    assert (event.event_class, event.event_type) == (EventClass.NETWORK_CONNECT, "message")


def test_bad_rows_are_counted_by_reason(parse):
    rows = ["1,h,r,80,tcp,5", "x,h,r,80,tcp,5", "1,,r,80,tcp,5", "1,h,r,99999,tcp,5", "1,h,r,80,tcp,-5", "1,h"]
    events, report = parse(HEADER + "\n".join(rows), "messages-csv")
    assert len(events) == 1
    assert dict(report.rejected) == {"bad_time": 1, "no_host": 1, "bad_number": 2, "wrong_column_count": 1}


def test_the_shipped_sessions(raw):
    manx = list(read_events(raw / "net-c2-sessions" / "caldera_manx_tcp.messages.csv"))
    assert detect_format(raw / "net-c2-sessions" / "asyncrat.messages.csv") == "messages-csv"
    assert len(list(read_events(raw / "net-c2-sessions" / "asyncrat.messages.csv"))) == 39
    assert len(manx) == 26
    assert round(float(np.median(np.diff([event.time_unix for event in manx])))) == 20
