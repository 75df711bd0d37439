"""Syslog against real receivers, in the form of RFC 5424."""

import json
import re
import time
from dataclasses import replace

import pytest

from eguard.errors import ConfigError, NotificationError
from eguard.server.sinks import SyslogSink

NOW = 1_772_000_100.0
# PRI VERSION TIMESTAMP HOSTNAME APP-NAME PROCID MSGID STRUCTURED-DATA MSG, as RFC 5424's grammar has them.
FORM = re.compile(
    rb"<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z) ([!-~]{1,255}) ([!-~]{1,48}) ([!-~]{1,128}) ([!-~]{1,32})"
    rb' \[eguard@32473 id="([0-9a-f]{32})" kind="([^"]*)" severity="([a-z]+)"\] \xef\xbb\xbf([^\n]*)'
)


def until(condition):
    deadline = time.monotonic() + 10.0
    while not condition():
        assert time.monotonic() < deadline, "this did not come"
        time.sleep(0.005)


def parsed(record):
    found = FORM.fullmatch(record)
    assert found, record
    return found.groups()


@pytest.mark.parametrize(("severity", "priority"), [("critical", b"130"), ("warning", b"132"), ("info", b"134")])
def test_a_datagram_has_every_field(datagrams, message, severity, priority):
    SyslogSink(f"udp://127.0.0.1:{datagrams.getsockname()[1]}").send(replace(message, severity=severity), NOW)
    fields = parsed(datagrams.recv(65_536))
    assert fields[0] == priority  # local0 (16) times 8, and the severity
    assert fields[1] == b"2026-02-25T06:13:20.250000Z"
    assert (fields[3], fields[5], fields[6]) == (b"eguard", b"alert", message.notification_id.encode())
    assert fields[8] == severity.encode()
    title, _, detail = fields[9].partition(b" {")
    assert title == b"Seeds are not applied"
    assert json.loads(b"{" + detail) == dict(message.detail)


def test_what_does_not_fit_a_datagram_is_cut_at_a_characters_end(datagrams, message):
    long = replace(message, title="\u20ac" * 255, detail={"keys": ["x" * 100] * 100})
    SyslogSink(f"udp://127.0.0.1:{datagrams.getsockname()[1]}").send(long, NOW)
    record = datagrams.recv(65_536)
    assert 2045 <= len(record) <= 2048
    assert record.decode().count("\u20ac") == 255
    for size in range(250, 260):
        SyslogSink("udp://h").record(long, size).decode()


def test_a_name_with_control_bytes_forges_no_second_record(datagrams, message):
    forged = replace(message, title='a\n<130>1 - - - - - "]', kind='x"] y\n')
    SyslogSink(f"udp://127.0.0.1:{datagrams.getsockname()[1]}").send(forged, NOW)
    fields = parsed(datagrams.recv(65_536))
    assert fields[5] == b"x___y_"
    assert b"\n" not in fields[9]


def test_a_frame_over_tcp_is_preceded_by_its_length(stream_receiver, message):
    opened = stream_receiver()
    sink = SyslogSink(f"tcp://127.0.0.1:{opened.port}")
    sink.send(message, NOW)
    until(lambda: opened.streams)
    length, _, record = opened.streams[0].partition(b" ")
    assert int(length) == len(record)
    assert parsed(record)[6] == message.notification_id.encode()
    assert sink.address == f"tcp://127.0.0.1:{opened.port}"


def test_a_connection_that_is_broken_off_counts_as_not_delivered(stream_receiver, message):
    opened = stream_receiver(breaks=1)
    sink = SyslogSink(f"tcp://127.0.0.1:{opened.port}")
    with pytest.raises(NotificationError, match=r"reset|[Bb]roken pipe|not connected"):
        sink.send(message, NOW)
    sink.send(message, NOW)
    until(lambda: opened.streams)
    assert len(opened.streams) == 1


def test_over_tls_the_receivers_certificate_is_checked(stream_receiver, message, server_tls, client_tls):
    opened = stream_receiver(tls=server_tls)
    SyslogSink(f"tls://localhost:{opened.port}", authority=client_tls).send(message, NOW)
    until(lambda: opened.streams)
    length, _, record = opened.streams[0].partition(b" ")
    assert int(length) == len(record)
    parsed(record)
    with pytest.raises(NotificationError) as caught:
        SyslogSink(f"tls://localhost:{opened.port}").send(message, NOW)
    assert "EGUARD_NOTIFY_CA" in caught.value.remedy
    until(lambda: len(opened.streams) == 2)
    assert opened.streams[1] is None  # it never got as far as a message


def test_nobody_there_is_told_with_a_remedy(message, datagrams):
    sink = SyslogSink(f"tcp://127.0.0.1:{datagrams.getsockname()[1]}")
    with pytest.raises(NotificationError, match="refused") as caught:
        sink.send(message, NOW)
    assert "EGUARD_NOTIFY_SYSLOG" in caught.value.remedy
    assert not caught.value.is_about_message


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("udp://log.example", "udp://log.example:514"),
        ("tcp://log.example", "tcp://log.example:601"),
        ("tls://log.example", "tls://log.example:6514"),
        ("tls://[2001:db8::1]:99", "tls://[2001:db8::1]:99"),
    ],
)
def test_a_port_that_is_left_out_is_the_usual_one(url, address):
    assert SyslogSink(url).address == address


@pytest.mark.parametrize("url", ["log.example:514", "http://h", "udp://", "tcp://h/path", "tcp://h:0x1", "tls://u@h"])
def test_an_address_that_is_none_is_refused_at_the_start(url):
    with pytest.raises(ConfigError):
        SyslogSink(url)
