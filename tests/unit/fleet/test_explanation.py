"""Evidence: every line's number by hand, and the way it points."""

import numpy as np
import pytest
from scipy import stats

from eguard.fleet.ballots import Ballots, Voter
from eguard.fleet.explanation import SIGNIFICANCE, Surroundings, hypergeometric_tail, weigh_evidence
from eguard.fleet.influence import KeyVotes, agreed, trace_shift

AGENTS = 40
QUIET = Surroundings(moved_keys=0, common_keys=10, new_key_share=0.0, reference_at=100.0)


def voters(**chosen):
    """Forty voters that differ in nothing, but for what is chosen by position."""
    plain = Voter("", "", "office", "linux", "192.0.2.0/24", "1.0", "7", 50.0, 0)
    return [
        plain._replace(agent_id=f"a{number:02d}", **{name: choose(number) for name, choose in chosen.items()})
        for number in range(AGENTS)
    ]


def votes(liars=0, share=1.0, *, noise=True):
    rng = np.random.default_rng(3)
    found = []
    for number in range(6):
        own = rng.dirichlet(60 * rng.dirichlet(np.full(8, 2.0)), AGENTS)
        reference = agreed(own)
        moving = slice(0, liars or AGENTS)
        own[moving] = (1 - share) * own[moving] + share * np.eye(8)[3]
        if not noise:
            own[moving] = own[0]
        cast = rng.multinomial(1000, own) / 1000 if noise else own
        found.append(KeyVotes(f"k{number}:i", np.arange(AGENTS), cast, np.full(AGENTS, 1000), reference))
    return found


def lines(keys, people, around=QUIET):
    found = weigh_evidence(Ballots(people, keys), trace_shift(keys, AGENTS), around)
    return {line.name: line for line in found}


@pytest.mark.parametrize(
    ("k", "marked", "drawn", "total"), [(5, 5, 12, 40), (12, 12, 12, 40), (1, 3, 5, 9), (3, 4, 4, 5)]
)
def test_the_tail_is_that_of_the_hypergeometric_distribution(k, marked, drawn, total):
    assert hypergeometric_tail(k, marked, drawn, total) == pytest.approx(
        stats.hypergeom.sf(k - 1, total, marked, drawn), rel=1e-9
    )


def test_liars_that_share_a_token_and_a_network_are_shown_by_both():
    people = voters(
        token=lambda number: "stolen" if number < 10 else f"site-{number % 3}",
        subnet=lambda number: "198.51.100.0/24" if number < 9 else "192.0.2.0/24",
    )
    found = lines(votes(liars=10), people)
    token, network = found["same enrolment token"], found["same network"]
    assert token.measured == "10 of 10 in the group are of stolen, 10 of 40 of all"
    # One value of four was looked at: 4 / C(40, 10).
    assert token.p_value == pytest.approx(4 * stats.hypergeom.sf(9, 40, 10, 10), rel=1e-9)
    assert (token.points, network.points) == ("adversarial", "adversarial")
    assert found["two groups of votes"].points == "adversarial"
    assert found["same group"].points == found["same agent version"].points == "neither"


def test_an_update_that_reached_those_who_moved_points_at_itself():
    people = voters(
        agent_version=lambda number: "1.1" if number < 12 else "1.0", os=lambda n: "windows" if n < 12 else "x"
    )
    found = lines(votes(liars=12, share=0.3), people)
    assert found["same agent version"].points == found["same operating system"].points == "organic"


def test_what_a_few_share_by_chance_is_no_evidence():
    people = voters(token=lambda number: f"site-{number % 4}", alerts=lambda number: number % 2)
    found = lines(votes(liars=12), people)
    assert found["same enrolment token"].points == "neither"
    assert found["same enrolment token"].p_value > SIGNIFICANCE
    assert found["with alerts since the reference"].measured == "6 of 12 in the group, 20 of 40 of all"
    assert found["with alerts since the reference"].points == "neither"


def test_newcomers_and_alerting_hosts_among_the_movers_count():
    people = voters(enrolled_at=lambda n: 200.0 if n < 11 else 50.0, alerts=lambda n: 3 if n < 11 else 0)
    found = lines(votes(liars=11), people)
    assert found["enrolled since the reference"].points == "adversarial"
    assert found["with alerts since the reference"].points == "adversarial"


def test_votes_that_are_more_alike_than_counting_allows_were_not_counted():
    forged, honest = (
        lines(votes(liars=12, share=0.5, noise=False), voters()),
        lines(votes(liars=12, share=0.5), voters()),
    )
    assert (forged["how alike the group votes"].value, forged["how alike the group votes"].points) == (
        0.0,
        "adversarial",
    )
    assert honest["how alike the group votes"].points == "neither"


def test_a_change_of_everybody_points_at_itself_and_at_nobody():
    found = lines(votes(share=0.2), voters(token=lambda number: f"site-{number % 4}"), QUIET)
    assert found["voters that moved"].value > 0.9
    assert found["voters that moved"].points == found["smallest set that explains it"].points == "organic"
    assert "adversarial" not in {line.points for line in found.values()}


def test_new_keys_point_at_new_software():
    many = Surroundings(moved_keys=3, common_keys=10, new_key_share=0.2, reference_at=0.0)
    found = lines(votes(share=0.2), voters(), many)
    assert found["new process keys"].points == "organic"
    assert found["keys that moved"].value == pytest.approx(0.3)


def test_every_line_says_what_it_cannot_tell():
    assert all(line.cannot_tell.endswith(".") for line in lines(votes(liars=12), voters()).values())
