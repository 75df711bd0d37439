"""Who may vote, and how many votes one enrolment token is worth.

An identity is cheap for whoever holds an enrolment token: a machine may ask for a hundred names. Two rules make such
names worth little. A name has to be heard from for as long as an operator takes to notice it, and all names that came
by one token together have at most a share of every key's votes.
"""

from __future__ import annotations

import hashlib
import math
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from eguard.fleet.tables import endpoint_agent

if TYPE_CHECKING:
    from eguard.fleet.kernel import AggregationRules

#: Code of an agent that an operator let in by hand, without a token.
NO_TOKEN: Final = -1
HOUR_SECONDS: Final = 3600.0
#: What an operator does about honest agents whose votes do not count.
BEYOND_SHARE_REMEDY: Final = (
    "Enrol machines with a token for each site or team, ten or more; or set EGUARD_AGGREGATION_MAX_TOKEN_SHARE=1 if "
    "you trust every machine behind every token."
)

_BITS: Final = 63
# Shares such as 0.1 are not exact in binary: 0.1 * 70 must be 7 votes, not 6.
_ROUNDING: Final = 1e-9


def voter_conditions(rules: AggregationRules, now: float) -> list[sa.ColumnElement[bool]]:
    """Return what a row of `endpoint_agent` has to fulfil for its agent's profiles to be votes.

    The agent is active (quarantined and decommissioned ones are not), was heard from within `active_seconds`, and has
    been heard from for `min_agent_age_seconds`: it enrolled that long ago, and its heartbeats fell into as many
    different hours as that span has. Who heartbeats all the time therefore votes as soon as the span is over, and a
    machine that runs eight hours a day on the third day; who enrolled long ago and comes back with forged profiles
    does not. Only heartbeats count, uploads do not.

    Parameters
    ----------
    rules : AggregationRules
        A `min_agent_age_seconds` of 0 asks for neither age nor heartbeats.
    now : float
        Time of the aggregation.
    """
    agent = endpoint_agent.c
    conditions = [agent.status == "active", agent.last_heartbeat >= now - rules.active_seconds]
    if rules.min_agent_age_seconds > 0.0:
        conditions += [
            agent.enrolled_at <= now - rules.min_agent_age_seconds,
            agent.heard_hours >= hours_to_be_heard(rules.min_agent_age_seconds),
        ]
    return conditions


def hours_to_be_heard(min_agent_age_seconds: float) -> int:
    """Return the different hours of the clock into which an agent's heartbeats have to fall.

    Examples
    --------
    >>> hours_to_be_heard(86_400.0), hours_to_be_heard(5400.0), hours_to_be_heard(0.0)
    (24, 2, 0)
    """
    return math.ceil(min_agent_age_seconds / HOUR_SECONDS)


def hour_of(now: float) -> int:
    """Return the number of the clock's hour, counted from 1970."""
    return math.floor(now / HOUR_SECONDS)


@lru_cache(maxsize=65_536)
def token_code(token_id: str | None) -> int:
    """Return a number for an enrolment token, the same in every process; `NO_TOKEN` for none.

    Examples
    --------
    >>> token_code(None), token_code("a") == token_code("a"), token_code("a") == token_code("b"), token_code("a") >= 0
    (-1, True, False, True)
    """
    return NO_TOKEN if token_id is None else _hash(token_id)


@lru_cache(maxsize=65_536)
def vote_rank(agent_id: str) -> int:
    """Return an agent's place among those of its token: it follows from the name alone, whatever the agent says."""
    return _hash(agent_id)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> (64 - _BITS)


def within_token_share(
    starts: NDArray[np.intp],
    tokens: NDArray[np.int64],
    share: float,
    ranks: NDArray[np.int64] | None = None,
) -> NDArray[np.bool_]:
    """Return which votes count, so that no enrolment token has more than its share of any key.

    Parameters
    ----------
    starts : ndarray of intp, shape (n_keys,)
        Where the votes of each key begin. Every vote given here counts but for its token: leave out beforehand those
        that do not, or an attacker's empty votes widen his share.
    tokens : ndarray of int64, shape (n_votes,)
        :func:`token_code` of the token that each voter was enrolled with. Votes with `NO_TOKEN` all count.
    share : float
        In (0, 1]; 1 lets all votes count.
    ranks : ndarray of int64, shape (n_votes,), optional
        :func:`vote_rank` of each voter: among votes of one token those with the lowest ranks stay. By default the
        first ones stay.

    Returns
    -------
    ndarray of bool, shape (n_votes,)

    Notes
    -----
    The share is one of the votes that *count*, not of those that were cast: with c votes a token at most, c is the
    largest whole number for which c <= share * sum_t min(n_t, c), agents without a token added to the sum. A hundred
    names by one token among sixty other voters therefore have 6 votes of 66; a tenth of all 160 would be 16 of 76. One
    vote a token always counts. Fewer than 1/share tokens cannot each have less than the share, so they have one vote
    each unless others vote along.

    Examples
    --------
    >>> tokens = np.array([5] * 100 + [NO_TOKEN] * 60)
    >>> within_token_share(np.array([0]), tokens, 0.1).sum().item()
    66
    >>> within_token_share(np.array([0, 2]), np.array([7, 7, 7, 8, 8]), 0.1).tolist()
    [True, False, True, True, False]
    """
    is_counted = np.ones(len(tokens), dtype=np.bool_)
    has_token = np.flatnonzero(tokens >= 0)
    if share >= 1.0 or not has_token.size:
        return is_counted
    owner = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(tokens)))
    by_rank = () if ranks is None else (ranks[has_token],)
    # Sorting is stable: without ranks a token's votes stay in the order in which they came.
    together = has_token[np.lexsort((*by_rank, tokens[has_token], owner[has_token]))]
    is_first = np.ones(len(together), dtype=np.bool_)
    is_first[1:] = (np.diff(owner[together]) != 0) | (np.diff(tokens[together]) != 0)
    firsts = np.flatnonzero(is_first)
    sizes = np.diff(firsts, append=len(together))
    key = owner[together[firsts]]
    others = np.bincount(owner, minlength=len(starts)) - np.bincount(key, sizes, minlength=len(starts)).astype(np.intp)
    most = _votes_a_token(key, sizes, others, share)
    place = np.arange(len(together)) - np.repeat(firsts, sizes)
    is_counted[together[place >= np.repeat(most[key], sizes)]] = False
    return is_counted


def _votes_a_token(
    key: NDArray[np.intp], sizes: NDArray[np.intp], others: NDArray[np.intp], share: float
) -> NDArray[np.intp]:
    """Return the votes that each key takes from a token at most, shape (n_keys,).

    Parameters
    ----------
    key, sizes : ndarray of intp, shape (n_groups,)
        Votes of one token on one key; groups in key order.
    others : ndarray of intp, shape (n_keys,)
        Votes without a token.

    Notes
    -----
    share * (others + sum_t min(n_t, c)) - c is concave in c and not negative at 0, so tokens that it cuts are the
    largest ones: those at whose own number of votes it is negative. With j of them, and r votes by the other tokens, c
    is share * (others + r) / (1 - share * j), rounded down.
    """
    largest_first = np.lexsort((-sizes, key))
    ordered = sizes[largest_first]
    by_key = np.bincount(key, minlength=len(others))
    begins = np.cumsum(by_key) - by_key
    place = np.arange(len(ordered)) - begins[key] + 1
    through = np.cumsum(ordered)
    ends = np.append(0, through)[begins + by_key]
    smaller = ends[key] - through
    is_cut = share * (others[key] + smaller + place * ordered) < ordered - _ROUNDING
    cut = np.bincount(key[is_cut], minlength=len(others))
    taken = np.append(0, through)[begins + cut]
    rest = share * (others + ends - taken)
    allowed = np.full(len(others), np.iinfo(np.intp).max, dtype=np.intp)
    has_cut = cut > 0
    allowed[has_cut] = np.floor(rest[has_cut] / (1.0 - share * cut[has_cut]) + _ROUNDING).astype(np.intp)
    most: NDArray[np.intp] = np.maximum(allowed, 1)
    return most
