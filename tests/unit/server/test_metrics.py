"""Metrics: counted where they happen, read from the database when asked, and every one of them documented."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from eguard.clock import SimulatedClock
from eguard.errors import FleetStoreError
from eguard.fleet.aggregation import AggregationReport
from eguard.fleet.database import Database
from eguard.fleet.tables import (
    endpoint_agent,
    fleet_generation,
    incident,
    maintenance_run,
    metadata,
    policy,
    server_counter,
)
from eguard.server.metric_gauges import GAUGES
from eguard.server.metrics import Metrics, markdown_table
from eguard.wire.baseline import RowRejection, UpsertResult
from eguard.wire.telemetry import TelemetryAnswer, TelemetryRejection

NOW = 1_772_000_000.0
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


@pytest.fixture
def database(database_url):
    database = Database(database_url)
    with database.write() as connection:
        metadata.create_all(connection)
    yield database
    database.dispose()


@pytest.fixture
def memory():
    database = Database("sqlite://")
    with database.write() as connection:
        metadata.create_all(connection)
    yield database
    database.dispose()


@pytest.fixture
def clock():
    return SimulatedClock(NOW)


def samples(metrics):
    """Return every sample by name and labels."""
    families = text_string_to_metric_families(metrics.render().decode())
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples
    }


def test_requests_are_counted_by_template_and_an_odd_method_makes_no_series(memory):
    metrics = Metrics(memory)
    metrics.observe_request("GET", "/api/v1/endpoint/event/{event_id}", 200, 0.02)
    metrics.observe_request("GET", "/api/v1/endpoint/event/{event_id}", 404, 0.3)
    metrics.observe_request("BREW-7", "unknown", 405, 0.0)
    found = samples(metrics)
    route = ("route", "/api/v1/endpoint/event/{event_id}")
    assert found["eguard_http_requests_total", ("method", "GET"), route, ("status", "404")] == 1.0
    assert found["eguard_http_request_seconds_count", route] == 2.0
    assert found["eguard_http_request_seconds_bucket", ("le", "0.025"), route] == 1.0
    assert ("eguard_http_requests_total", ("method", "other"), ("route", "unknown"), ("status", "405")) in found


def test_uploads_telemetry_seeds_and_tasks_are_counted(memory):
    metrics = Metrics(memory)
    metrics.count_upload(UpsertResult(3, 2, 1, [RowRejection(0, "invalid_process_key", "x")]))
    metrics.count_upload_refusal("not_in_canary")
    metrics.count_telemetry(
        "alert", TelemetryAnswer(accepted=5, duplicate=1, rejected=[TelemetryRejection(0, "c", "d")])
    )
    metrics.count_seeds(512)
    metrics.count_task_run("tuf_refresh", "success", 0.2)
    metrics.count_database_error("database_unavailable")
    report = AggregationReport.__new__(AggregationReport)
    object.__setattr__(report, "duration_ms", 2500.0)
    object.__setattr__(report, "aggregated", 40)
    metrics.count_aggregation(report)
    found = samples(metrics)
    assert [
        found["eguard_baseline_rows_total", ("outcome", outcome)]
        for outcome in ("accepted", "unchanged", "stale", "rejected")
    ] == [3.0, 2.0, 1.0, 1.0]
    assert found["eguard_baseline_row_rejections_total", ("code", "invalid_process_key")] == 1.0
    assert found["eguard_upload_refusals_total", ("code", "not_in_canary")] == 1.0
    assert found["eguard_telemetry_records_total", ("kind", "alert"), ("outcome", "accepted")] == 5.0
    assert found["eguard_telemetry_records_total", ("kind", "alert"), ("outcome", "duplicate")] == 1.0
    assert found["eguard_seeds_fetched_total",] == 512.0
    assert found["eguard_task_runs_total", ("status", "success"), ("task", "tuf_refresh")] == 1.0
    assert found["eguard_database_errors_total", ("reason", "database_unavailable")] == 1.0
    assert found["eguard_aggregation_seconds_sum",] == 2.5
    assert found["eguard_aggregation_keys_total",] == 40.0


def fill(database):
    agent = {"incarnation": "i", "incarnation_ordinal": 1, "group": "", "enrolled_at": NOW}
    with database.write() as connection:
        for number, (status, baseline) in enumerate(
            [("active", "learning"), ("active", "active"), ("active", "active"), ("decommissioned", None)]
        ):
            connection.execute(
                sa.insert(endpoint_agent).values(
                    agent_id=f"a{number}",
                    status=status,
                    baseline_status=baseline,
                    last_heartbeat=NOW - 200.0 * number,
                    **agent,
                )
            )
        connection.execute(sa.insert(server_counter).values(name="policy_revision", value=17))
        given = {"policy_version": "1", "rollout_id": "r", "mode_revision": 0, "reason": "", "created_by": "ada"}
        for revision, policy_id, document in (
            (1, "default", {}),
            (2, "default", {"baseline_upload_enabled": False, "fleet_seed_canary_percent": 5.0}),
            (3, "web", {"baseline_upload_canary_percent": 20.0}),
        ):
            connection.execute(
                sa.insert(policy).values(
                    revision=revision, policy_id=policy_id, document=document, created_at=NOW, **given
                )
            )
        for generation, keys in ((1, 10), (2, 12)):
            connection.execute(
                sa.insert(fleet_generation).values(
                    generation=generation,
                    computed_at=NOW,
                    source="fleet",
                    key_count=keys,
                    is_reference=False,
                    is_pruned=False,
                )
            )
        connection.execute(
            sa.insert(incident).values(
                incident_id="i1",
                agent_id="a0",
                title="t",
                severity="high",
                status="open",
                alerts=1,
                first_at=NOW,
                last_at=NOW,
                grouping={},
            )
        )
        connection.execute(
            sa.insert(maintenance_run).values(
                run_id="r1",
                task_id="retention",
                started_by="schedule",
                server_id="s",
                status="success",
                started_at=NOW,
                finished_at=NOW + 2.0,
            )
        )


def test_gauges_say_what_the_database_says(database, clock):
    fill(database)
    found = samples(Metrics(database, clock))
    assert found["eguard_database_up",] == 1.0
    assert found["eguard_agents", ("baseline_status", "active"), ("status", "active")] == 2.0
    assert found["eguard_agents", ("baseline_status", "unknown"), ("status", "decommissioned")] == 1.0
    assert found["eguard_agents_heard",] == 2.0
    assert (found["eguard_fleet_generation",], found["eguard_fleet_keys",]) == (2.0, 12.0)
    assert found["eguard_policy_revision",] == 17.0
    assert found["eguard_policy_upload_enabled", ("policy_id", "default")] == 0.0
    assert found["eguard_policy_upload_enabled", ("policy_id", "web")] == 1.0
    assert found["eguard_policy_canary_percent", ("path", "seed"), ("policy_id", "default")] == 5.0
    assert found["eguard_policy_canary_percent", ("path", "upload"), ("policy_id", "web")] == 20.0
    assert found["eguard_incidents", ("status", "open")] == 1.0
    assert found["eguard_task_last_success_timestamp_seconds", ("task", "retention")] == NOW + 2.0


def test_gauges_are_looked_up_once_in_five_seconds(memory, clock):
    metrics = Metrics(memory, clock)
    assert samples(metrics)["eguard_policy_revision",] == 0.0
    fill(memory)
    clock.advance_to(NOW + 4.9)
    assert samples(metrics)["eguard_policy_revision",] == 0.0
    clock.advance_to(NOW + 5.0)
    assert samples(metrics)["eguard_policy_revision",] == 17.0


def test_a_database_that_is_away_is_a_sample_and_no_failure(memory, clock, monkeypatch):
    metrics = Metrics(memory, clock)

    def refuse():
        raise FleetStoreError("away", reason="database_unavailable")

    monkeypatch.setattr(memory, "read", refuse)
    found = samples(metrics)
    assert found["eguard_database_up",] == 0.0
    assert not any(name == "eguard_policy_revision" for name, *_ in found)
    assert samples(metrics)["eguard_database_errors_total", ("reason", "database_unavailable")] == 1.0


def test_hostile_names_stay_inside_their_label(memory, clock):
    name = 'x"} 1\neguard_evil{y="\\'
    with memory.write() as connection:
        connection.execute(
            sa.insert(policy).values(
                revision=1,
                policy_id=name,
                policy_version="1",
                rollout_id="r",
                mode_revision=0,
                document={},
                reason="",
                created_by="a",
                created_at=NOW,
            )
        )
    found = samples(Metrics(memory, clock))
    assert found["eguard_policy_upload_enabled", ("policy_id", name)] == 1.0
    assert not any(key[0].startswith("eguard_evil") for key in found)


def test_two_servers_in_one_process_share_nothing(memory):
    one, other = Metrics(memory), Metrics(memory)
    one.count_seeds(5)
    assert samples(other)["eguard_seeds_fetched_total",] == 0.0


def test_names_follow_the_conventions(memory):
    for metric in Metrics(memory).described:
        assert re.fullmatch(r"eguard_[a-z_]+", metric.name)
        assert metric.name.endswith("_total") == (metric.kind == "counter")
        assert not re.search(r"_(ms|minutes|hours|kb|mb|milliseconds)(_|$)", metric.name)
        assert metric.meaning.endswith(".")


def test_what_is_described_is_what_is_registered(memory):
    metrics = Metrics(memory)
    described = {metric.name for metric in metrics.described}
    registered = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
    assert described == registered
    assert set(GAUGES) < described


def test_no_series_is_handed_out_beside_those_described(memory):
    metrics = Metrics(memory)
    metrics.observe_request("GET", "/healthz", 200, 0.1)
    metrics.count_seeds(1)
    bare = {re.sub(r"_(bucket|count|sum)$", "", name) for name, *_ in samples(metrics)}
    assert bare <= {metric.name for metric in metrics.described}


def test_the_reference_page_lists_every_metric_and_no_other(memory):
    assert markdown_table(Metrics(memory).described) in PAGE.read_text(encoding="utf-8")
