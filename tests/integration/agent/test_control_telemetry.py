"""Alerts on their way to a server on a real socket: in their order, redacted, and none forgotten too early."""

import contextlib
import gzip
import json

import pytest

from eguard.agent.control.redaction import AlertRedactor
from eguard.agent.control.telemetry import TelemetryUploader
from eguard.detection.alert import Alert
from eguard.errors import (
    ServerRefusalError,
    ServerUnavailableError,
)
from eguard.wire.telemetry import TelemetryAnswer, TelemetryRejection

TELEMETRY = "/endpoint/telemetry"
T0 = 1_700_000_000.0


def alert(number, **given):
    fields = {
        "alert_id": f"a{number}", "host_id": "h", "observed_at_unix": T0 + number, "event_class": "process_exec",
        "process_key": "mysql:bash", "confidence": "high", "response": "alert_only", "reasons": ("rule",),
        "command_line": "mysql -phunter2",
    }  # fmt: skip
    return Alert(**(fields | given))


@pytest.fixture
def telemetry(bench):
    return TelemetryUploader(bench.client, bench.desk, AlertRedactor(["vault"]), agent_id="h")


def sent_alerts(request):
    body = gzip.decompress(request.body) if "content-encoding" in request.headers else request.body
    return json.loads(body)["alerts"]


def test_alerts_go_in_their_order_redacted_and_are_forgotten_then(bench, telemetry, control_server):
    bench.outlet.give([alert(number) for number in range(450)])
    bench.outlet.give([alert(450, process_key="vault:bash")])
    telemetry.drain()
    requests = control_server.seen[TELEMETRY]
    assert [len(sent_alerts(request)) for request in requests] == [200, 200, 51]
    every = [each for request in requests for each in sent_alerts(request)]
    assert [each["alert_id"] for each in every] == [f"a{number}" for number in range(451)]
    assert {each["command_line"] for each in every} == {"mysql -p[redacted]", "[not collected]"}
    assert bench.outlet.counts().waiting == 0
    assert telemetry.describe()["accepted"] == 451


@pytest.mark.parametrize("answer", [(500, b""), b"{}", TelemetryAnswer(accepted=2, duplicate=0), (403, b"")])
def test_alerts_without_an_answer_wait(answer, bench, telemetry, control_server):
    bench.outlet.give([alert(number) for number in range(3)])
    control_server.answers[TELEMETRY] = lambda _: answer
    with pytest.raises((ServerUnavailableError, ServerRefusalError)):
        telemetry.drain()
    assert bench.outlet.counts().waiting == 3


def test_an_alert_that_spoils_its_batch_is_found_and_given_up(bench, telemetry, control_server):
    good = control_server.telemetry
    control_server.answers[TELEMETRY] = lambda request: (
        (400, b"") if any(each["alert_id"] == "a77" for each in sent_alerts(request)) else good(request)
    )
    bench.outlet.give([alert(number) for number in range(150)])
    telemetry.drain()
    assert bench.outlet.counts().waiting == 0
    assert len(control_server.alerts) == 149
    assert telemetry.describe()["refused"] == 1


def test_a_server_that_takes_no_alert_at_all_loses_only_a_few(bench, telemetry, control_server):
    control_server.answers[TELEMETRY] = lambda _: (422, b"")
    bench.outlet.give([alert(number) for number in range(100)])
    for _ in range(10):
        with contextlib.suppress(ServerRefusalError):
            telemetry.drain()
    assert bench.outlet.counts().waiting == 90


def test_refused_alerts_are_counted_and_the_others_are_not_held_up(bench, telemetry, control_server):
    rejection = TelemetryRejection(1, "event_id_taken", "another agent's")
    control_server.answers[TELEMETRY] = lambda _: TelemetryAnswer(accepted=1, duplicate=1, rejected=[rejection])
    bench.outlet.give([alert(number) for number in range(3)])
    telemetry.drain()
    assert bench.outlet.counts().waiting == 0
    assert telemetry.describe() == {"batches": 1, "accepted": 1, "duplicate": 1, "refused": 1}


def test_the_whitelist_marks_alerts_and_they_are_sent_all_the_same(bench, telemetry, control_server):
    from eguard.wire.policy import WhitelistEntry

    bench.desk.use_whitelist((WhitelistEntry(entry_id="w", kind="process_key", value="mysql:bash"),))
    bench.outlet.give([alert(1), alert(2, process_key="curl:bash")])
    telemetry.drain()
    assert [each["response"] for each in control_server.alerts.values()] == ["suppressed", "alert_only"]
    assert (bench.outlet.suppressed_total, dict(bench.outlet.by_confidence)) == (1, {"high": 1})
