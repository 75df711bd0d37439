"""The webhook against a real receiver: what is posted, how it is signed, and every way in which it does not arrive."""

import hashlib
import hmac
import json
import socket
import traceback

import pytest

from eguard.errors import ConfigError, NotificationError
from eguard.server.sinks.webhook import WebhookSink

NOW = 1_772_000_100.9
SECRET = "canary-webhook-secret"


def failure(sink, message):
    with pytest.raises(NotificationError) as caught:
        sink.send(message, NOW)
    return caught.value


def test_a_message_is_posted_whole_and_signed(receiver, message):
    opened = receiver()
    WebhookSink(f"http://127.0.0.1:{opened.port}/hook?x=1", SECRET).send(message, NOW)
    ((path, headers, body),) = opened.requests
    assert path == "/hook?x=1"
    assert json.loads(body) == {
        "id": message.notification_id,
        "kind": "alert",
        "severity": "warning",
        "title": "Seeds are not applied",
        "detail": {"applied": 0, "why": "\u00e4\n<x>"},
        "at": 1_772_000_000.25,
        "server": socket.gethostname(),
    }
    assert headers["X-Eguard-Timestamp"] == "1772000100"
    assert headers["X-Eguard-Notification-Id"] == message.notification_id
    expected = hmac.new(SECRET.encode(), b"1772000100." + body, hashlib.sha256).hexdigest()
    assert headers["X-Eguard-Signature"] == f"sha256={expected}"


def test_without_a_secret_nothing_is_signed(receiver, message):
    opened = receiver()
    WebhookSink(f"http://127.0.0.1:{opened.port}/").send(message, NOW)
    assert "X-Eguard-Signature" not in opened.requests[0][1]


def test_over_tls_the_receivers_certificate_is_checked(receiver, message, server_tls, client_tls):
    opened = receiver(tls=server_tls)
    url = f"https://localhost:{opened.port}/"
    WebhookSink(url, SECRET, authority=client_tls).send(message, NOW)
    error = failure(WebhookSink(url, SECRET), message)
    assert "EGUARD_NOTIFY_CA" in error.remedy
    assert len(opened.requests) == 1


@pytest.mark.parametrize(
    ("status", "is_about_message"),
    [(400, True), (413, True), (422, True), (401, False), (404, False), (429, False), (500, False), (503, False)],
)
def test_a_refusal_says_whether_other_messages_may_arrive(receiver, message, status, is_about_message):
    error = failure(WebhookSink(f"http://127.0.0.1:{receiver(status).port}/"), message)
    assert error.is_about_message is is_about_message
    assert str(status) in error.message
    assert error.remedy


def test_a_redirect_is_not_followed(receiver, message):
    target = receiver()
    opened = receiver(307, headers={"Location": f"http://127.0.0.1:{target.port}/"})
    error = failure(WebhookSink(f"http://127.0.0.1:{opened.port}/"), message)
    assert "redirects are not followed" in error.message
    assert target.requests == []


@pytest.mark.parametrize(
    ("header", "seconds"), [("7", 7.0), ("999999", 3600.0), ("-1", None), ("nan", None), ("Fri, 13 Nov", None)]
)
def test_a_receivers_wish_to_wait_is_kept_up_to_an_hour(receiver, message, header, seconds):
    opened = receiver(503, headers={"Retry-After": header})
    assert failure(WebhookSink(f"http://127.0.0.1:{opened.port}/"), message).retry_seconds == seconds


def test_nobody_there_is_told_with_a_remedy_and_without_the_urls_secret_path(message, datagrams):
    free = datagrams.getsockname()[1]  # bound on UDP; nothing of ours listens on its TCP twin
    sink = WebhookSink(f"http://127.0.0.1:{free}/services/canary-path-token", SECRET)
    error = failure(sink, message)
    told = "".join(traceback.format_exception(error)) + error.remedy + sink.address
    assert "canary" not in told
    assert error.remedy


def test_a_receiver_that_says_nothing_is_left(monkeypatch, message):
    monkeypatch.setattr("eguard.server.sinks.webhook.ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        error = failure(WebhookSink(f"http://127.0.0.1:{silent.getsockname()[1]}/"), message)
    assert "no answer in time" in error.message


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/x",
        "http://127.0.0.1.example/x",
        "ftp://127.0.0.1/x",
        "https:///x",
        "hooks.example",
        "https://h:99999/",
        "https://h/\u00e4",
        "https://h/\r\nX: y",
    ],
)
def test_a_url_that_is_not_safe_is_refused_at_the_start(url):
    with pytest.raises(ConfigError) as caught:
        WebhookSink(url)
    assert "EGUARD_NOTIFY_WEBHOOK_URL" in caught.value.remedy


def test_http_beyond_this_machine_can_be_allowed():
    assert WebhookSink("http://hooks.example:8080/x", allows_http=True).address == "http://hooks.example:8080"
