"""What every fleet store keeps: idempotent uploads, whole generations, exact keys. Run against each implementation."""

import math
import unicodedata

import numpy as np
import pytest

from eguard.baseline import ProfileTable, apply_fleet_seed, pack_uploads, to_wire
from eguard.errors import ConfigError, FleetStoreError
from eguard.wire import (
    BaselineBatch,
    BaselineRow,
    ContinuousMoments,
    Moments,
    distribution_from_vector,
    encode_baseline_batch,
    encode_process_key,
    entropy_threshold,
    receive_baseline_batch,
)

DAY = 86_400.0


def row(key="bash:sshd", counts=(60, 40, 0, 0, 0, 0, 0, 0), seq=1, **changes):
    total = sum(counts)
    values = {
        "process_key": key,
        "event_distribution": distribution_from_vector(np.array(counts) / total),
        "sample_count": total,
        "entropy_threshold": entropy_threshold(total),
        "learned_at_unix": 1_771_000_000.0,
        "seq": seq,
    }
    return BaselineRow(**{**values, **changes})


def upload(store, agent, *rows, incarnation="first"):
    """Send rows the way an agent does: encoded, decoded, stored."""
    body = encode_baseline_batch(BaselineBatch(agent_id=agent, batch_id="b", baselines=list(rows)))
    return store.upsert_received(incarnation, receive_baseline_batch(body))


def tally(result):
    return result.accepted, result.unchanged, result.stale, len(result.rejected)


def close(distribution, **expected):
    """Votes are kept as float32, so medians are exact to about 1e-7."""
    return distribution == pytest.approx(expected, abs=1e-7)


def published(store, generation=None):
    return {row.process_key: row for row in store.fleet_rows(generation)}


def fleet_of(store, agents, *rows):
    for agent in agents:
        upload(store, agent, *rows)


class TestUploads:
    def test_a_replay_changes_nothing(self, store):
        assert tally(upload(store, "a", row(), row("ls:bash"))) == (2, 0, 0, 0)
        assert tally(upload(store, "a", row(), row("ls:bash"))) == (0, 2, 0, 0)

    def test_a_late_batch_is_stale(self, store):
        upload(store, "a", row(seq=5))
        assert tally(upload(store, "a", row(seq=4, counts=(1, 99, 0, 0, 0, 0, 0, 0)))) == (0, 0, 1, 0)
        fleet_of(store, "bc", row(seq=1))
        store.aggregate()
        assert close(published(store)["bash:sshd"].median_distribution, process_exec=0.6, process_exit=0.4)

    def test_within_one_batch_the_highest_seq_wins(self, store):
        low, high = row(seq=1, counts=(100, 0, 0, 0, 0, 0, 0, 0)), row(seq=2, counts=(0, 100, 0, 0, 0, 0, 0, 0))
        assert tally(upload(store, "a", low, high)) == (2, 0, 0, 0)
        assert tally(upload(store, "b", high, low)) == (1, 0, 1, 0)
        assert tally(upload(store, "c", high, high)) == (1, 1, 0, 0)
        store.aggregate()
        assert published(store)["bash:sshd"].median_distribution == {"process_exit": 1.0}

    def test_a_seq_used_for_two_contents_is_named(self, store):
        upload(store, "a", row("ls:bash"), row(seq=3))
        result = upload(store, "a", row("ls:bash"), row(seq=3, counts=(1, 99, 0, 0, 0, 0, 0, 0)))
        assert tally(result) == (0, 1, 0, 1)
        assert (result.rejected[0].index, result.rejected[0].code) == (1, "seq_reused")

    def test_agents_do_not_touch_each_others_rows(self, store):
        upload(store, "a", row(seq=9))
        assert tally(upload(store, "b", row(seq=1))) == (1, 0, 0, 0)

    def test_a_reinstalled_agent_is_heard_again(self, store):
        upload(store, "a", row(seq=900))
        assert tally(upload(store, "a", row(seq=1), incarnation="second")) == (1, 0, 0, 0)
        assert tally(upload(store, "a", row(seq=2), incarnation="second")) == (1, 0, 0, 0)

    def test_a_batch_delayed_across_a_reinstallation_is_stale(self, store):
        upload(store, "a", row(seq=900))
        upload(store, "a", row(seq=1), incarnation="second")
        assert tally(upload(store, "a", row(seq=901), incarnation="first")) == (0, 0, 1, 0)
        assert tally(upload(store, "a", row(seq=1), incarnation="second")) == (0, 1, 0, 0)

    def test_incarnations_are_numbered_as_they_are_met(self, store):
        assert [store.register_agent("a", name) for name in ("x", "y", "x", "z", "y")] == [1, 2, 1, 3, 2]
        assert store.register_agent("b", "y") == 1

    def test_good_rows_of_a_bad_batch_are_stored_and_indices_are_those_of_the_body(self, store):
        body = (
            b'{"agent_id":"a","batch_id":"b","baselines":['
            b'{"process_key":"bad","event_distribution":{"alert":1},"sample_count":50,"entropy_threshold":2,'
            b'"learned_at_unix":0,"seq":1},'
            b'{"process_key":"good:key","event_distribution":{"alert":1},"sample_count":50,"entropy_threshold":2,'
            b'"learned_at_unix":0,"seq":1},'
            b'{"process_key":"good:key","event_distribution":{"login":1},"sample_count":50,"entropy_threshold":2,'
            b'"learned_at_unix":0,"seq":1}]}'
        )
        result = store.upsert_received("first", receive_baseline_batch(body))
        assert tally(result) == (1, 0, 0, 2)
        assert [(bad.index, bad.code) for bad in result.rejected] == [(0, "invalid_process_key"), (2, "seq_reused")]

    def test_an_empty_batch_is_a_sign_of_life(self, store):
        assert tally(upload(store, "a")) == (0, 0, 0, 0)

    def test_batches_of_any_size_are_stored(self, store):
        rows = [row(f"p{number}:init") for number in range(1000)]
        assert tally(upload(store, "a", *rows)) == (1000, 0, 0, 0)
        assert tally(upload(store, "a", *rows)) == (0, 1000, 0, 0)

    def test_random_delivery_agrees_with_a_dictionary(self, store):
        """Batches are duplicated, reordered and dropped; per key the newest delivered state must stand."""
        rng = np.random.default_rng(17)
        agents, incarnations = ("a", "b", "c", "d"), ("one", "two", "three")
        keys = [f"p{number}:init" for number in range(12)]
        sent = []
        for agent in agents:
            for order, incarnation in enumerate(incarnations):
                for seq in range(1, 25):
                    chosen = rng.choice(len(keys), rng.integers(1, 5), replace=False)
                    counts = rng.multinomial(100, np.full(8, 1 / 8), size=len(chosen))
                    rows = [row(keys[k], c.tolist(), seq) for k, c in zip(chosen, counts, strict=True)]
                    sent.append((agent, order, incarnation, rows))
        # Incarnations are first heard of in order; after that anything goes.
        for agent in agents:
            for incarnation in incarnations:
                store.register_agent(agent, incarnation)
        dropped = rng.random(len(sent)) < 0.2
        deliveries = [
            batch for batch, lost in zip(sent, dropped, strict=True) if not lost for _ in range(rng.integers(1, 4))
        ]
        model = {}
        for number in rng.permutation(len(deliveries)):
            agent, order, incarnation, rows = deliveries[number]
            expected = [0, 0, 0]
            for item in rows:
                newer, held = (order, item.seq), model.get((agent, item.process_key), ((-1, -1), None))[0]
                expected[0 if newer > held else 1 if newer == held else 2] += 1
                if newer > held:
                    model[agent, item.process_key] = (newer, item.event_distribution)
            assert tally(upload(store, agent, *rows, incarnation=incarnation)) == (*expected, 0)
        store.aggregate(min_agents=1, max_colluders=0, min_samples=1)
        for key in keys:
            votes = [value[1] for (_, name), value in model.items() if name == key]
            medians = np.median(
                [[vote.get(name, 0.0) for name in sorted(set().union(*votes))] for vote in votes], axis=0
            )
            expected = medians / medians.sum()
            got = [published(store)[key].median_distribution.get(name, 0.0) for name in sorted(set().union(*votes))]
            assert np.allclose(got, expected, atol=1e-6)


class TestKeys:
    def test_twins_are_kept_apart_byte_by_byte(self, store):
        names = [
            "bash",
            "Bash",
            "BASH",
            "bash ",
            " bash",
            "bash\u00a0",
            "bash\u200b",
            "bäsh",
            "ba\u0308sh",
            "basch",
            "\uff42ash",
            "ß",
            "ss",
            "\u0131",
            "i",
            "İ",
            "I",
            "é",
            "e\u0301",
            "e",
            "æ",
            "ae",
            "🦀",
            "🦞",
            "Å",
            "\u212b",
            "A\u030a",
            "a%b",
            "a:b",
            "a\x00b",
            "a\x01b",
            "ﬁ",
            "fi",
            "\udc80",
            "\udc81",
        ]
        keys = [encode_process_key(name, "init") for name in names]
        assert len(set(keys)) == len(names)
        for agent in "abc":
            rows = [row(key, (100 + number, 1, 0, 0, 0, 0, 0, 0)) for number, key in enumerate(keys)]
            assert tally(upload(store, agent, *rows)) == (len(names), 0, 0, 0)
        store.aggregate()
        rows = published(store)
        assert set(rows) == set(keys)
        for number, key in enumerate(keys):
            assert math.isclose(
                rows[key].median_distribution["process_exec"], (100 + number) / (101 + number), abs_tol=1e-7
            )

    def test_normal_forms_are_different_keys(self, store):
        composed, decomposed = "caf\u00e9:init", unicodedata.normalize("NFD", "caf\u00e9:init")
        upload(store, "a", row(composed, seq=5))
        assert tally(upload(store, "a", row(decomposed, seq=1))) == (1, 0, 0, 0)

    def test_pages_cover_every_key_once_in_order(self, store):
        keys = sorted(f"p{number:03d}:init" for number in range(25))
        fleet_of(store, "abc", *(row(key) for key in keys))
        store.aggregate()
        seen, cursor = [], ""
        while page := store.fleet_rows(limit=7, cursor=cursor):
            seen += [item.process_key for item in page]
            cursor = seen[-1]
        assert seen == keys


class TestCohorts:
    def test_three_agents_make_a_key(self, store):
        fleet_of(store, "ab", row())
        report = store.aggregate()
        assert (report.aggregated, report.skipped) == (0, {"below_cohort": 1})
        upload(store, "c", row())
        report = store.aggregate()
        assert (report.aggregated, report.updated, report.skipped) == (1, 1, {})
        assert published(store)["bash:sshd"].agent_count == 3

    @pytest.mark.parametrize(("max_colluders", "needed"), [(0, 3), (1, 3), (2, 5), (3, 7)])
    def test_the_cohort_grows_with_the_colluders_to_bear(self, store, max_colluders, needed):
        fleet_of(store, [f"agent-{number}" for number in range(needed - 1)], row())
        assert store.aggregate(max_colluders=max_colluders).aggregated == 0
        upload(store, "one-more", row())
        assert store.aggregate(max_colluders=max_colluders).aggregated == 1
        assert published(store)["bash:sshd"].tolerated_faults == (needed - 1) // 2 >= max_colluders

    def test_two_forged_of_three_pass_at_one_colluder_and_not_at_two(self, store):
        honest, forged = row(counts=(90, 10, 0, 0, 0, 0, 0, 0)), row(counts=(0, 0, 0, 0, 0, 0, 0, 100))
        upload(store, "honest", honest)
        fleet_of(store, ["liar-1", "liar-2"], forged)
        store.aggregate(max_colluders=1)
        assert published(store)["bash:sshd"].median_distribution == {"alert": 1.0}
        assert published(store)["bash:sshd"].tolerated_faults == 1
        report = store.aggregate(max_colluders=2)
        assert published(store) == {}
        assert report.removed == {"below_cohort": 1}

    def test_few_events_are_no_vote_and_many_are_one(self, store):
        fleet_of(store, "ab", row(counts=(100, 0, 0, 0, 0, 0, 0, 0)))
        upload(store, "c", row(counts=(0, 29, 0, 0, 0, 0, 0, 0)))
        report = store.aggregate()
        assert (report.aggregated, report.votes_below_min_samples) == (0, 1)
        upload(store, "c", row(counts=(0, 30, 0, 0, 0, 0, 0, 0), seq=2))
        assert store.aggregate().aggregated == 1
        upload(store, "c", row(counts=(0, 10**12, 0, 0, 0, 0, 0, 0), seq=3))
        store.aggregate()
        assert published(store)["bash:sshd"].median_distribution == {"process_exec": 1.0}

    def test_agents_that_agree_on_nothing_publish_nothing(self, store):
        for number, agent in enumerate("abc"):
            upload(store, agent, row(counts=(np.eye(8, dtype=int)[number] * 100).tolist()))
        report = store.aggregate()
        assert (report.aggregated, report.skipped) == (0, {"below_min_mass": 1})

    def test_medians_are_normalised_and_their_mass_is_kept(self, store):
        for counts, agent in zip(
            [(70, 20, 10), (60, 30, 10), (65, 25, 10), (10, 10, 80), (20, 20, 60)], "abcde", strict=True
        ):
            upload(store, agent, row(counts=(*counts, 0, 0, 0, 0, 0)))
        store.aggregate()
        got = published(store)["bash:sshd"].median_distribution
        assert np.allclose(list(got.values()), [2 / 3, 2 / 9, 1 / 9], atol=1e-7)
        assert math.isclose(sum(got.values()), 1.0, abs_tol=1e-12)

    def test_silent_quarantined_and_new_agents_have_no_vote(self, store, clock):
        fleet_of(store, "abcd", row())
        store.quarantine("d")
        assert store.aggregate().agents == 3
        store.release("d")
        assert store.aggregate().agents == 4
        assert store.aggregate(min_agent_age_seconds=DAY).agents == 0
        assert store.aggregate().aggregated == 1
        clock.advance_to(clock.now() + 5 * DAY)
        fleet_of(store, "ab", row(seq=2))
        clock.advance_to(clock.now() + 3 * DAY)
        report = store.aggregate()
        assert (report.agents, report.removed) == (2, {"below_cohort": 1})

    def test_rows_expire_after_thirty_days_without_update(self, store, clock):
        fleet_of(store, "abc", row(), row("old:init"))
        clock.advance_to(clock.now() + 29 * DAY)
        fleet_of(store, "abc", row(seq=2))
        clock.advance_to(clock.now() + 1.5 * DAY)
        assert store.aggregate().aggregated == 1
        assert store.purge_expired() == 3
        assert store.purge_expired() == 0

    def test_unknown_agents_cannot_be_quarantined(self, store):
        with pytest.raises(FleetStoreError, match="nobody"):
            store.quarantine("nobody")

    @pytest.mark.parametrize(
        "wrong",
        [{"min_agents": 0}, {"max_colluders": -1}, {"min_samples": 0}, {"min_mass": 0.0}, {"active_seconds": 0}],
    )
    def test_rules_out_of_range_are_named(self, store, wrong):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            store.aggregate(**wrong)


class TestContinuous:
    def test_huber_on_the_log_scale_reported_on_the_natural_one(self, store):
        means = [0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 50.0]
        for number, mean in enumerate(means):
            moments = Moments(count=40, mean=mean, m2=1.0)
            upload(store, f"agent-{number}", row(continuous=ContinuousMoments(interarrival=moments)))
        store.aggregate()
        continuous = store.fleet_details()[0]["continuous"]
        interarrival = continuous["interarrival"]
        assert math.isclose(interarrival["location"], math.expm1(1.11647), rel_tol=1e-5)
        assert math.isclose(interarrival["scale"], math.exp(1.11647) * 0.29652044, rel_tol=1e-5)
        assert interarrival["agent_count"] == 7
        assert "payload" not in continuous

    def test_a_feature_needs_its_own_cohort(self, store):
        moments = ContinuousMoments(payload=Moments(count=4, mean=2.0, m2=0.1))
        for number in range(5):
            upload(store, f"agent-{number}", row(continuous=moments if number < 2 else None))
        store.aggregate()
        assert store.fleet_details()[0]["continuous"] is None


class TestEcho:
    def test_seeds_do_not_come_back_as_votes(self, store, clock):
        """Three agents report a key, many take the seed, the three leave: nothing may keep the key alive."""
        fleet_of(store, ["r1", "r2", "r3"], row("implant:init"))
        store.aggregate()
        seeds = store.fleet_rows()
        generation = store.current_generation()
        for number in range(60):
            table = ProfileTable(capacity=16)
            apply_fleet_seed(table, seeds, generation)
            keys = [("implant", "init")] + [("bash", "sshd")] * 40
            times = clock.now() + np.arange(len(keys), dtype=np.float64)
            slots = table.slots_for(keys, times)
            # The seeded key is seen (it has a slot and a prior) and has no event of its own.
            table.observe(slots[1:], np.zeros(40, dtype=np.int8), times[1:], np.zeros(40, dtype=np.int64))
            assert table.posterior(slots[:1])[0].argmax() == 0
            for body in pack_uploads(f"fresh-{number}", to_wire(table)).bodies:
                store.upsert_received("first", receive_baseline_batch(body))
        report = store.aggregate()
        assert report.agents == 63
        assert published(store)["implant:init"].agent_count == 3
        for agent in ("r1", "r2", "r3"):
            store.remove_agent(agent)
        report = store.aggregate()
        assert "implant:init" not in published(store)
        assert report.removed == {"no_votes": 1}
        assert published(store)["bash:sshd"].agent_count == 60


class TestGenerations:
    def test_numbers_rise_and_earlier_rows_stay_readable(self, store):
        fleet_of(store, "abc", row())
        assert store.current_generation() == 0
        assert store.fleet_rows() == []
        first = store.aggregate().generation
        fleet_of(store, "abc", row(counts=(0, 0, 100, 0, 0, 0, 0, 0), seq=2))
        second = store.aggregate().generation
        assert (first, second, store.current_generation()) == (1, 2, 2)
        assert close(published(store, 1)["bash:sshd"].median_distribution, process_exec=0.6, process_exit=0.4)
        assert published(store, 2) == published(store)

    def test_going_back_publishes_the_old_rows_under_a_new_number(self, store):
        fleet_of(store, "abc", row(), row("ls:bash"))
        store.aggregate()
        fleet_of(store, "abc", row(counts=(0, 0, 100, 0, 0, 0, 0, 0), seq=2))
        store.aggregate()
        assert store.rollback(1) == 3
        back = published(store)
        assert {item.source for item in back.values()} == {"rollback"}
        for key, item in published(store, 1).items():
            assert back[key].median_distribution == item.median_distribution
        assert store.aggregate().generation == 4
        assert store.rollback(3) == 5

    @pytest.mark.parametrize("generation", [0, 2, -1, 10**9])
    def test_there_is_no_way_back_to_what_never_was(self, store, generation):
        fleet_of(store, "abc", row())
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

    def test_old_generations_are_pruned_and_the_pinned_one_kept(self, store, monkeypatch):
        monkeypatch.setattr("eguard.fleet.generations.KEEP_GENERATIONS", 3)
        fleet_of(store, "abc", row())
        for _ in range(8):
            store.aggregate()
        assert store.reference_generation() == 1
        assert published(store, 1)
        assert published(store, 5)
        with pytest.raises(FleetStoreError) as caught:
            store.fleet_rows(4)
        assert caught.value.context["reason"] == "pruned_generation"

    def test_every_agent_gives_the_same_rows_in_any_order(self, store_factory):
        rng = np.random.default_rng(23)
        uploads = [
            (
                f"agent-{number}",
                [row(f"p{key}:init", rng.multinomial(200, np.ones(8) / 8).tolist()) for key in range(6)],
            )
            for number in range(9)
        ]
        results = []
        for _ in range(2):
            store = store_factory()
            for number in rng.permutation(len(uploads)):
                upload(store, uploads[number][0], *uploads[number][1])
            store.aggregate()
            results.append(store.fleet_rows())
        assert results[0] == results[1]


class TestHealth:
    def test_the_first_generation_has_no_divergence(self, store):
        fleet_of(store, "abc", row())
        report = store.aggregate()
        assert report.health == ()
        assert report.to_dict()["js_mean"] is None

    def test_mean_is_weighted_by_agents_and_the_largest_key_is_named(self, store):
        still, moved = (50, 30, 20, 0, 0, 0, 0, 0), (20, 30, 50, 0, 0, 0, 0, 0)
        fleet_of(store, [f"agent-{number}" for number in range(9)], row("still:init", still))
        fleet_of(store, ["agent-0", "agent-1", "agent-2"], row("moved:init", still))
        store.aggregate()
        fleet_of(store, ["agent-0", "agent-1", "agent-2"], row("moved:init", moved, seq=2))
        previous = store.aggregate().against("previous")
        assert math.isclose(previous.js_max_nats, 0.066414314, rel_tol=1e-6)
        assert previous.js_max_key == "moved:init"
        assert math.isclose(previous.js_mean_nats, 0.066414314 * 3 / 12, rel_tol=1e-6)
        information = 2 / math.pi * 3 * 100
        assert math.isclose(previous.js_max_bias_nats, 2 / 8 * (2 / information), rel_tol=1e-12)
        assert previous.js_excess_nats < previous.js_mean_nats

    def test_slow_drift_shows_against_the_reference_only(self, store):
        steps = 20
        for step in range(steps + 1):
            share = 70 - 60 * step // steps
            fleet_of(store, "abc", row(counts=(share, 20, 80 - share, 0, 0, 0, 0, 0), seq=step + 1))
            report = store.aggregate()
        assert report.against("previous").js_max_nats < 0.01
        assert math.isclose(report.against("reference").js_max_nats, 0.253101615, rel_tol=1e-5)
        assert store.pin_reference() == steps + 1
        assert store.aggregate().against("reference").js_max_nats == 0.0

    def test_new_and_vanished_keys_are_counted_and_named_not_compared(self, store):
        fleet_of(store, "abc", row("stays:init"), row("goes:init"))
        store.aggregate()
        fleet_of(store, "def", row("comes:init"), row("stays:init"))
        for agent in "abc":
            store.remove_agent(agent)
        previous = store.aggregate().against("previous")
        assert (previous.common_keys, previous.new_keys, previous.vanished_keys) == (1, ("comes:init",), ("goes:init",))
        assert (previous.new_key_share, previous.new_key_count, previous.vanished_key_count) == (0.5, 1, 1)
        assert previous.js_mean_nats == 0.0

    def test_every_comparison_is_kept(self, store, clock):
        fleet_of(store, "abc", row())
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

    def test_report_has_the_names_of_the_answer(self, store):
        fleet_of(store, "abc", row())
        store.aggregate()
        answer = store.aggregate().to_dict()
        assert {"aggregated", "updated", "skipped", "removed", "generation", "js_mean", "js_max", "duration_ms"} <= set(
            answer
        )
        assert (answer["aggregated"], answer["updated"], answer["js_mean"]) == (1, 0, 0.0)

    def test_progress_is_told(self, store):
        fleet_of(store, "abc", *(row(f"p{number}:init") for number in range(5)))
        calls = []
        store.aggregate(progress=lambda *call: calls.append(call))
        assert calls
        assert calls[-1][0] == "aggregate"
        assert calls[-1][1] == calls[-1][2] == len(calls)
