"""Uploads, seeds, alerts and commands, each beside a server on a real socket that takes, refuses and forgets."""

import contextlib
import gzip
import json
import threading
import time
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import structlog

from eguard.agent.buffer import AlertBuffer
from eguard.agent.control.client import ControlClient
from eguard.agent.control.commands import CommandRunner
from eguard.agent.control.desk import RuntimeDesk
from eguard.agent.control.exchange import Exchange
from eguard.agent.control.policies import PolicyKeeper
from eguard.agent.control.redaction import AlertRedactor
from eguard.agent.control.seeds import SeedFetcher
from eguard.agent.control.telemetry import TelemetryUploader
from eguard.agent.control.uploads import BaselineUploader
from eguard.agent.isolation import Inspection, Outcome
from eguard.agent.learning import BaselineKeeper
from eguard.agent.outlets import AlertOutlet
from eguard.baseline.lifecycle import BaselineMode
from eguard.clock import SystemClock
from eguard.detection.alert import Alert
from eguard.errors import (
    BaselineStoreError,
    IsolationUnavailableError,
    ServerRefusalError,
    ServerUnavailableError,
)
from eguard.policy import StartupControls
from eguard.settings import AgentSettings
from eguard.wire.baseline import RowRejection, UpsertResult
from eguard.wire.control import Command
from eguard.wire.fleet import FleetPage, FleetRow
from eguard.wire.telemetry import TelemetryAnswer, TelemetryRejection

BATCH, FLEET, TELEMETRY = "/endpoint/baseline/batch", "/endpoint/baseline/fleet", "/endpoint/telemetry"
T0 = 1_700_000_000.0


class Bench:
    """An agent's real store and buffer, served by a thread as the runtime does, and its control plane's parts."""

    def __init__(self, folder, server, tls_files, signer):
        self.settings = AgentSettings(agent_id="h", state_path=folder)
        folder.mkdir()
        self.keeper = BaselineKeeper(self.settings, SystemClock())
        self.outlet = AlertOutlet(AlertBuffer(folder / "alerts.db"), lambda _: None)
        self.exchange = Exchange()
        runtime = SimpleNamespace(baseline=self.keeper, outlet=self.outlet)
        self.desk = RuntimeDesk(runtime, self.exchange)
        self.client = ControlClient(server.url, tls_files)
        self.policies = PolicyKeeper(folder / "control", "h", StartupControls(), [signer.public])
        self.policies.take(signer.sign(1))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while not self._stop.is_set():
            self.exchange.serve()
            time.sleep(0.0005)

    def learn(self, *numbers, events=20, comm="tool"):
        """Learn events of some process keys, on the runtime's thread."""
        keys = [(f"{comm}{number}", "cron") for number in numbers for _ in range(events)]
        times = T0 + np.arange(len(keys), dtype=float)

        def learn():
            self.keeper.store.learn(keys, np.arange(len(keys)) % 3, times, np.zeros(len(keys), np.int64))

        self.exchange.ask(learn)

    def dirty(self):
        table = self.keeper.table
        return sorted(table.index.key_of(slot)[0] for slot in table.dirty_slots().tolist())

    def uploader(self, **given):
        fields = {"agent_id": "h", "max_bytes": 1_000_000}
        return BaselineUploader(self.client, self.desk, self.policies, **(fields | given))

    def close(self):
        self._stop.set()
        self._thread.join()
        self.exchange.close()
        self.client.close()
        self.keeper.close()
        self.outlet.close()


@pytest.fixture
def bench(control_server, tls_files, signer, tmp_path):
    made = Bench(tmp_path / "state", control_server, tls_files, signer)
    yield made
    made.close()


def names(request):
    return [row["process_key"].split(":")[0] for row in request.json["baselines"]]


# Uploads


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


# Seeds


def fleet_row(number, share=0.5):
    return FleetRow(
        process_key=f"tool{number:04}:cron", median_distribution={"file_open": share, "dns_query": 1.0 - share},
        agent_count=3, stddev_kl=0.0, tolerated_faults=1, source="aggregate",
    )  # fmt: skip


def pages(generation, n=1200, **given):
    """Answer pages of one generation, as the server does."""

    def page(request):
        limit, cursor = int(request.query["limit"]), request.query.get("cursor", "")
        rows = [row for row in map(fleet_row, range(n)) if row.process_key > cursor][: limit + 1]
        more = len(rows) > limit
        fields = {
            "seeded": n, "generation": generation, "seed_enabled": True, "fleet_baselines": rows[:limit],
            "next_cursor": rows[limit - 1].process_key if more else None,
        }  # fmt: skip
        return FleetPage(**(fields | given))

    return page


@pytest.fixture
def seeds(bench):
    return SeedFetcher(bench.client, bench.desk, bench.policies, agent_id="h")


def held(bench):
    return bench.keeper.table.seeds.generation, len(bench.keeper.table.seeds)


def test_a_generation_is_taken_over_its_pages_and_not_twice(bench, seeds, control_server):
    control_server.answers[FLEET] = pages(4)
    seeds.fetch()
    assert held(bench) == (4, 1200)
    assert [request.query["limit"] for request in control_server.seen[FLEET]] == ["512"] * 3
    seeds.fetch()
    assert control_server.count(FLEET) == 4  # one page says that there is nothing new


def test_a_generation_that_ends_between_two_pages_is_begun_again(bench, seeds, control_server):
    old, new = pages(4), pages(5, n=600)

    def page(request):
        return old(request) if control_server.count(FLEET) < 2 else new(request)

    control_server.answers[FLEET] = page
    seeds.fetch()
    assert held(bench) == (5, 600)


def test_generations_that_never_stay_change_nothing(bench, seeds, control_server):
    def page(request):
        return pages(control_server.count(FLEET) + 1)(request)

    control_server.answers[FLEET] = page
    with pytest.raises(ServerUnavailableError):
        seeds.fetch()
    assert held(bench) == (0, 0)


@pytest.mark.parametrize("kind", ["endless", "stands still", "bad row", "half", "500 on page 2"])
def test_a_generation_that_cannot_be_read_whole_changes_nothing(kind, bench, seeds, control_server):
    control_server.answers[FLEET] = pages(3)
    seeds.fetch()
    good = pages(4)

    def endless(request):
        number = int(request.query.get("cursor", "tool0:cron")[4:-5]) + 1
        rows, cursor = [fleet_row(number)], f"tool{number}:cron"
        return FleetPage(seeded=1, generation=4, seed_enabled=True, fleet_baselines=rows, next_cursor=cursor)

    def stands_still(_):
        rows = [fleet_row(1)]
        return FleetPage(seeded=1, generation=4, seed_enabled=True, fleet_baselines=rows, next_cursor="tool1:cron")

    def bad_row(request):
        body = json.loads(msgspec.json.encode(good(request)))
        body["fleet_baselines"][-1]["median_distribution"] = {"file_open": 0.4}
        return body

    def breaks(request):
        return good(request) if "cursor" not in request.query else (500, b"")

    def half(request):
        return good(request) if "cursor" not in request.query else b'{"status":"ok","seeded":12'

    answers = {"endless": endless, "stands still": stands_still, "bad row": bad_row, "half": half}
    control_server.answers[FLEET] = answers.get(kind, breaks)
    before = control_server.count(FLEET)
    with pytest.raises(ServerUnavailableError):
        seeds.fetch()
    assert held(bench) == (3, 1200)
    assert control_server.count(FLEET) - before <= 130


def test_switched_off_seeds_stay_in_use_and_no_others_are_taken(bench, seeds, control_server, signer):
    control_server.answers[FLEET] = pages(3)
    seeds.fetch()
    control_server.answers[FLEET] = lambda _: FleetPage(seeded=0, generation=4, seed_enabled=False, fleet_baselines=[])
    seeds.fetch()
    assert held(bench) == (3, 1200)
    assert bench.policies.describe()["seed"]["decided_by"] == "server"
    control_server.answers[FLEET] = pages(5)
    bench.policies.take(signer.sign(2, {"fleet_seed_enabled": False}))
    count = control_server.count(FLEET)
    seeds.fetch()
    assert control_server.count(FLEET) == count
    assert held(bench) == (3, 1200)


def test_an_active_baseline_asks_only_for_keys_that_are_learned_anew(bench, seeds, control_server):
    control_server.answers[FLEET] = pages(3)
    bench.learn(1)
    bench.exchange.ask(lambda: bench.keeper.lifecycle.move(BaselineMode.FORCE_ACTIVE, T0))
    seeds.fetch()
    assert control_server.count(FLEET) == 0
    bench.exchange.ask(lambda: bench.keeper.table.relearn(0, T0))
    seeds.fetch()
    assert held(bench) == (3, 1200)


def test_a_baseline_that_skips_learning_gets_its_first_seeds(bench, seeds, control_server, signer):
    control_server.answers[FLEET] = pages(3)
    bench.policies.take(signer.sign(2, {"baseline_mode": "skip_learning"}))
    assert bench.desk.apply_mode("skip_learning", 2)
    assert not bench.desk.apply_mode("skip_learning", 2)  # once
    bench.learn(1)
    seeds.fetch()
    assert held(bench) == (3, 1200)


# Alerts


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


# Commands


class Host:
    """Counts what is done to a host."""

    def __init__(self, state="not_isolated", failure=None):
        self.state = state
        self.done = []
        self.failure = failure

    def isolate(self, servers, **_):
        return self._do("isolated", servers)

    def allow(self, **_):
        return self._do("not_isolated", [])

    def status(self):
        return SimpleNamespace(inspection=Inspection(self.state))

    def _do(self, state, servers):
        self.done.append((state, servers))
        if isinstance(self.failure, BaseException):
            raise self.failure
        self.state = state
        return Outcome("isolated" if state == "isolated" else "allowed", Inspection(state))


def command(number=1, kind="isolate", **given):
    fields = {
        "command_id": f"c{number}", "kind": kind, "reason": "drill", "created_at_unix": time.time(),
        "expires_at_unix": time.time() + 60.0,
    }  # fmt: skip
    return Command(**(fields | given))


def answered(server):
    return [(seen.json["command_id"], seen.json["status"]) for seen in server.seen["/endpoint/command/ack"]]


def test_commands_are_done_once_in_their_order_and_answered_for(bench, control_server, tmp_path):
    host = Host()
    control_server.commands = [command(1), command(2, "allow")]
    runner = CommandRunner(tmp_path, bench.client, host)
    runner.run()
    assert host.done == [("isolated", [f"localhost:{control_server.port}"]), ("not_isolated", [])]
    assert answered(control_server) == [("c1", "done"), ("c2", "done")]
    CommandRunner(tmp_path, bench.client, host).run()
    assert len(host.done) == 2


def test_an_answer_that_was_lost_is_given_again_and_nothing_is_done_again(bench, control_server, tmp_path):
    host = Host()
    control_server.commands = [command(1)]
    good, control_server.answers["/endpoint/command/ack"] = control_server.ack, lambda _: (500, b"")
    with pytest.raises(ServerUnavailableError):
        CommandRunner(tmp_path, bench.client, host).run()
    control_server.answers["/endpoint/command/ack"] = good
    again = CommandRunner(tmp_path, bench.client, host)
    again.run()
    assert len(host.done) == 1
    assert answered(control_server)[-1] == ("c1", "done")
    control_server.commands = [command(1)]  # the server has forgotten that it was answered
    again.run()
    assert len(host.done) == 1
    assert answered(control_server)[-1] == ("c1", "done")


@pytest.mark.parametrize(("state", "status"), [("isolated", "done"), ("not_isolated", "failed"), ("partial", "failed")])
def test_what_was_begun_before_a_crash_is_answered_by_the_kernels_word(state, status, bench, control_server, tmp_path):
    control_server.commands = [command(1)]
    with pytest.raises(KeyboardInterrupt):
        CommandRunner(tmp_path, bench.client, Host(failure=KeyboardInterrupt())).run()
    host = Host(state)
    CommandRunner(tmp_path, bench.client, host).run()
    assert host.done == []
    assert answered(control_server) == [("c1", status)]


def test_commands_that_cannot_be_done_say_why(bench, control_server, tmp_path):
    control_server.commands = [command(1)]
    CommandRunner(tmp_path, bench.client, Host(failure=IsolationUnavailableError("no nft", remedy="Install it."))).run()
    control_server.commands = [command(2)]
    CommandRunner(tmp_path, bench.client, None).run()
    control_server.commands = [command(3, expires_at_unix=time.time() + 5.0)]
    late = Host()
    CommandRunner(tmp_path, bench.client, late, lambda: 10.0).run()  # by the server's clock it is over
    assert late.done == []
    acks = [seen.json for seen in control_server.seen["/endpoint/command/ack"]]
    assert [ack["status"] for ack in acks] == ["failed"] * 3
    assert "no nft Install it." in acks[0]["detail"]
    assert "replays" in acks[1]["detail"]
    assert "expired" in acks[2]["detail"]


def test_a_record_that_cannot_be_read_is_put_aside(bench, control_server, tmp_path):
    (tmp_path / "commands.json").write_bytes(b"{")
    control_server.commands = [command(1)]
    CommandRunner(tmp_path, bench.client, Host()).run()
    assert (tmp_path / "commands.unreadable").exists()
    assert answered(control_server) == [("c1", "done")]
