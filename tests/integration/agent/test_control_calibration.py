"""Calibration samples on their way to a server on a real socket: bounded, whole, and sent again until answered for."""

import gzip
import json

import numpy as np
import pytest

from eguard.agent.calibration import CalibrationKeeper, KeptEvent
from eguard.agent.control.calibration import BATCH_SAMPLES, CalibrationUploader
from eguard.detection.feature_contract import N_FEATURES, contract_sha256
from eguard.errors import ServerRefusalError, ServerUnavailableError
from eguard.wire.bodies import decode_body
from eguard.wire.telemetry import MAX_TELEMETRY_BYTES, CalibrationBatch, TelemetryAnswer, TelemetryRejection

PATH = "/endpoint/calibration"
T0 = 1_700_000_000.0


def event(number, **given):
    fields = {
        "sample_id": f"s{number:04d}", "event_class": number % 9 - 1, "signal": "bash:open", "observed_at_unix": T0,
        "features": np.full(N_FEATURES, number / 1000.0).tobytes(), "score": 0.25, "model_digest": "a" * 64,
    }  # fmt: skip
    return KeptEvent(**(fields | given))


@pytest.fixture
def keeper(bench, tmp_path):
    made = CalibrationKeeper(tmp_path / "calibration.bin", 16, np.random.default_rng(0))
    bench.runtime.calibration = made
    return made


@pytest.fixture
def uploader(bench):
    return CalibrationUploader(bench.client, bench.desk, agent_id="h")


def keep(keeper, *events):
    keeper._kept.extend(events)


def batch_of(request):
    return decode_body(gzip.decompress(request.body), CalibrationBatch, MAX_TELEMETRY_BYTES)


def take_all(request):
    return TelemetryAnswer(accepted=len(batch_of(request).samples), duplicate=0)


def test_samples_arrive_as_they_were_drawn_and_stay_for_recalibration(keeper, uploader, control_server):
    control_server.answers[PATH] = take_all
    keep(keeper, event(0), event(1, event_id="alert-1"), event(2, score=None, model_digest=""))
    uploader.upload()
    uploader.upload()
    (request,) = control_server.seen[PATH]
    batch = batch_of(request)
    assert (request.certificate, batch.agent_id) == ("h", "h")
    first, second, third = batch.samples
    assert (first.event_class, second.event_class) == ("uncounted", "process_exec")
    assert (second.features, second.contract_hash) == ([0.001] * N_FEATURES, contract_sha256())
    assert (second.event_id, second.score, second.model_digest) == ("alert-1", 0.25, "a" * 64)
    assert (third.score, third.model_digest, third.event_id) == (None, None, None)
    assert (len(keeper), keeper.waiting(9)) == (3, [])
    assert uploader.describe() == {"batches": 1, "accepted": 3, "duplicate": 0, "refused": 0}


def test_a_backlog_goes_in_bodies_of_bounded_size(keeper, uploader, control_server):
    control_server.answers[PATH] = take_all
    keep(keeper, *(event(number) for number in range(500)))
    uploader.upload()
    sizes = [len(batch_of(request).samples) for request in control_server.seen[PATH]]
    assert sizes == [BATCH_SAMPLES, 500 - BATCH_SAMPLES]
    assert all(len(gzip.decompress(request.body)) < 1_000_000 for request in control_server.seen[PATH])


@pytest.mark.parametrize(
    "answer", [(500, b""), b"{}", TelemetryAnswer(accepted=2, duplicate=0), (403, b""), (404, b"")]
)
def test_samples_without_an_answer_are_sent_again_under_their_names(keeper, uploader, control_server, answer):
    keep(keeper, event(0), event(1), event(2))
    control_server.answers[PATH] = lambda _: answer
    with pytest.raises((ServerUnavailableError, ServerRefusalError)):
        uploader.upload()
    assert len(keeper.waiting(9)) == 3
    control_server.answers[PATH] = take_all
    uploader.upload()
    first, second = (batch_of(request) for request in control_server.seen[PATH])
    assert first == second
    assert keeper.waiting(9) == []


@pytest.mark.parametrize("status", [400, 413, 422])
def test_samples_that_no_server_takes_are_given_up_and_counted(keeper, uploader, control_server, status):
    keep(keeper, event(0), event(1))
    control_server.answers[PATH] = (status, json.dumps({"message": "no", "code": "no", "status": status}).encode())
    uploader.upload()
    assert keeper.waiting(9) == []
    assert uploader.describe()["refused"] == 2


def test_a_rejected_sample_is_not_sent_again(keeper, uploader, control_server):
    keep(keeper, event(0), event(1))
    rejection = TelemetryRejection(1, "too_many", "enough")
    control_server.answers[PATH] = TelemetryAnswer(accepted=1, duplicate=0, rejected=[rejection])
    uploader.upload()
    assert keeper.waiting(9) == []
    assert uploader.describe() == {"batches": 1, "accepted": 1, "duplicate": 0, "refused": 1}
