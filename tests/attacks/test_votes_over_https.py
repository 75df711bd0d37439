"""Who may vote, at a running server: a program that three know of, and a hundred names by one enrolment token.

Days pass by the server's clock. Agents enrol with tokens, heartbeat and upload over mutual TLS.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from http_fleets import ShiftedClock, http_fleet
from server_place import server_place

from eguard import __version__
from eguard.fleet.voters import hours_to_be_heard
from eguard.mlops.poison_bounds import shift_bound
from eguard.server.principal import Principal, Role
from eguard.simulate.poisoned_fleet import forged_row, learned_rows
from eguard.wire.control import Heartbeat
from eguard.wire.distribution import vector_from_distribution

KEY = "implant:cron"
HOUR, DAY = 3600.0, 86_400.0
HONEST, SITES, SYBILS = 60, 20, 100
EVENTS = 1000


def honest_counts(n, seed=7):
    """Agents whose behaviour differs as in the documented tables: classes that halve, concentration 60."""
    mean = 0.5 ** np.arange(8)
    rng = np.random.default_rng(seed)
    return rng.multinomial(EVENTS, rng.dirichlet(60 * mean / mean.sum(), size=n))


def one_hot(at=7):
    return np.eye(8)[at]


@pytest.fixture(scope="module", params=[1, 2])
def rare(request, tmp_path_factory):
    """Two of three reporters forge what they report; then two honest ones join them."""
    folder = tmp_path_factory.mktemp(f"rare-{request.param}")
    with (
        server_place(folder, aggregation_max_colluders=request.param) as place,
        http_fleet(place, folder) as fleet,
    ):
        honest = honest_counts(3)
        fleet.enrol("honest-0", fleet.token()).upload(learned_rows(KEY, honest[0], 0.0))
        for name in ("forger-1", "forger-2"):
            fleet.enrol(name, fleet.token()).upload([forged_row(KEY, one_hot(), EVENTS, seq=1, now=0.0)])
        alone = fleet.aggregate(), fleet.agents["honest-0"].seeds()[1]
        for name, counts in zip(("honest-1", "honest-2"), honest[1:], strict=True):
            fleet.enrol(name, fleet.token()).upload(learned_rows(KEY, counts, 0.0))
        joined = fleet.aggregate(), fleet.agents["honest-0"].seeds()[1]
    return request.param, honest / EVENTS, alone, joined


def test_two_forged_of_three_are_published_or_withheld_as_the_tolerated_colluders_say(rare):
    colluders, _, (report, rows), _ = rare
    if colluders == 1:
        assert (rows[KEY].agent_count, rows[KEY].tolerated_faults) == (3, 1)
        # The row says what it bears: two are more than one, and the row is theirs.
        assert vector_from_distribution(rows[KEY].median_distribution).tolist() == one_hot().tolist()
    else:
        assert rows == {}
        assert report["skipped_by_reason"] == {"below_cohort": 1}


def test_beside_three_honest_reporters_the_two_stay_within_the_bound(rare):
    _, honest, _, (_, rows) = rare
    row = rows[KEY]
    assert (row.agent_count, row.tolerated_faults) == (5, 2)
    clean = np.median(honest, axis=0) / np.median(honest, axis=0).sum()
    moved = 0.5 * np.abs(vector_from_distribution(row.median_distribution) - clean).sum()
    assert 0.0 < moved <= shift_bound(honest, 2, "trimmed_median", clean) + 1e-6


class SybilStory:
    """Sixty agents of twenty sites, then a hundred names by one token that all report the same lie."""

    def __init__(self, place, fleet, clock):
        self.place, self.fleet, self.clock = place, fleet, clock
        self.names = {"honest": [], "sybil": []}
        self.stages = {}

    def enrol(self, kind, tokens, rows):
        """Enrol agents round the tokens, and have each heartbeat and upload once."""
        for number, upload in enumerate(rows):
            name = f"{kind}-{number:03d}"
            agent = self.fleet.enrol(name, tokens[number % len(tokens)])
            agent.heartbeat()
            agent.upload(upload)
            self.names[kind].append(name)

    def live(self, kind, hours):
        """Let hours pass with a heartbeat in each, the last one over the wire."""
        # At once, as agents do: those that wait for the writer go into one transaction.
        with ThreadPoolExecutor(16) as pool:
            for _ in range(hours - 1):
                self.clock.advance(HOUR)
                list(pool.map(self.heartbeat, self.names[kind]))
        self.clock.advance(HOUR)
        for name in self.names[kind]:
            self.fleet.agents[name].heartbeat()

    def heartbeat(self, name):
        beat = Heartbeat(agent_id=name, incarnation="simulated", agent_version=__version__, baseline_status="active")
        self.place.context.endpoints.heartbeat(Principal(name, Role.AGENT), beat)

    def note(self, stage):
        report = self.fleet.aggregate()
        self.stages[stage] = report, self.fleet.agents["honest-000"].seeds()[1].get(KEY)


@pytest.fixture(scope="module")
def sybils(tmp_path_factory):
    folder, clock = tmp_path_factory.mktemp("sybils"), ShiftedClock(days_ago=20)
    with (
        server_place(folder, clock=clock, aggregation_min_agent_age_seconds=DAY) as place,
        http_fleet(place, folder) as fleet,
    ):
        story = SybilStory(place, fleet, clock)
        tokens = [fleet.token(max_uses=HONEST // SITES) for _ in range(SITES)]
        story.enrol("honest", tokens, [learned_rows(KEY, counts, 0.0) for counts in honest_counts(HONEST)])
        story.note("honest are new")
        story.live("honest", 24)
        story.note("honest alone")
        lie = [forged_row(KEY, one_hot(), EVENTS, seq=1, now=0.0)]
        story.enrol("sybil", [fleet.token(max_uses=SYBILS)], [lie] * SYBILS)
        story.note("sybils are new")
        clock.advance(25 * HOUR)
        for name in story.names["sybil"]:
            fleet.agents[name].upload([forged_row(KEY, one_hot(), EVENTS, seq=2, now=0.0)])
        story.note("sybils are old and only upload")
        story.live("sybil", 22)
        story.note("sybils lack an hour")
        story.live("sybil", 1)
        story.note("sybils vote")
        yield story.stages


@pytest.mark.slow
def test_nobody_votes_before_a_day_of_heartbeats(sybils):
    report, row = sybils["honest are new"]
    assert row is None
    assert (report["agents"], report["votes"]) == (0, 0)
    assert sybils["honest alone"][1].agent_count == HONEST


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["sybils are new", "sybils are old and only upload", "sybils lack an hour"])
def test_names_without_their_day_of_heartbeats_change_nothing(sybils, stage):
    assert sybils[stage][1] == sybils["honest alone"][1]
    assert sybils[stage][0]["votes_beyond_token_share"] == 0


@pytest.mark.slow
def test_after_it_they_have_a_tenth_of_the_votes(sybils):
    report, row = sybils["sybils vote"]
    assert row.agent_count == HONEST + 6  # 6 of 66; a seventh would be more than a tenth
    assert report["votes_beyond_token_share"] == SYBILS - 6


@pytest.mark.slow
def test_and_move_no_more_than_so_few_can(sybils):
    honest = honest_counts(HONEST) / EVENTS
    clean, poisoned = (
        vector_from_distribution(sybils[stage][1].median_distribution) for stage in ("honest alone", "sybils vote")
    )
    moved = 0.5 * np.abs(poisoned - clean).sum()
    assert 0.0 < moved <= shift_bound(honest, 6, "trimmed_median", clean) + 1e-6 < 0.04
    # Uncapped they would be the majority, and the row theirs.
    assert shift_bound(honest, SYBILS, "trimmed_median", clean) > 0.9


def test_the_default_rule_is_a_day_and_a_tenth(tmp_path):
    with server_place(tmp_path) as place:
        fields = type(place.settings).model_fields
    assert hours_to_be_heard(fields["aggregation_min_agent_age_seconds"].default) == 24
    assert fields["aggregation_max_token_share"].default == 0.1
