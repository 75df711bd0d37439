"""What every fleet store keeps of uploads: idempotent, monotone, exact keys. Run against each implementation."""

import math
import unicodedata

import numpy as np
import pytest

from eguard.wire import encode_process_key, receive_baseline_batch

#: What `row()` uploads by default. Votes are kept as float32, so medians are exact to about 1e-7.
SIXTY_FORTY = pytest.approx({"process_exec": 0.6, "process_exit": 0.4}, abs=1e-7)


class TestUploads:
    def test_a_replay_changes_nothing(self, fleet, row):
        assert fleet.tally(fleet.upload("a", row(), row("ls:bash"))) == (2, 0, 0, 0)
        assert fleet.tally(fleet.upload("a", row(), row("ls:bash"))) == (0, 2, 0, 0)

    def test_a_late_batch_is_stale(self, store, fleet, row):
        fleet.upload("a", row(seq=5))
        assert fleet.tally(fleet.upload("a", row(seq=4, counts=(1, 99, 0, 0, 0, 0, 0, 0)))) == (0, 0, 1, 0)
        fleet.upload_all("bc", row(seq=1))
        store.aggregate()
        assert fleet.published()["bash:sshd"].median_distribution == SIXTY_FORTY

    def test_within_one_batch_the_highest_seq_wins(self, store, fleet, row):
        low, high = row(seq=1, counts=(100, 0, 0, 0, 0, 0, 0, 0)), row(seq=2, counts=(0, 100, 0, 0, 0, 0, 0, 0))
        assert fleet.tally(fleet.upload("a", low, high)) == (2, 0, 0, 0)
        assert fleet.tally(fleet.upload("b", high, low)) == (1, 0, 1, 0)
        assert fleet.tally(fleet.upload("c", high, high)) == (1, 1, 0, 0)
        store.aggregate()
        assert fleet.published()["bash:sshd"].median_distribution == {"process_exit": 1.0}

    def test_a_seq_used_for_two_contents_is_named(self, fleet, row):
        fleet.upload("a", row("ls:bash"), row(seq=3))
        result = fleet.upload("a", row("ls:bash"), row(seq=3, counts=(1, 99, 0, 0, 0, 0, 0, 0)))
        assert fleet.tally(result) == (0, 1, 0, 1)
        assert (result.rejected[0].index, result.rejected[0].code) == (1, "seq_reused")

    def test_agents_do_not_touch_each_others_rows(self, fleet, row):
        fleet.upload("a", row(seq=9))
        assert fleet.tally(fleet.upload("b", row(seq=1))) == (1, 0, 0, 0)

    def test_a_reinstalled_agent_is_heard_again(self, fleet, row):
        fleet.upload("a", row(seq=900))
        assert fleet.tally(fleet.upload("a", row(seq=1), incarnation="second")) == (1, 0, 0, 0)
        assert fleet.tally(fleet.upload("a", row(seq=2), incarnation="second")) == (1, 0, 0, 0)

    def test_a_batch_delayed_across_a_reinstallation_is_stale(self, fleet, row):
        fleet.upload("a", row(seq=900))
        fleet.upload("a", row(seq=1), incarnation="second")
        assert fleet.tally(fleet.upload("a", row(seq=901), incarnation="first")) == (0, 0, 1, 0)
        assert fleet.tally(fleet.upload("a", row(seq=1), incarnation="second")) == (0, 1, 0, 0)

    def test_incarnations_are_numbered_as_they_are_met(self, store):
        assert [store.register_agent("a", name) for name in ("x", "y", "x", "z", "y")] == [1, 2, 1, 3, 2]
        assert store.register_agent("b", "y") == 1

    def test_good_rows_of_a_bad_batch_are_stored_and_indices_are_those_of_the_body(self, store, fleet):
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
        assert fleet.tally(result) == (1, 0, 0, 2)
        assert [(bad.index, bad.code) for bad in result.rejected] == [(0, "invalid_process_key"), (2, "seq_reused")]

    def test_an_empty_batch_is_a_sign_of_life(self, fleet):
        assert fleet.tally(fleet.upload("a")) == (0, 0, 0, 0)

    def test_batches_of_any_size_are_stored(self, fleet, row):
        rows = [row(f"p{number}:init") for number in range(1000)]
        assert fleet.tally(fleet.upload("a", *rows)) == (1000, 0, 0, 0)
        assert fleet.tally(fleet.upload("a", *rows)) == (0, 1000, 0, 0)

    def test_random_delivery_agrees_with_a_dictionary(self, store, fleet, row):
        """Batches are duplicated, reordered and dropped; per key the newest delivered state must stand."""
        rng = np.random.default_rng(17)
        agents, incarnations = ("a", "b", "c", "d"), ("one", "two", "three")
        keys = [f"p{number}:init" for number in range(12)]
        sent = []
        for agent in agents:
            for order, incarnation in enumerate(incarnations):
                for seq in range(1, 15):
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
            assert fleet.tally(fleet.upload(agent, *rows, incarnation=incarnation)) == (*expected, 0)
        store.aggregate(min_agents=1, max_colluders=0, min_samples=1)
        for key in keys:
            votes = [value[1] for (_, name), value in model.items() if name == key]
            medians = np.median(
                [[vote.get(name, 0.0) for name in sorted(set().union(*votes))] for vote in votes], axis=0
            )
            expected = medians / medians.sum()
            got = [fleet.published()[key].median_distribution.get(name, 0.0) for name in sorted(set().union(*votes))]
            assert np.allclose(got, expected, atol=1e-6)


class TestKeys:
    def test_twins_are_kept_apart_byte_by_byte(self, store, fleet, row):
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
            assert fleet.tally(fleet.upload(agent, *rows)) == (len(names), 0, 0, 0)
        store.aggregate()
        rows = fleet.published()
        assert set(rows) == set(keys)
        for number, key in enumerate(keys):
            assert math.isclose(
                rows[key].median_distribution["process_exec"], (100 + number) / (101 + number), abs_tol=1e-7
            )

    def test_normal_forms_are_different_keys(self, fleet, row):
        composed, decomposed = "caf\u00e9:init", unicodedata.normalize("NFD", "caf\u00e9:init")
        fleet.upload("a", row(composed, seq=5))
        assert fleet.tally(fleet.upload("a", row(decomposed, seq=1))) == (1, 0, 0, 0)

    def test_pages_cover_every_key_once_in_order(self, store, fleet, row):
        keys = sorted(f"p{number:03d}:init" for number in range(25))
        fleet.upload_all("abc", *(row(key) for key in keys))
        store.aggregate()
        seen, cursor = [], ""
        while page := store.fleet_rows(limit=7, cursor=cursor):
            seen += [item.process_key for item in page]
            cursor = seen[-1]
        assert seen == keys
