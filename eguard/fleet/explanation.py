"""Evidence on a shift of the fleet's baseline: for honest agents that changed, and for liars.

Each line says what was measured, its number, and which way it points. None is a verdict, and each says what it cannot
tell: an operator reads them side by side.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

from eguard.fleet.ballots import Ballots, Voter
from eguard.fleet.influence import CLEAR_SEPARATION, Influence, KeyVotes, agreed, total_variation

Points = Literal["organic", "adversarial", "neither"]
Mask = NDArray[np.bool_]

#: Probability, corrected for the values that were looked at, below which a concentration is no chance.
SIGNIFICANCE: Final = 1e-3
#: A minority cannot have more than about 0.6 of the voters stand past half of the shift.
WIDE_SHARE: Final = 0.75
#: Votes closer together than this share of what counting events alone makes them differ were not counted.
_TOO_ALIKE: Final = 0.5
_NEW_KEYS: Final = 0.05
#: A key moved if its divergence is so many times what sampling alone gives; by chance one in 250 is.
MOVED_FACTOR: Final = 3.0


@dataclass(frozen=True, slots=True)
class Evidence:
    """One line: what was measured, in words and as a number, which way it points, and what it cannot tell."""

    name: str
    measured: str
    value: float | None
    p_value: float | None
    points: Points
    cannot_tell: str


class _Reading(NamedTuple):
    """What a concentration in the group is called, where it points if it is no chance, and what it cannot tell."""

    name: str
    points: Points
    cannot_tell: str

    def line(self, words: str, value: float | None, p_value: float) -> Evidence:
        points: Points = self.points if p_value < SIGNIFICANCE else "neither"
        return Evidence(self.name, words, value, p_value, points, self.cannot_tell)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the votes: moved and common keys, share of new keys, and the reference's age."""

    moved_keys: int
    common_keys: int
    new_key_share: float
    reference_at: float


#: What is shared, how to read it off a voter, where it points when the group has it, and what that cannot tell.
_SHARED: Final[tuple[tuple[str, Callable[[Voter], str], Points, str], ...]] = (
    (
        "same enrolment token",
        lambda voter: voter.token,
        "adversarial",
        "A department that was enrolled with one token may have changed its work.",
    ),
    (
        "same network",
        lambda voter: voter.subnet,
        "adversarial",
        "A site that got new software looks the same; agents behind one gateway share its address.",
    ),
    (
        "same group",
        lambda voter: voter.group,
        "organic",
        "Whoever holds a token of that group chooses its members.",
    ),
    (
        "same operating system",
        lambda voter: voter.os,
        "organic",
        "Agents report their system themselves.",
    ),
    (
        "same agent version",
        lambda voter: voter.agent_version,
        "organic",
        "Agents report their version themselves; an update that counts otherwise and a forged agent look alike.",
    ),
    (
        "same bundle version",
        lambda voter: voter.bundle_version,
        "organic",
        "Agents report their bundle themselves.",
    ),
)


def weigh_evidence(ballots: Ballots, influence: Influence, around: Surroundings) -> list[Evidence]:
    """Return every line of evidence about a shift, in a fixed order."""
    group, voters = influence.group, influence.keys > 0
    return [
        _breadth(ballots.keys),
        _smallest_set(influence, int(voters.sum())),
        _separation(influence, int(voters.sum())),
        _alikeness(ballots.keys, group),
        *_concentrations(ballots.voters, group, voters),
        _enrolled_since(ballots.voters, group, voters, around.reference_at),
        _alerting(ballots.voters, group, voters),
        _new_keys(around),
        _moved_keys(around),
    ]


def hypergeometric_tail(drawn_marked: int, marked: int, drawn: int, total: int) -> float:
    """Return the probability of `drawn_marked` or more among `drawn` of `total`, of which `marked` (Fisher, one side).

    Examples
    --------
    >>> round(hypergeometric_tail(5, 5, 5, 10), 6)  # 1 / C(10, 5)
    0.003968
    >>> hypergeometric_tail(0, 5, 5, 10)
    1.0
    """
    if drawn_marked <= max(0, drawn + marked - total):
        return 1.0
    k = np.arange(drawn_marked, min(marked, drawn) + 1)
    ways = _log_choose(marked, k) + _log_choose(total - marked, drawn - k)
    logs = ways - _log_choose(total, np.array(drawn))
    return float(min(1.0, np.exp(logs).sum()))


def _log_choose(n: int, k: NDArray[np.int64]) -> NDArray[np.float64]:
    chosen: NDArray[np.float64] = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return chosen


def _breadth(keys: Sequence[KeyVotes]) -> Evidence:
    past = votes = 0
    for key in keys:
        direction = agreed(key.votes) - key.reference
        past += int(np.count_nonzero((key.votes - key.reference) @ direction > 0.5 * float(direction @ direction)))
        votes += len(key.votes)
    share = past / votes if votes else 0.0
    return Evidence(
        "voters that moved",
        f"{past} of {votes} votes ({share:.0%}) stand past half of the shift",
        share,
        None,
        "organic" if share >= WIDE_SHARE else "neither",
        "A small shift lies within what agents differ by anyway: then about 60 % is ordinary, whoever made it.",
    )


def _smallest_set(influence: Influence, voters: int) -> Evidence:
    number = influence.smallest_set
    share = number / voters if voters else 1.0
    undone = dict(influence.curve)[number]
    points: Points = "organic" if share > 0.5 else "adversarial" if influence.stands_apart else "neither"
    return Evidence(
        "smallest set that explains it",
        f"leaving out {number} of {voters} agents ({share:.0%}) undoes {undone:.0%} of it",
        share,
        None,
        points,
        "A small shift of everybody is undone by leaving out few as well; more than half of the agents may lie, too.",
    )


def _separation(influence: Influence, voters: int) -> Evidence:
    size = int(influence.group.sum())
    apart = influence.stands_apart
    words = f"{size} of {voters} stand apart and moved it" if apart else "no group that moved it"
    is_minority = apart and 2 * size < voters
    return Evidence(
        "two groups of votes",
        f"{words}: best cut {influence.separation:.1f} deviations (one crowd 2.7, clear from {CLEAR_SEPARATION:g})",
        influence.separation,
        None,
        "adversarial" if is_minority else "organic" if not apart else "neither",
        "Two kinds of machines that always differed look the same, and so does an update that reached a part; liars "
        "who stay within what honest agents differ by are not seen.",
    )


def _alikeness(keys: Sequence[KeyVotes], group: Mask) -> Evidence:
    ratios = [ratio for key in keys if (ratio := _spread_by_chance(key, group)) is not None]
    if not ratios:
        return Evidence(
            "how alike the group votes", "fewer than 3 votes of the group on a key", None, None, "neither", _ALIKE_LIMIT
        )
    ratio = float(np.median(ratios))
    return Evidence(
        "how alike the group votes",
        f"its votes differ {ratio:.2f} times as much as counting events alone makes them",
        ratio,
        None,
        "adversarial" if ratio < _TOO_ALIKE else "neither",
        _ALIKE_LIMIT,
    )


_ALIKE_LIMIT: Final = (
    "Liars can add noise; machines of one image that do nothing differ by chance alone, never by less."
)


def _spread_by_chance(key: KeyVotes, group: Mask) -> float | None:
    """Return how far the group's votes lie from their middle, in units of what sampling their events explains."""
    inside = group[key.agents]
    if inside.sum() < 3:
        return None
    votes, samples = key.votes[inside], key.samples[inside]
    middle = agreed(votes)
    # Mean absolute deviation of a multinomial share, normal approximation; half its sum is a total variation.
    chance = 0.5 * np.sqrt(2.0 * middle * (1.0 - middle) / np.pi).sum() / np.sqrt(samples)
    return float(np.median(total_variation(votes, middle)) / np.median(chance)) if chance.min() > 0.0 else None


def _concentrations(voters: Sequence[Voter], group: Mask, is_voter: Mask) -> Iterator[Evidence]:
    for name, read, points, limit in _SHARED:
        yield _concentration(
            [read(voter) for voter in voters], group & is_voter, is_voter, _Reading(name, points, limit)
        )


def _concentration(values: Sequence[str], group: Mask, is_voter: Mask, reading: _Reading) -> Evidence:
    """Look for the value that the group has more often than chance, corrected for the values there are."""
    everybody = Counter(value for value, votes in zip(values, is_voter.tolist(), strict=True) if votes and value)
    members = Counter(value for value, votes in zip(values, group.tolist(), strict=True) if votes and value)
    size, total = int(group.sum()), int(is_voter.sum())
    if len(everybody) < 2 or not members:
        return reading.line("nothing to compare: all are the same, or unknown", None, 1.0)
    tails = {value: hypergeometric_tail(count, everybody[value], size, total) for value, count in members.items()}
    value = min(tails, key=lambda each: (tails[each], each))
    p_value = min(1.0, tails[value] * len(everybody))
    share = members[value] / size
    words = f"{members[value]} of {size} in the group are of {value}, {everybody[value]} of {total} of all"
    return reading.line(words, share, p_value if share >= 0.5 else 1.0)


def _enrolled_since(voters: Sequence[Voter], group: Mask, is_voter: Mask, since: float) -> Evidence:
    is_new = np.array([voter.enrolled_at > since for voter in voters], dtype=np.bool_)
    reading = _Reading("enrolled since the reference", "adversarial", "A new department is new as well.")
    return _overlap(is_new, group & is_voter, is_voter, reading)


def _alerting(voters: Sequence[Voter], group: Mask, is_voter: Mask) -> Evidence:
    alerts = np.array([voter.alerts > 0 for voter in voters], dtype=np.bool_)
    limit = "Forged profiles need not come with alerts: no alerts are no comfort."
    reading = _Reading("with alerts since the reference", "adversarial", limit)
    return _overlap(alerts, group & is_voter, is_voter, reading)


def _overlap(marked: Mask, group: Mask, is_voter: Mask, reading: _Reading) -> Evidence:
    inside, outside = int((marked & group).sum()), int((marked & is_voter).sum())
    size, total = int(group.sum()), int(is_voter.sum())
    p_value = hypergeometric_tail(inside, outside, size, total)
    words = f"{inside} of {size} in the group, {outside} of {total} of all"
    return reading.line(words, inside / size if size else None, p_value)


def _new_keys(around: Surroundings) -> Evidence:
    return Evidence(
        "new process keys",
        f"{around.new_key_share:.1%} of the published keys are new since the reference",
        around.new_key_share,
        None,
        "organic" if around.new_key_share >= _NEW_KEYS else "neither",
        "Agents in agreement can invent keys.",
    )


def _moved_keys(around: Surroundings) -> Evidence:
    share = around.moved_keys / around.common_keys if around.common_keys else 0.0
    return Evidence(
        "keys that moved",
        f"{around.moved_keys} of {around.common_keys} by more than {MOVED_FACTOR:g} times what chance gives",
        share,
        None,
        "neither",
        "An update moves few keys or many, and so does a liar.",
    )
