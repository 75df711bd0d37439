"""What every fleet store publishes: cohorts, medians, generations, health. Run against each implementation."""

import math

import numpy as np
import pytest

from eguard.baseline import ProfileTable, apply_fleet_seed, pack_uploads, to_wire
from eguard.errors import ConfigError, FleetStoreError
from eguard.wire import ContinuousMoments, Moments, receive_baseline_batch

DAY = 86_400.0


class TestCohorts:
    def test_three_agents_make_a_key(self, store, fleet, row):
        fleet.upload_all("ab", row())
        report = store.aggregate()
        assert (report.aggregated, report.skipped) == (0, {"below_cohort": 1})
        fleet.upload("c", row())
        report = store.aggregate()
        assert (report.aggregated, report.updated, report.skipped) == (1, 1, {})
        assert fleet.published()["bash:sshd"].agent_count == 3

    @pytest.mark.parametrize(("max_colluders", "needed"), [(0, 3), (1, 3), (2, 5), (3, 7)])
    def test_the_cohort_grows_with_the_colluders_to_bear(self, store, fleet, row, max_colluders, needed):
        fleet.upload_all([f"agent-{number}" for number in range(needed - 1)], row())
        assert store.aggregate(max_colluders=max_colluders).aggregated == 0
        fleet.upload("one-more", row())
        assert store.aggregate(max_colluders=max_colluders).aggregated == 1
        assert fleet.published()["bash:sshd"].tolerated_faults == (needed - 1) // 2 >= max_colluders

    def test_two_forged_of_three_pass_at_one_colluder_and_not_at_two(self, store, fleet, row):
        honest, forged = row(counts=(90, 10, 0, 0, 0, 0, 0, 0)), row(counts=(0, 0, 0, 0, 0, 0, 0, 100))
        fleet.upload("honest", honest)
        fleet.upload_all(["liar-1", "liar-2"], forged)
        store.aggregate(max_colluders=1)
        assert fleet.published()["bash:sshd"].median_distribution == {"alert": 1.0}
        assert fleet.published()["bash:sshd"].tolerated_faults == 1
        report = store.aggregate(max_colluders=2)
        assert fleet.published() == {}
        assert report.removed == {"below_cohort": 1}

    def test_few_events_are_no_vote_and_many_are_one(self, store, fleet, row):
        fleet.upload_all("ab", row(counts=(100, 0, 0, 0, 0, 0, 0, 0)))
        fleet.upload("c", row(counts=(0, 29, 0, 0, 0, 0, 0, 0)))
        report = store.aggregate()
        assert (report.aggregated, report.votes_below_min_samples) == (0, 1)
        fleet.upload("c", row(counts=(0, 30, 0, 0, 0, 0, 0, 0), seq=2))
        assert store.aggregate().aggregated == 1
        fleet.upload("c", row(counts=(0, 10**12, 0, 0, 0, 0, 0, 0), seq=3))
        store.aggregate()
        assert fleet.published()["bash:sshd"].median_distribution == {"process_exec": 1.0}

    def test_agents_that_agree_on_nothing_publish_nothing(self, store, fleet, row):
        for number, agent in enumerate("abc"):
            fleet.upload(agent, row(counts=(np.eye(8, dtype=int)[number] * 100).tolist()))
        report = store.aggregate()
        assert (report.aggregated, report.skipped) == (0, {"below_min_mass": 1})

    def test_medians_are_normalised_and_their_mass_is_kept(self, store, fleet, row):
        for counts, agent in zip(
            [(70, 20, 10), (60, 30, 10), (65, 25, 10), (10, 10, 80), (20, 20, 60)], "abcde", strict=True
        ):
            fleet.upload(agent, row(counts=(*counts, 0, 0, 0, 0, 0)))
        store.aggregate()
        got = fleet.published()["bash:sshd"].median_distribution
        assert np.allclose(list(got.values()), [2 / 3, 2 / 9, 1 / 9], atol=1e-7)
        assert math.isclose(sum(got.values()), 1.0, abs_tol=1e-12)

    def test_silent_quarantined_and_new_agents_have_no_vote(self, store, fleet, row, clock):
        fleet.upload_all("abcd", row())
        store.quarantine("d")
        assert store.aggregate().agents == 3
        store.release("d")
        assert store.aggregate().agents == 4
        assert store.aggregate(min_agent_age_seconds=DAY).agents == 0
        assert store.aggregate().aggregated == 1
        clock.advance_to(clock.now() + 5 * DAY)
        fleet.upload_all("ab", row(seq=2))
        clock.advance_to(clock.now() + 3 * DAY)
        report = store.aggregate()
        assert (report.agents, report.removed) == (2, {"below_cohort": 1})

    def test_rows_expire_after_thirty_days_without_update(self, store, fleet, row, clock):
        fleet.upload_all("abc", row(), row("old:init"))
        clock.advance_to(clock.now() + 29 * DAY)
        fleet.upload_all("abc", row(seq=2))
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
    def test_huber_on_the_log_scale_reported_on_the_natural_one(self, store, fleet, row):
        means = [0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 50.0]
        for number, mean in enumerate(means):
            moments = Moments(count=40, mean=mean, m2=1.0)
            fleet.upload(f"agent-{number}", row(continuous=ContinuousMoments(interarrival=moments)))
        store.aggregate()
        continuous = store.fleet_details()[0]["continuous"]
        interarrival = continuous["interarrival"]
        assert math.isclose(interarrival["location"], math.expm1(1.11647), rel_tol=1e-5)
        assert math.isclose(interarrival["scale"], math.exp(1.11647) * 0.29652044, rel_tol=1e-5)
        assert interarrival["agent_count"] == 7
        assert "payload" not in continuous

    def test_a_feature_needs_its_own_cohort(self, store, fleet, row):
        moments = ContinuousMoments(payload=Moments(count=4, mean=2.0, m2=0.1))
        for number in range(5):
            fleet.upload(f"agent-{number}", row(continuous=moments if number < 2 else None))
        store.aggregate()
        assert store.fleet_details()[0]["continuous"] is None


class TestEcho:
    def test_seeds_do_not_come_back_as_votes(self, store, fleet, row, clock):
        """Three agents report a key, many take the seed, the three leave: nothing may keep the key alive."""
        fleet.upload_all(["r1", "r2", "r3"], row("implant:init"))
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
        assert fleet.published()["implant:init"].agent_count == 3
        for agent in ("r1", "r2", "r3"):
            store.remove_agent(agent)
        report = store.aggregate()
        assert "implant:init" not in fleet.published()
        assert report.removed == {"no_votes": 1}
        assert fleet.published()["bash:sshd"].agent_count == 60
