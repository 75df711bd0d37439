"""Uploads beside a server on a real socket that takes, refuses and forgets."""

import pytest
import structlog

from eguard.errors import (
    BaselineStoreError,
    ServerRefusalError,
    ServerUnavailableError,
)
from eguard.wire.baseline import RowRejection, UpsertResult

BATCH = "/endpoint/baseline/batch"


def names(request):
    return [row["process_key"].split(":")[0] for row in request.json["baselines"]]


def test_batches_have_128_profiles_and_the_oldest_change_goes_first(bench, control_server):
    bench.learn(*range(200, 300))
    bench.learn(*range(200))
    bench.uploader().upload()
    sent = control_server.seen[BATCH]
    assert [len(names(request)) for request in sent] == [128, 128, 44]
    assert set(names(sent[0])[:100]) == {f"tool{number}" for number in range(200, 300)}
    assert {request.headers["x-eguard-incarnation"] for request in sent} == {bench.keeper.store.incarnation}
    assert bench.dirty() == []
    assert bench.keeper.store.facts.uploaded_sequence == bench.keeper.table.sequence


def test_a_body_never_exceeds_its_cap_and_a_profile_that_does_holds_up_no_other(bench, control_server):
    bench.learn(*range(20))
    bench.learn(1, comm="x" * 300)
    with structlog.testing.capture_logs() as logs:
        uploader = bench.uploader(max_bytes=900)
        uploader.upload()
        uploader.upload()
    assert max(len(request.body) for request in control_server.seen[BATCH]) <= 900
    assert len(control_server.rows) == 20
    assert bench.dirty() == ["x" * 300 + "1"]
    assert uploader.totals.oversized == 1
    assert [line["event"] for line in logs].count("baseline profile is too large to upload") == 1


def test_what_is_refused_stays_dirty_and_comes_again_when_it_has_changed(bench, control_server):
    def refuse_one(request):
        index = names(request).index("tool1") if "tool1" in names(request) else None
        rejected = [] if index is None else [RowRejection(index, "out_of_range", "no")]
        return UpsertResult(len(names(request)) - len(rejected), 0, 0, rejected)

    control_server.answers[BATCH] = refuse_one
    bench.learn(*range(3))
    uploader = bench.uploader()
    uploader.upload()
    uploader.upload()
    assert bench.dirty() == ["tool1"]
    assert control_server.count(BATCH) == 1  # not sent again as it was
    assert uploader.totals.rejected == 1
    bench.learn(1)
    uploader.upload()
    assert names(control_server.seen[BATCH][-1]) == ["tool1"]


def test_a_number_that_the_server_knows_for_other_content_is_replaced_by_a_higher_one(bench, control_server):
    good = control_server.batch
    control_server.answers[BATCH] = lambda request: (
        UpsertResult(1, 0, 0, [RowRejection(0, "seq_reused", "other content")])
        if control_server.count(BATCH) == 0
        else good(request)
    )
    bench.learn(0, 1)
    bench.uploader().upload()
    first, second = control_server.seen[BATCH]
    assert names(second) == [names(first)[0]]
    assert second.json["baselines"][0]["seq"] > first.json["baselines"][0]["seq"]
    assert bench.dirty() == []


def test_a_server_that_reuses_numbers_for_ever_is_no_endless_loop(bench, control_server):
    control_server.answers[BATCH] = lambda _: UpsertResult(0, 0, 0, [RowRejection(0, "seq_reused", "other content")])
    bench.learn(0)
    bench.uploader().upload()
    assert control_server.count(BATCH) == 2
    assert bench.dirty() == ["tool0"]


def test_a_server_that_takes_less_gets_less(bench, control_server):
    good = control_server.batch
    control_server.answers[BATCH] = lambda request: (
        good(request)
        if len(names(request)) <= 10
        else (413, {"message": "", "code": "payload_too_large", "status": 413})
    )
    bench.learn(*range(40))
    bench.uploader().upload()
    assert [len(names(request)) for request in control_server.seen[BATCH]] == [40, 20, 10, 10, 10, 10]
    assert bench.dirty() == []


@pytest.mark.parametrize("code", ["baseline_upload_disabled", "not_in_canary"])
def test_a_servers_no_ends_the_upload_until_its_next_time(code, bench, control_server):
    control_server.answers[BATCH] = lambda _: (403, {"message": "no", "code": code, "status": 403})
    bench.learn(*range(200))
    uploader = bench.uploader()
    with pytest.raises(ServerRefusalError):
        uploader.upload()
    assert control_server.count(BATCH) == 1
    assert bench.policies.describe()["upload"]["decided_by"] == "server"
    assert not uploader.is_backlog()
    assert len(bench.dirty()) == 200


@pytest.mark.parametrize("answer", [
    UpsertResult(5, 0, 0, []), UpsertResult(0, 0, 0, []), UpsertResult(2, 0, 0, [RowRejection(7, "x", "y")]),
    (500, b""), b"{}", b"garbage",
])  # fmt: skip
def test_an_answer_that_does_not_account_for_the_rows_acknowledges_none(answer, bench, control_server):
    control_server.answers[BATCH] = lambda _: answer
    bench.learn(0, 1, 2)
    with pytest.raises(ServerUnavailableError):
        bench.uploader().upload()
    assert len(bench.dirty()) == 3


def test_a_switch_that_falls_in_the_middle_ends_the_upload(bench, control_server, signer):
    good = control_server.batch

    def switch(request):
        bench.policies.take(signer.sign(2, {"baseline_upload_enabled": False}))
        return good(request)

    control_server.answers[BATCH] = switch
    bench.learn(*range(300))
    bench.uploader().upload()
    assert control_server.count(BATCH) == 1
    assert len(bench.dirty()) == 300 - 128


def test_what_changes_while_it_is_sent_stays_dirty(bench, control_server):
    good = control_server.batch

    def meanwhile(request):
        if control_server.count(BATCH) == 0:
            bench.learn(0)
        return good(request)

    control_server.answers[BATCH] = meanwhile
    bench.learn(0, 1)
    uploader = bench.uploader()
    uploader.upload()
    assert control_server.count(BATCH) == 1
    assert bench.dirty() == ["tool0"]
    uploader.upload()
    assert control_server.rows["tool0:cron"]["sample_count"] == 40


def test_nothing_is_sent_that_is_not_on_the_disk(bench, control_server):
    bench.learn(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench.keeper.store._journal, "sync", lambda: (_ for _ in ()).throw(OSError(5, "I/O error")))
        with pytest.raises(BaselineStoreError):
            bench.uploader().upload()
    assert control_server.count(BATCH) == 0
    assert not bench.keeper.is_working


def test_a_backlog_does_not_wait_for_its_interval_and_not_for_nothing(bench):
    uploader = bench.uploader()
    bench.learn(*range(127))
    assert not uploader.is_backlog()
    bench.learn(127)
    assert uploader.is_backlog()
    uploader.upload()
    bench.learn(*range(128))
    assert not uploader.is_backlog()  # a minute has not passed
