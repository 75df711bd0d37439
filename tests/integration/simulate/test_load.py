"""Forty agents on a real server: every figure of the report is also a fact of the database."""

import gc
import json
import sys
import threading

import numpy as np
import pytest
import sqlalchemy as sa
from server_place import CONSOLE, server_place
from typer.testing import CliRunner

from eguard.cli.app import app
from eguard.errors import ConfigError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.store import FleetStore
from eguard.fleet.tables import audit_log, endpoint_agent, endpoint_baseline, endpoint_incarnation
from eguard.simulate.load import LoadOptions, RemoteServer, run_load, verdict
from eguard.simulate.load.schedule import make_schedule
from eguard.wire.baseline import BaselineRow, entropy_threshold

AGENTS = 40
PROFILES = 5
KEYS = 9


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Three hosts with nine process keys."""
    path = tmp_path_factory.mktemp("recording") / "fleet.db"
    rng = np.random.default_rng(3)
    with FleetStore.create(f"sqlite:///{path}") as store:
        for host in range(3):
            rows = []
            for key in range(KEYS):
                counts = rng.multinomial(300, rng.dirichlet([5.0, 3.0])).tolist()
                shares = dict(zip(("process_exec", "file_open"), (count / 300 for count in counts), strict=True))
                rows.append(
                    BaselineRow(
                        process_key=f"program-{key}:parent",
                        event_distribution={name: share for name, share in shares.items() if share},
                        sample_count=300,
                        entropy_threshold=entropy_threshold(300),
                        learned_at_unix=0.0,
                        seq=1,
                    )
                )
            store.upsert_baselines(f"host-{host}", "a", rows)
    return path


def options_for(recording, **named):
    given = {"agents": AGENTS, "profiles": PROFILES, "start_seconds": 1.0, "hold_seconds": 0.5, "recording": recording}
    return LoadOptions(**given | named)


def rows_of(url, query):
    database = Database(url)
    try:
        with database.read() as connection:
            return connection.execute(query).all()
    finally:
        database.dispose()


def counted(url, table):
    return rows_of(url, sa.select(sa.func.count()).select_from(table))[0][0]


@pytest.fixture(scope="module")
def waiting(recording, tmp_path_factory):
    """A run of agents that stay, are cut off, come back, and are switched off meanwhile."""
    folder = tmp_path_factory.mktemp("waiting")
    seconds = []
    options = options_for(recording, herd_seconds=1.0, kill_switch=True)
    report = run_load(options, folder=folder, watch=seconds.append)
    gc.collect()
    return report, f"sqlite:///{folder}/server/fleet.sqlite", seconds


def test_what_the_report_counts_is_what_the_database_holds(waiting):
    report, url, _ = waiting
    assert verdict(report)["passed"], verdict(report)["misses"]
    # One more name looks when uploads are refused; what it got in before is there as well.
    looking = int(report["kill_switch"]["probe_uploads"] > 0)
    assert counted(url, endpoint_agent) == AGENTS + looking
    assert counted(url, endpoint_baseline) == (AGENTS + looking) * PROFILES
    assert report["database"] == {"agents": AGENTS + looking, "profiles": (AGENTS + looking) * PROFILES}
    assert report["profiles"]["sent"] == report["profiles"]["accepted"] == report["uploads"] * PROFILES
    sequences = sa.select(
        endpoint_baseline.c.agent_id, sa.func.min(endpoint_baseline.c.seq), sa.func.max(endpoint_baseline.c.seq)
    ).group_by(endpoint_baseline.c.agent_id)
    lows_and_highs = {(low, high) for _, low, high in rows_of(url, sequences)}
    assert all(low == high for low, high in lows_and_highs)
    assert sum(low for _, low, _ in rows_of(url, sequences)) == report["uploads"]


def test_everybody_comes_back_and_is_told(waiting):
    report, _, seconds = waiting
    assert report["start"]["served"] == report["herd"]["served"] == AGENTS
    assert report["most_waiting"] == AGENTS
    assert report["operations_by_phase"]["herd"]["connect"]["count"] >= AGENTS
    switch = report["kill_switch"]
    assert switch["agents_told"] == AGENTS
    assert switch["refused_seconds"] is not None
    assert report["uploads_refused"] >= 1
    taken = report["operations_by_phase"]["herd"].get("upload", {"count": 0})["count"]
    assert taken + report["uploads_refused"] + report["uploads_withheld"] >= AGENTS
    assert [second.phase for second in seconds] == sorted(
        (second.phase for second in seconds), key="start hold herd".find
    )


def test_certificates_are_on_record_and_memory_is_measured(waiting):
    report, url, _ = waiting
    detail = rows_of(url, sa.select(audit_log.c.detail).where(audit_log.c.action == "certificate.issue_many"))
    assert [each[0]["certificates"] for each in detail] == [AGENTS + 1]
    assert report["server"]["peak_mib"] > 20
    assert report["server"]["cpu_seconds"] > 0
    assert report["generator"]["peak_mib"] >= report["generator"]["before_mib"] > 20


class Enrolling:
    """A server that runs already, and how agents get into it."""

    def __init__(self, place):
        self.place = place

    def server(self, uses):
        token = self.place.context.enrolment.tokens.create(CONSOLE, max_uses=uses)
        url = f"https://127.0.0.1:{self.place.running.agent_port}"
        return RemoteServer(url, self.place.authority_file, token.secret)


@pytest.fixture(scope="module")
def enrolling(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("running")) as place:
        yield Enrolling(place)


def profiles_of(url, prefix):
    column = endpoint_baseline.c.agent_id
    return len(rows_of(url, sa.select(column).where(column.like(f"{prefix}-%"))))


def test_agents_that_do_not_stay_upload_and_fetch_once_an_interval(enrolling, recording, tmp_path):
    options = options_for(
        recording,
        is_polling=False,
        interval_seconds=1.0,
        hold_seconds=2.0,
        poison="one-hot",
        share=0.25,
        prefix="visitor",
    )
    report = run_load(options, folder=tmp_path, server=enrolling.server(AGENTS))
    assert verdict(report, max_p99_ms=60_000.0)["passed"], report["failures"]
    assert report["visits"] == {"due": 2 * AGENTS, "unfinished": 0}
    for operation in ("connect", "upload", "fetch", "visit", "late"):
        assert report["operations"][operation]["count"] == 2 * AGENTS
    url = enrolling.place.settings.fleet_url
    assert profiles_of(url, "visitor") == AGENTS * PROFILES
    row = endpoint_baseline.c
    vectors = rows_of(url, sa.select(row.agent_id, row.distribution_vector).where(row.agent_id.like("visitor-%")))
    assert len({agent for agent, vector in vectors if np.frombuffer(vector, "<f4").max() == 1.0}) == 10


def test_leaving_and_coming_back_keeps_the_identity_and_sometimes_loses_the_state(enrolling, recording, tmp_path):
    options = options_for(recording, agents=20, churn_per_minute=1.0, hold_seconds=5.0, seed=3, prefix="restless")
    reborn = sum(each.is_reborn and each.at_seconds + each.seconds < 4.0 for each in make_schedule(options).absences)
    report = run_load(options, folder=tmp_path, server=enrolling.server(20))
    assert report["absences"] >= 2
    assert report["failed"] == 0
    url, agent = enrolling.place.settings.fleet_url, endpoint_incarnation.c.agent_id
    agents = sa.select(endpoint_agent.c.agent_id).where(endpoint_agent.c.agent_id.like("restless-%"))
    assert len(rows_of(url, agents)) == 20
    assert len(rows_of(url, sa.select(agent).where(agent.like("restless-%")))) >= 20 + reborn


def test_agents_enrol_once_with_a_server_that_runs_and_come_back_as_another_life(enrolling, recording, tmp_path):
    server, url = enrolling.server(6), enrolling.place.settings.fleet_url
    options = options_for(recording, agents=6, prefix="guest")
    for run in (1, 2):
        report = run_load(options, folder=tmp_path, server=server)
        assert verdict(report)["passed"], report["failures"]
        assert "server" not in report
        lives = sa.select(endpoint_incarnation.c.incarnation).where(endpoint_incarnation.c.agent_id == "guest-000000")
        assert {name for (name,) in rows_of(url, lives)} == {f"life-{1000 * each}" for each in range(1, run + 1)}
    assert profiles_of(url, "guest") == 6 * PROFILES


def test_refusals_of_the_server_are_counted_and_fail_the_run(enrolling, recording, tmp_path):
    server, place = enrolling.server(4), enrolling.place
    options = options_for(recording, agents=4, prefix="revoked", start_seconds=0.2)
    run_load(options, folder=tmp_path, server=server)
    place.context.certificates.revoke(CONSOLE, agent_id="revoked-000002", reason="test")
    visiting = options_for(
        recording, agents=4, prefix="revoked", is_polling=False, interval_seconds=1.0, hold_seconds=1.0
    )
    report = run_load(visiting, folder=tmp_path, server=server)
    assert report["failures"] == [
        {"phase": "hold", "operation": "upload", "kind": "403_certificate_revoked", "count": 1}
    ]
    assert report["uploads"] == 3
    assert not verdict(report)["passed"]
    assert verdict(report, max_errors=1)["passed"]


def test_a_token_for_too_few_refuses_the_rest(enrolling, recording, tmp_path):
    with pytest.raises(ServerRefusalError, match="token"):
        run_load(options_for(recording, agents=3, prefix="many"), folder=tmp_path, server=enrolling.server(1))
    assert not [thread for thread in threading.enumerate() if "ThreadPool" in thread.name]


def test_the_kill_switch_of_a_server_with_other_agents_is_left_alone(enrolling, recording, tmp_path):
    options = options_for(recording, agents=2, kill_switch=True)
    with pytest.raises(ConfigError, match="other agents"):
        run_load(options, folder=tmp_path, server=enrolling.server(2))


def test_the_command_prints_a_report_and_fails_on_a_missed_bound(recording, tmp_path, monkeypatch):
    monkeypatch.delenv("EGUARD_DATABASE_URL", raising=False)
    arguments = ["simulate", "fleet", "--agents", "5", "--profiles", "3", "--start-period", "0.2", "--hold", "0.2"]
    arguments += ["--recording", str(recording), "--fetch", "--max-p99-ms", "0.001", "--json"]
    plot = tmp_path / "run.png"
    result = CliRunner().invoke(app, [*arguments, "--plot", str(plot), "--folder", str(tmp_path / "run")])
    report = json.loads(result.stdout)
    assert result.exit_code == 1, result.output
    assert report["database"] == {"agents": 5, "profiles": 15}
    assert [miss.split(" is ")[0] for miss in report["verdict"]["misses"]] == ["p99 of upload", "p99 of fetch"]
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are POSIX's")
def test_more_connections_than_files_is_said_with_a_remedy(monkeypatch, recording):
    import resource

    def refuse(*_):
        raise ValueError

    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 200))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    with pytest.raises(ConfigError) as caught:
        run_load(options_for(recording, agents=5000))
    assert "ulimit -n 5512" in caught.value.remedy


def test_an_agent_whose_visit_takes_longer_than_its_interval_is_late_and_never_in_two_places(
    enrolling, recording, tmp_path
):
    options = options_for(
        recording, agents=2, is_polling=False, interval_seconds=0.1, hold_seconds=2.0, prefix="hurried"
    )
    report = run_load(options, folder=tmp_path, server=enrolling.server(2))
    assert report["visits"]["unfinished"] == 0
    assert report["failed"] == 0
    assert report["uploads"] == report["visits"]["due"]
    assert report["most_connected"] <= 2
