"""What every fleet store keeps of generations and their health. Run against each implementation."""

import math

import numpy as np
import pytest

from eguard.errors import FleetStoreError

#: What `row()` uploads by default. Votes are kept as float32, so medians are exact to about 1e-7.
SIXTY_FORTY = pytest.approx({"process_exec": 0.6, "process_exit": 0.4}, abs=1e-7)


class TestGenerations:
    def test_numbers_rise_and_earlier_rows_stay_readable(self, store, fleet, row):
        fleet.upload_all("abc", row())
        assert store.current_generation() == 0
        assert store.fleet_rows() == []
        first = store.aggregate().generation
        fleet.upload_all("abc", row(counts=(0, 0, 100, 0, 0, 0, 0, 0), seq=2))
        second = store.aggregate().generation
        assert (first, second, store.current_generation()) == (1, 2, 2)
        assert fleet.published(1)["bash:sshd"].median_distribution == SIXTY_FORTY
        assert fleet.published(2) == fleet.published()

    def test_going_back_publishes_the_old_rows_under_a_new_number(self, store, fleet, row):
        fleet.upload_all("abc", row(), row("ls:bash"))
        store.aggregate()
        fleet.upload_all("abc", row(counts=(0, 0, 100, 0, 0, 0, 0, 0), seq=2))
        store.aggregate()
        assert store.rollback(1) == 3
        back = fleet.published()
        assert {item.source for item in back.values()} == {"rollback"}
        for key, item in fleet.published(1).items():
            assert back[key].median_distribution == item.median_distribution
        assert store.aggregate().generation == 4
        assert store.rollback(3) == 5

    @pytest.mark.parametrize("generation", [0, 2, -1, 10**9])
    def test_there_is_no_way_back_to_what_never_was(self, store, fleet, row, generation):
        fleet.upload_all("abc", row())
        store.aggregate()
        for call in (store.rollback, store.pin_reference, store.fleet_rows):
            with pytest.raises(FleetStoreError) as caught:
                call(generation)
            assert caught.value.context["reason"] == "unknown_generation"
        assert store.current_generation() == 1

    def test_an_empty_fleet_publishes_an_empty_generation(self, store):
        report = store.aggregate()
        assert (report.generation, report.aggregated, report.health) == (1, 0, ())
        assert store.reference_generation() == 0

    def test_old_generations_are_pruned_and_the_pinned_one_kept(self, store, fleet, row, monkeypatch):
        monkeypatch.setattr("eguard.fleet.generations.KEEP_GENERATIONS", 3)
        fleet.upload_all("abc", row())
        for _ in range(8):
            store.aggregate()
        assert store.reference_generation() == 1
        assert fleet.published(1)
        assert fleet.published(5)
        with pytest.raises(FleetStoreError) as caught:
            store.fleet_rows(4)
        assert caught.value.context["reason"] == "pruned_generation"

    def test_the_order_of_uploads_does_not_matter(self, store_factory, drive, row):
        rng = np.random.default_rng(23)
        uploads = [
            (f"agent-{n}", [row(f"p{key}:init", rng.multinomial(200, np.ones(8) / 8).tolist()) for key in range(6)])
            for n in range(9)
        ]
        results = []
        for _ in range(2):
            fleet = drive(store_factory())
            for number in rng.permutation(len(uploads)):
                fleet.upload(uploads[number][0], *uploads[number][1])
            fleet.store.aggregate()
            results.append(fleet.store.fleet_rows())
        assert results[0] == results[1]


class TestHealth:
    def test_the_first_generation_has_no_divergence(self, store, fleet, row):
        fleet.upload_all("abc", row())
        report = store.aggregate()
        assert report.health == ()
        assert report.to_dict()["js_mean"] is None

    def test_mean_is_weighted_by_agents_and_the_largest_key_is_named(self, store, fleet, row):
        still, moved = (50, 30, 20, 0, 0, 0, 0, 0), (20, 30, 50, 0, 0, 0, 0, 0)
        fleet.upload_all([f"agent-{number}" for number in range(9)], row("still:init", still))
        fleet.upload_all(["agent-0", "agent-1", "agent-2"], row("moved:init", still))
        store.aggregate()
        fleet.upload_all(["agent-0", "agent-1", "agent-2"], row("moved:init", moved, seq=2))
        previous = store.aggregate().against("previous")
        assert math.isclose(previous.js_max_nats, 0.066414314, rel_tol=1e-6)
        assert previous.js_max_key == "moved:init"
        assert math.isclose(previous.js_mean_nats, 0.066414314 * 3 / 12, rel_tol=1e-6)
        information = 2 / math.pi * 3 * 100
        assert math.isclose(previous.js_max_bias_nats, 2 / 8 * (2 / information), rel_tol=1e-12)
        assert previous.js_excess_nats < previous.js_mean_nats

    def test_slow_drift_shows_against_the_reference_only(self, store, fleet, row):
        steps = 20
        for step in range(steps + 1):
            share = 70 - 60 * step // steps
            fleet.upload_all("abc", row(counts=(share, 20, 80 - share, 0, 0, 0, 0, 0), seq=step + 1))
            report = store.aggregate()
        assert report.against("previous").js_max_nats < 0.01
        assert math.isclose(report.against("reference").js_max_nats, 0.253101615, rel_tol=1e-5)
        assert store.pin_reference() == steps + 1
        assert store.aggregate().against("reference").js_max_nats == 0.0

    def test_new_and_vanished_keys_are_counted_and_named_not_compared(self, store, fleet, row):
        fleet.upload_all("abc", row("stays:init"), row("goes:init"))
        store.aggregate()
        fleet.upload_all("def", row("comes:init"), row("stays:init"))
        for agent in "abc":
            store.remove_agent(agent)
        previous = store.aggregate().against("previous")
        assert (previous.common_keys, previous.new_keys, previous.vanished_keys) == (1, ("comes:init",), ("goes:init",))
        assert (previous.new_key_share, previous.new_key_count, previous.vanished_key_count) == (0.5, 1, 1)
        assert previous.js_mean_nats == 0.0

    def test_every_comparison_is_kept(self, store, fleet, row, clock):
        fleet.upload_all("abc", row())
        for _ in range(3):
            store.aggregate()
        history = store.health_history()
        assert [(item["generation"], item["compared_with"], item["other_generation"]) for item in history] == [
            (3, "previous", 2),
            (3, "reference", 1),
            (2, "previous", 1),
            (2, "reference", 1),
        ]
        assert history[0]["js_mean"] == 0.0
        assert history[0]["computed_at"] == clock.now()
        assert store.health_history(limit=1) == history[:1]

    def test_report_has_the_names_of_the_answer(self, store, fleet, row):
        fleet.upload_all("abc", row())
        store.aggregate()
        answer = store.aggregate().to_dict()
        assert {"aggregated", "updated", "skipped", "removed", "generation", "js_mean", "js_max", "duration_ms"} <= set(
            answer
        )
        assert (answer["aggregated"], answer["updated"], answer["js_mean"]) == (1, 0, 0.0)

    def test_progress_is_told(self, store, fleet, row):
        fleet.upload_all("abc", *(row(f"p{number}:init") for number in range(5)))
        calls = []
        store.aggregate(progress=lambda *call: calls.append(call))
        assert [call[0] for call in calls] == ["read votes"] + ["aggregate"] * (len(calls) - 1)
        assert calls[0][1:] == calls[-1][1:] == (15, 15)
