"""The server's metrics, in one registry of its own, by Prometheus' conventions: base units, one name one meaning."""

from __future__ import annotations

import platform
from typing import Any, Final, NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from eguard import __version__
from eguard.clock import Clock, SystemClock
from eguard.fleet.aggregation import AggregationReport
from eguard.fleet.database import Database
from eguard.server.metric_gauges import GAUGES, FleetGauges
from eguard.wire.baseline import UpsertResult
from eguard.wire.telemetry import TelemetryAnswer

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
#: Seconds; long polls of policies end after up to a minute.
_REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0)
_TASK_BUCKETS: Final = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)

# A second series for each counter, that says when it began; nothing reads it, and it is on no list.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has no annotations here


class MetricDescription(NamedTuple):
    """A metric as the reference page lists it."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str


class Metrics:
    """What the server counts.

    Parameters
    ----------
    database : Database
        Where the gauges of the fleet come from.
    clock : Clock, optional
        For ages.

    Notes
    -----
    Counters begin at 0 with every process; on several servers they are added up. Gauges of the fleet come from the
    database and are the same on each.
    """

    def __init__(self, database: Database, clock: Clock | None = None) -> None:
        self.registry = CollectorRegistry()
        self._counters: dict[str, Counter] = {}
        self._histograms: dict[str, Histogram] = {}
        self._described: list[MetricDescription] = []
        # To find a series by its labels takes longer than to count in it. Templates and statuses are few.
        self._requests: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._counter("eguard_http_requests_total", ("method", "route", "status"), "Requests by route and status.")
        self._histogram(
            "eguard_http_request_seconds", ("route",), "How long requests took, waiting included.", _REQUEST_BUCKETS
        )
        self._counter(
            "eguard_baseline_rows_total",
            ("outcome",),
            "Uploaded profiles by outcome (accepted, unchanged, stale, rejected).",
        )
        self._counter(
            "eguard_baseline_row_rejections_total", ("code",), "Uploaded profiles that were rejected, by code."
        )
        self._counter(
            "eguard_upload_refusals_total", ("code",), "Uploads that were refused whole by a policy, by code."
        )
        self._counter(
            "eguard_telemetry_records_total",
            ("kind", "outcome"),
            "Alerts and calibration samples by outcome (accepted, duplicate, rejected).",
        )
        self._counter("eguard_seeds_fetched_total", (), "Rows of the fleet's baseline that were handed out.")
        self._histogram("eguard_aggregation_seconds", (), "How long aggregations took.", _TASK_BUCKETS)
        self._counter("eguard_aggregation_keys_total", (), "Process keys that aggregations published.")
        self._counter("eguard_task_runs_total", ("task", "status"), "Runs of maintenance tasks on this server.")
        self._histogram("eguard_task_seconds", ("task",), "How long maintenance tasks took.", _TASK_BUCKETS)
        self._counter(
            "eguard_database_errors_total", ("reason",), "Times that the database refused or was away, by reason."
        )
        self._counter(
            "eguard_notifications_total",
            ("sink", "outcome"),
            "Attempts to tell operators, by outcome (delivered, failed), and messages that were given up.",
        )
        build = Gauge("eguard_build_info", "Always 1.", ("version", "python"), registry=self.registry)
        build.labels(__version__, platform.python_version()).set(1)
        self._described.append(
            MetricDescription(
                "eguard_build_info", "gauge", ("version", "python"), "Always 1; the labels say what runs."
            )
        )
        self.registry.register(FleetGauges(database, clock or SystemClock(), self.count_database_error))
        self._described += [MetricDescription(name, "gauge", *facts) for name, facts in GAUGES.items()]

    @property
    def described(self) -> list[MetricDescription]:
        """Every metric, by name."""
        return sorted(self._described)

    def render(self) -> bytes:
        """Return all metrics as Prometheus reads them."""
        return generate_latest(self.registry)

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that was answered; `route` is the template, not the path."""
        known = method if method in _METHODS else "other"
        series = self._requests.get((known, route, status))
        if series is None:
            counter = self._counters["eguard_http_requests_total"].labels(known, route, str(status))
            series = counter, self._histograms["eguard_http_request_seconds"].labels(route)
            self._requests[known, route, status] = series
        series[0].inc()
        series[1].observe(seconds)

    def count_upload(self, result: UpsertResult) -> None:
        """Count an upload's rows."""
        rows = self._counters["eguard_baseline_rows_total"]
        for outcome in ("accepted", "unchanged", "stale"):
            rows.labels(outcome).inc(getattr(result, outcome))
        rows.labels("rejected").inc(len(result.rejected))
        for rejection in result.rejected:
            self._counters["eguard_baseline_row_rejections_total"].labels(rejection.code).inc()

    def count_upload_refusal(self, code: str) -> None:
        """Count an upload that a policy refused."""
        self._counters["eguard_upload_refusals_total"].labels(code).inc()

    def count_telemetry(self, kind: str, answer: TelemetryAnswer) -> None:
        """Count a batch of `kind` ``alert`` or ``calibration_sample``."""
        records = self._counters["eguard_telemetry_records_total"]
        records.labels(kind, "accepted").inc(answer.accepted)
        records.labels(kind, "duplicate").inc(answer.duplicate)
        records.labels(kind, "rejected").inc(len(answer.rejected))

    def count_seeds(self, rows: int) -> None:
        """Count rows of the fleet's baseline that were handed out."""
        self._counters["eguard_seeds_fetched_total"].inc(rows)

    def count_aggregation(self, report: AggregationReport) -> None:
        """Count an aggregation that published a generation."""
        self._histograms["eguard_aggregation_seconds"].observe(report.duration_ms / 1000.0)
        self._counters["eguard_aggregation_keys_total"].inc(report.aggregated)

    def count_task_run(self, task_id: str, status: str, seconds: float) -> None:
        """Count a run of a maintenance task."""
        self._counters["eguard_task_runs_total"].labels(task_id, status).inc()
        self._histograms["eguard_task_seconds"].labels(task_id).observe(seconds)

    def count_notification(self, sink: str, outcome: str) -> None:
        """Count an attempt to tell operators."""
        self._counters["eguard_notifications_total"].labels(sink, outcome).inc()

    def count_database_error(self, reason: str) -> None:
        """Count a refusal of the database."""
        self._counters["eguard_database_errors_total"].labels(reason).inc()

    def _counter(self, name: str, labels: tuple[str, ...], meaning: str) -> None:
        self._counters[name] = Counter(name, meaning, labels, registry=self.registry)
        self._described.append(MetricDescription(name, "counter", labels, meaning))

    def _histogram(self, name: str, labels: tuple[str, ...], meaning: str, buckets: tuple[float, ...]) -> None:
        self._histograms[name] = Histogram(name, meaning, labels, registry=self.registry, buckets=buckets)
        self._described.append(MetricDescription(name, "histogram", labels, meaning))


def markdown_table(described: list[MetricDescription]) -> str:
    """Return the table of the reference page."""
    lines: list[Any] = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for metric in described:
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        lines.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.meaning} |")
    return "\n".join(lines) + "\n"
