"""One cycle: block boundaries, what the report counts, and what it is called in an answer."""

import numpy as np
import pytest

from eguard.clock import SimulatedClock
from eguard.fleet import FleetStore
from eguard.wire import BaselineRow, distribution_from_vector

KEYS = [f"p{number:02d}:init" for number in range(12)]


def row(key, counts, seq=1):
    total = int(sum(counts))
    return BaselineRow(
        process_key=key,
        event_distribution=distribution_from_vector(np.array(counts) / total),
        sample_count=total,
        entropy_threshold=3.0,
        learned_at_unix=0.0,
        seq=seq,
    )


@pytest.fixture
def store(monkeypatch):
    # All keys in one shard, so that partitions end within keys.
    monkeypatch.setattr("eguard.fleet.ingest.key_shard", lambda _: 7)
    with FleetStore.create("sqlite://", SimulatedClock(1e9)) as made:
        rng = np.random.default_rng(4)
        for agent in range(9):
            rows = [row(key, rng.multinomial(500, np.full(8, 1 / 8))) for key in KEYS if rng.random() < 0.8]
            made.upsert_baselines(f"agent-{agent}", "first", rows)
        yield made


@pytest.mark.parametrize("block_votes", [1, 2, 5, 7, 64, 1000])
def test_blocks_are_cut_between_keys_and_change_nothing(store, monkeypatch, block_votes):
    whole = store.aggregate()
    rows = store.fleet_details()
    monkeypatch.setattr("eguard.fleet.vote_spool.BLOCK_VOTES", block_votes)
    report = store.aggregate(is_full=True)
    changing = {"generation", "computed_at"}
    assert [{k: v for k, v in r.items() if k not in changing} for r in store.fleet_details()] == [
        {k: v for k, v in r.items() if k not in changing} for r in rows
    ]
    assert (report.votes, report.agents, report.aggregated) == (whole.votes, whole.agents, whole.aggregated)
    assert report.updated == 0


def test_report_counts_what_happened(store):
    store.upsert_baselines("agent-0", "first", [row("rare:init", [100, 0, 0, 0, 0, 0, 0, 0])])
    store.upsert_baselines("agent-1", "first", [row("rare:init", [1, 0, 0, 0, 0, 0, 0, 0])])
    for agent in range(3):
        store.upsert_baselines(f"agent-{agent}", "first", [row("torn:init", (np.eye(8)[agent] * 100).tolist())])
    answer = store.aggregate().to_dict()
    assert answer["aggregated"] == answer["updated"] == 12
    assert answer["skipped_by_reason"] == {"below_cohort": 1, "below_min_mass": 1}
    assert (answer["skipped"], answer["removed"], answer["agents"]) == (2, 0, 9)
    assert answer["votes_below_min_samples"] == 1
    assert answer["js_mean"] is None
    assert answer["duration_ms"] == 0.0  # the clock is simulated
    store.remove_agent("agent-0")
    answer = store.aggregate(min_agents=9).to_dict()
    assert answer["removed"] == 12
    assert answer["removed_by_reason"] == {"below_cohort": 12}
    assert answer["js_mean"] is None  # nothing in common
    assert answer["health"][0]["vanished_key_count"] == 12


def test_keys_whose_votes_moved_are_updated(store):
    store.aggregate()
    for agent in range(9):
        store.upsert_baselines(f"agent-{agent}", "first", [row(KEYS[3], [0, 0, 0, 0, 0, 0, 0, 50], seq=2)])
    report = store.aggregate(is_full=True)
    assert report.updated == 1
    assert report.against("previous").js_max_key == KEYS[3]
    assert report.against("tomorrow") is None
