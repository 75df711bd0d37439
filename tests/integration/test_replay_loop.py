"""The replay of a small fleet: engines, wire, store, aggregation and seeds together, and the stage's files."""

import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from eguard.clock import SimulatedClock
from eguard.detection.features import FEATURE_NAMES
from eguard.detection.fleet_context import FleetContext
from eguard.events import UNCOUNTED, Event, EventBatch, EventClass
from eguard.fleet.store import FleetStore
from eguard.mlops import replay
from eguard.mlops.drift_series import SCHEMA as DRIFT_SCHEMA
from eguard.mlops.feature_table import SCHEMA
from eguard.mlops.replay_endpoints import EndpointReplay, fetch_seeds
from eguard.mlops.replay_params import ReplayParams
from eguard.mlops.replay_rows import ASSUMED_BENIGN, ReplayCollector
from eguard.mlops.tables import write_events
from eguard.mlops.workspace import Workspace, write_artefact

DAY = 86_400.0
PARAMS = ReplayParams(processes=1, reservoir_events_per_host=40)
RULE = {
    "id": "rule-whoami",
    "title": "Account discovery",
    "level": "high",
    "status": "test",
    "author": "somebody",
    "path": "r.yml",
    "licence": "DRL-1.1",
    "tags": ["attack.discovery", "attack.t1033"],
    "selector": {"product": "windows", "category": "process_creation", "service": "", "event_codes": []},
    "predicate": ["endswith", "Image", ["\\whoami.exe"]],
}
RULES = {"format": 1, "rules": [RULE], "prefilter": {"sekurlsa::": 2}}
INDICATORS = {"format": 1, "indicators": [{"kind": "address", "value": "198.51.100.7", "source": "feed"}]}


def event(host, time, event_class, comm="svchost.exe", parent_comm="services.exe", **extra):
    defaults = {"source": "sysmon", "event_type": "exec" if event_class == 0 else "other", "group": "lab"}
    return Event(
        time_unix=float(time),
        host_id=host,
        event_class=int(event_class),
        comm=comm,
        parent_comm=parent_comm,
        **(defaults | extra),
    )


def host_day(host, date, n, rng, classes=(0.2, 0.1, 0.4, 0.3)):
    """Return a day of one host's ordinary telemetry."""
    times = date * DAY + np.sort(rng.uniform(0, 600, n))
    kinds = rng.choice([EventClass.FILE_OPEN, EventClass.MODULE_LOAD, EventClass.LOGIN, UNCOUNTED], n, p=classes)
    return [event(host, time, kind) for time, kind in zip(times.tolist(), kinds.tolist(), strict=True)]


def fleet_events():
    rng = np.random.default_rng(4)
    events = []
    for date in (100, 250, 251):
        for host in ("a.lab", "b.lab", "c.lab"):
            events += host_day(host, date, 400, rng)
    events += host_day("d.lab", 251, 300, rng)
    events.append(event("b.lab", 250 * DAY + 700, EventClass.PROCESS_EXEC, "whoami.exe", "cmd.exe"))
    events.append(
        event(
            "b.lab", 250 * DAY + 701, EventClass.NETWORK_CONNECT, destination_address="192.0.2.1", destination_port=443
        )
    )
    return EventBatch.from_events(sorted(events, key=lambda e: e.time_unix))


def run_fleet(events, content=None):
    content = content or replay.DetectionContent()
    clock = SimulatedClock(float(events.time_unix[0]))
    collector = ReplayCollector("endpoint", "capture_label")
    endpoints = EndpointReplay(content, PARAMS, collector, seed=3)
    with FleetStore.create("sqlite://", clock) as store:
        endpoints.run(events, store, clock)
        rows = fetch_seeds(store)
        assert store.current_generation() == 3
    samples = {host: engine.reservoir.sample() for host, engine in endpoints.engines.items()}
    return endpoints, collector, collector.rows(samples), rows


@pytest.fixture
def content(tmp_path):
    write_artefact(tmp_path / "rules.json", RULES)
    write_artefact(tmp_path / "indicators.json", INDICATORS)
    return replay.load_detection_content(tmp_path / "rules.json", tmp_path / "indicators.json")


def test_profiles_of_three_hosts_become_the_seed_of_a_fourth(content):
    endpoints, _, _, published = run_fleet(fleet_events(), content)
    keys = [row.process_key for row in published]
    assert keys == ["svchost.exe:services.exe"]
    assert published[0].agent_count == 4  # the fourth uploaded after its first day
    report = endpoints.report()
    assert report["simulated_days"] == 3
    assert report["nights"][0]["agents"] == 3
    assert report["uploads"]["rejected"] == 0
    newcomer = endpoints.engines["d.lab"].profiles
    slot = int(newcomer.index.lookup([("svchost.exe", "services.exe")])[0])
    assert newcomer.prior_generation[slot] == 3
    assert newcomer.prior[slot].sum() == pytest.approx(1.0)
    # Own counts alone: the seed is kept beside them.
    counted = newcomer.counts[slot].sum()
    assert 200 < counted <= 300


def test_every_counted_event_is_learned_by_the_end_of_its_day(content):
    events = fleet_events()
    endpoints, _, _, _ = run_fleet(events, content)
    counted = sum(
        1 for host, kind in zip(events.host_id, events.event_class, strict=True) if host == "a.lab" and kind >= 0
    )
    assert endpoints.engines["a.lab"].profiles.sample_count.sum() == counted


def test_rows_are_hits_and_the_final_sample_with_labels(content):
    _, _, rows, _ = run_fleet(fleet_events(), content)
    hits = [index for index, rule in enumerate(rows.rule_id) if rule == "rule-whoami"]
    assert len(hits) == 1
    assert rows.label[hits[0]] == -1
    assert rows.label_source[hits[0]] == "unresolved"
    assert rows.severity[hits[0]] == 0.75
    sampled = np.flatnonzero(rows.is_reservoir)
    assert len(sampled) in (4 * 40, 4 * 40 - 1)  # the hit may or may not have been drawn
    by_day = {
        (rows.host_id[index], int(rows.observed_at_unix[index] // DAY)): rows.label_source[index]
        for index in sampled.tolist()
    }
    assert by_day["b.lab", 250] == "unresolved"  # a High alert was open on that day
    assert by_day["b.lab", 251] == ASSUMED_BENIGN
    assert by_day["a.lab", 250] == ASSUMED_BENIGN
    assert set(rows.network) == {"lab"}


def test_observation_times_are_the_recorded_ones(content):
    events = fleet_events()
    _, _, rows, _ = run_fleet(events, content)
    assert set(rows.observed_at_unix.tolist()) <= set(events.time_unix.tolist())


def test_nightly_tables_know_the_days_before(content):
    endpoints, _, _, _ = run_fleet(fleet_events(), content)
    fleet = endpoints.fleet
    assert fleet.n_hosts == 1
    assert dict(fleet.rule_hosts) == {"rule-whoami": 1}
    assert dict(fleet.port_ranks) == {443: 1}
    assert fleet.children == {"cmd.exe": {"whoami.exe": 1}}


@pytest.fixture
def workspace(tmp_path):
    """Return a workspace as the stages before the replay leave it, very small."""
    space = Workspace(tmp_path)
    positive = event(
        "lab-host", 5.0, EventClass.PROCESS_EXEC, "whoami.exe", source="sigma", rule_id="rule-whoami", label="attack"
    )
    other = event(
        "lab-host", 6.0, EventClass.PROCESS_EXEC, "calc.exe", source="sigma", rule_id="rule-whoami", label="attack"
    )
    endpoint = list(fleet_events().rows())
    alerts = [
        Event(time_unix=float(time), host_id=f"{net}/h{time % 3}", event_class=7, group=net, rule_id=f"R{time % 5}",
              detector="wazuh", event_type="alert", label="dirb" if time % 7 == 0 else "")
        for net in ("fox", "shaw")
        for time in range(0, int(2 * DAY), 4000)
    ]  # fmt: skip
    connections = [
        Event(time_unix=1e6 + 60.0 * index, host_id=host, event_class=3, group=group, source="zeek", event_type="conn",
              destination_address=address, destination_port=443, sent_bytes=100, label=label)
        for host, group, address, label in (
            ("10.0.0.1", "c2", "198.51.100.7", "malware"), ("10.0.0.2", "office", "192.0.2.9", ""),
            ("10.0.0.3", "c3", "192.0.2.50", "malware"))
        for index in range(40)
    ]  # fmt: skip
    write_events(space.interim / "events.parquet", EventBatch.from_events([*endpoint, positive, other]))
    write_events(space.interim / "alerts.parquet", EventBatch.from_events(alerts))
    write_events(space.interim / "connections.parquet", EventBatch.from_events(connections))
    write_artefact(space.interim / "rules.json", RULES)
    write_artefact(space.interim / "indicators.json", INDICATORS)
    return space


OUTPUTS = ("features.parquet", "fleet.db", "fleet-context.json", "drift-series.parquet")


def digests(space):
    return {name: hashlib.sha256((space.interim / name).read_bytes()).hexdigest() for name in OUTPUTS}


def test_the_stage_writes_its_files_and_the_same_bytes_again(workspace):
    told = []
    report = replay.run(PARAMS, seed=5, workspace=workspace, progress=lambda *facts: told.append(facts))
    first = digests(workspace)
    assert replay.run(PARAMS, seed=5, workspace=workspace) == report
    assert digests(workspace) == first
    assert told
    assert json.loads((workspace.reports / "replay.json").read_text()) == json.loads(json.dumps(report))
    table = pq.read_table(workspace.interim / "features.parquet")
    assert table.schema.names == SCHEMA.names
    assert table.num_rows == report["rows"]
    values = np.column_stack([table[name].to_numpy() for name in FEATURE_NAMES])
    assert np.isfinite(values).all()
    assert values.min() >= 0.0
    assert values.max() <= 1.0
    assert len(set(table["sample_id"].to_pylist())) == table.num_rows
    series = pq.read_table(workspace.interim / "drift-series.parquet")
    assert series.schema.equals(DRIFT_SCHEMA)
    assert set(series["measure"].to_pylist()) == {"js_nats", "kl_bits"}
    FleetContext.from_json(json.loads((workspace.interim / "fleet-context.json").read_text()))


def test_two_processes_write_the_same_bytes_as_one(workspace):
    one = replay.run(PARAMS, seed=5, workspace=workspace)
    expected = digests(workspace)
    two = replay.run(PARAMS.model_copy(update={"processes": 2}), seed=5, workspace=workspace)
    assert two == one
    assert digests(workspace) == expected


def test_another_seed_draws_another_sample_and_nothing_else(workspace):
    replay.run(PARAMS, seed=5, workspace=workspace)
    one = pq.read_table(workspace.interim / "features.parquet")
    replay.run(PARAMS, seed=6, workspace=workspace)
    other = pq.read_table(workspace.interim / "features.parquet")
    sampled = [set(table.filter(table["is_reservoir"])["sample_id"].to_pylist()) for table in (one, other)]
    assert sampled[0] != sampled[1]
    alerts = [table.filter(np.array(table["source"].to_pylist()) == "ait") for table in (one, other)]
    assert alerts[0].equals(alerts[1])


def test_the_report_says_what_came_of_each_source(workspace):
    report = replay.run(PARAMS, seed=5, workspace=workspace)
    sources = report["sources"]
    assert set(sources) == {"ait", "endpoint", "network", "sigma"}
    assert sources["ait"]["networks"]["fox"]["hosts"] == 3
    assert sources["sigma"]["positives"] == 2
    assert sources["sigma"]["matched_by_their_rule"] == 1
    assert sources["sigma"]["missed"] == ["rule-whoami"]
    assert sources["network"]["indicator_hits"] == 40
    assert sources["network"]["alerts_by_confidence"] == {"definite": 40}
    assert report["ordinary_rule_matches"] == [
        {"rule_id": "rule-whoami", "title": "Account discovery", "level": "high", "author": "somebody", "events": 1}
    ]
    assert sources["endpoint"]["windows"] > 0


def test_every_rule_positive_is_a_row_labelled_attack(workspace):
    replay.run(PARAMS, seed=5, workspace=workspace)
    table = pq.read_table(workspace.interim / "features.parquet")
    sigma = table.filter(np.array(table["source"].to_pylist()) == "sigma").to_pylist()
    assert [row["label"] for row in sigma] == [1, 1]
    assert {row["rule_id"] for row in sigma} == {"rule-whoami", "calc.exe:exec"}
    assert not any(row["is_reservoir"] for row in sigma)


def test_contacts_of_a_timer_are_periodic_in_the_features(workspace):
    replay.run(PARAMS, seed=5, workspace=workspace)
    table = pq.read_table(workspace.interim / "features.parquet")
    hits = table.filter(np.array(table["network"].to_pylist()) == "c2")
    periodic = hits["beacon_periodicity"].to_numpy()
    assert (periodic[19:] > 0.9).all()
    assert not periodic[:19].any()


def test_a_label_is_an_attack_unless_an_indicator_was_drawn_from_it(workspace):
    replay.run(PARAMS, seed=5, workspace=workspace)
    table = pq.read_table(workspace.interim / "features.parquet")
    networks = np.array(table["network"].to_pylist())
    labels = {name: set(table.filter(networks == name)["label"].to_pylist()) for name in ("c2", "c3", "office")}
    assert labels == {"c2": {None}, "c3": {1}, "office": {0}}


def test_limits_shorten_the_replay(workspace):
    report = replay.run(PARAMS.model_copy(update={"max_alerts": 10, "max_events": 500}), seed=5, workspace=workspace)
    assert report["sources"]["ait"]["alerts"] == 20
    assert report["sources"]["endpoint"]["events"] == 500
