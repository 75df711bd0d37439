"""Five attacks on a fleet's consensus: what colluding agents vote when they know every honest vote.

All are written for the wire: a vote is a distribution over the event classes, so what an attack of the literature
sends as an unbounded gradient is clipped at 0 and divided by its sum. Each attack takes the direction in which it
pushes; the papers name a few, and an attacker who can compute tries more (:meth:`PoisonAttack.searched`). An attack
works on a whole stack of directions at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist, squareform
from scipy.special import ndtri

from eguard.errors import ConfigError

Floats = NDArray[np.float64]

#: Signs drawn at random for a searching attacker, beside the splits of the classes by frequency.
RANDOM_DIRECTIONS: Final = 8
# LIE hides behind at least half of the honest agents, and never further out than this quantile.
_LIE_QUANTILES: Final = (0.5, 0.9999)
# Bisection of the distance-bounded attacks: halvings, and the farthest step in units of the direction.
_HALVINGS: Final = 30
_FARTHEST: Final = 100.0


class Vote(Protocol):
    """How liars vote: directions of shape (..., d) to votes of shape (..., n_liars, d)."""

    def __call__(self, honest: Floats, n_liars: int, rng: np.random.Generator, direction: Floats) -> Floats:
        """Return the votes."""


class AttackSource(NamedTuple):
    """The paper that an attack is from."""

    authors: str
    title: str
    year: int


@dataclass(frozen=True, slots=True)
class PoisonAttack:
    """One attack: how its liars vote, and in which directions.

    Attributes
    ----------
    name : str
        As on the command line.
    title : str
        One line about the idea.
    source : AttackSource
        The paper.
    """

    name: str
    title: str
    source: AttackSource
    _vote: Vote
    _published: Callable[[Floats], Floats]
    _searched: Callable[[Floats, np.random.Generator], Floats]

    def __call__(
        self, honest: Floats, n_liars: int, rng: np.random.Generator, direction: Floats | None = None
    ) -> Floats:
        """Return the liars' votes.

        Parameters
        ----------
        honest : ndarray of shape (k, d)
            Every honest vote, rows summing to 1, at least two.
        n_liars : int
            At least 0.
        rng : numpy.random.Generator
            Used by attacks that scatter their votes.
        direction : ndarray of shape (d,) or (m, d), optional
            Where to push, in the attack's own units; the paper's first direction by default.

        Returns
        -------
        ndarray of shape (n_liars, d) or (m, n_liars, d)
            On the simplex: not negative, rows summing to 1.

        Raises
        ------
        ConfigError
            Fewer than two honest votes, or a negative number of liars.
        """
        if len(honest) < 2 or n_liars < 0:
            raise ConfigError(
                f"an attack needs two honest votes and liars in a number that is not negative, got {len(honest)}"
                f" and {n_liars}",
                parameter="n_liars" if n_liars < 0 else "honest",
            )
        chosen = self._published(honest)[0] if direction is None else direction
        return self._vote(honest, n_liars, rng, chosen)

    def published(self, honest: Floats) -> Floats:
        """Return the directions that the paper names, shape (m, d)."""
        return self._published(honest)

    def searched(self, honest: Floats, rng: np.random.Generator) -> Floats:
        """Return the published directions and those that a searching attacker adds, shape (m, d)."""
        return np.vstack([self._published(honest), self._searched(honest, rng)])


def on_simplex(x: Floats) -> Floats:
    """Clip at 0 and divide by the sum along the last axis; a row of nothing becomes uniform.

    Examples
    --------
    >>> on_simplex(np.array([[0.5, 0.5, -1.0], [-1.0, 0.0, 0.0]])).round(3).tolist()
    [[0.5, 0.5, 0.0], [0.333, 0.333, 0.333]]
    """
    clipped = np.maximum(x, 0.0)
    total = clipped.sum(axis=-1, keepdims=True)
    found: Floats = np.where(total > 0.0, clipped / np.where(total > 0.0, total, 1.0), 1.0 / x.shape[-1])
    return found


def lie_deviations(n_honest: int, n_liars: int) -> float:
    """Return z, the deviations that "a little is enough" stays within.

    With n agents, m of them lying, s = floor(n/2) + 1 - m honest ones have to be on the liars' side for a majority; z
    is the normal quantile of (n - m - s)/(n - m), the share of the honest that then lies between the mean and the lie.

    Examples
    --------
    >>> round(lie_deviations(26, 24), 4)  # the paper's example: 50 workers, 24 corrupted, s = 2
    1.4261
    """
    supporters = (n_honest + n_liars) // 2 + 1 - n_liars
    return float(ndtri(np.clip((n_honest - supporters) / n_honest, *_LIE_QUANTILES)))


def _same(votes: Floats, n_liars: int) -> Floats:
    """Let all liars say the same."""
    return np.repeat(votes[..., None, :], n_liars, axis=-2)


def _one_hot(honest: Floats, n_liars: int, rng: np.random.Generator, direction: Floats) -> Floats:
    del rng
    return _same(np.eye(honest.shape[1])[direction.argmax(axis=-1)], n_liars)


def _lie(honest: Floats, n_liars: int, rng: np.random.Generator, direction: Floats) -> Floats:
    del rng
    z = lie_deviations(len(honest), n_liars)
    return _same(on_simplex(honest.mean(axis=0) + z * honest.std(axis=0) * direction), n_liars)


def _fang(honest: Floats, n_liars: int, rng: np.random.Generator, direction: Floats) -> Floats:
    low, high = honest.min(axis=0), honest.max(axis=0)
    factor = rng.uniform(1.0, 2.0, size=(*direction.shape[:-1], n_liars, honest.shape[1]))
    return on_simplex(np.where(direction[..., None, :] > 0.0, high * factor, low / factor))


def _min_max(honest: Floats, n_liars: int, rng: np.random.Generator, direction: Floats) -> Floats:
    del rng
    limit = pdist(honest, "sqeuclidean").max()
    return _same(
        _as_far_as(lambda votes: _squared_distances(honest, votes).max(axis=-1) <= limit, honest, direction), n_liars
    )


def _min_sum(honest: Floats, n_liars: int, rng: np.random.Generator, direction: Floats) -> Floats:
    del rng
    limit = squareform(pdist(honest, "sqeuclidean")).sum(axis=1).max()
    return _same(
        _as_far_as(lambda votes: _squared_distances(honest, votes).sum(axis=-1) <= limit, honest, direction), n_liars
    )


def _squared_distances(honest: Floats, votes: Floats) -> Floats:
    """Return squared distances of votes of shape (..., d) to all honest ones, shape (..., k)."""
    differences = votes[..., None, :] - honest
    squared: Floats = np.einsum("...d,...d->...", differences, differences)
    return squared


def _as_far_as(is_allowed: Callable[[Floats], NDArray[np.bool_]], honest: Floats, direction: Floats) -> Floats:
    """Return the vote furthest from the honest mean along each direction that is still allowed, by bisection."""
    mean = honest.mean(axis=0)
    near = np.zeros(direction.shape[:-1])
    far = np.full(direction.shape[:-1], _FARTHEST)
    for _ in range(_HALVINGS):
        middle = (near + far) / 2.0
        fits = is_allowed(on_simplex(mean + middle[..., None] * direction))
        near, far = np.where(fits, middle, near), np.where(fits, far, middle)
    return on_simplex(mean + near[..., None] * direction)


def _against(honest: Floats) -> Floats:
    """Return signs by class: down what is commoner than a uniform share, up the rest; and the reverse."""
    mean = honest.mean(axis=0)
    against = -np.sign(mean - 1.0 / mean.size)
    return np.stack([against, -against])


def _splits(honest: Floats, rng: np.random.Generator) -> Floats:
    """Return every split of the classes by frequency, both ways, and random signs."""
    d = honest.shape[1]
    by_frequency = honest.mean(axis=0).argsort(kind="stable").argsort(kind="stable")
    signs = np.where(by_frequency < np.arange(1, d)[:, None], 1.0, -1.0)
    return np.vstack([signs, -signs, rng.choice([-1.0, 1.0], size=(RANDOM_DIRECTIONS, d))])


def _perturbations(honest: Floats) -> Floats:
    """Return the directions of Shejwalkar and Houmansadr: deviation down, minus the unit mean, against the signs."""
    mean = honest.mean(axis=0)
    return np.stack([-honest.std(axis=0), -mean / np.linalg.norm(mean), _against(honest)[0]])


def _both_ways(honest: Floats) -> Floats:
    ones = np.ones(honest.shape[1])
    return np.stack([ones, -ones])


_SHEJWALKAR: Final = AttackSource(
    "V. Shejwalkar and A. Houmansadr",
    "Manipulating the Byzantine: optimizing model poisoning attacks and defenses for federated learning, NDSS",
    2021,
)

#: The attacks by name, in the order of the reports.
ATTACKS: Final[dict[str, PoisonAttack]] = {
    attack.name: attack
    for attack in (
        PoisonAttack(
            "one-hot",
            "All liars saw one class only: the rarest, or whichever hurts most.",
            AttackSource(
                "P. Blanchard, E. M. El Mhamdi, R. Guerraoui and J. Stainer",
                "Machine learning with adversaries: Byzantine tolerant gradient descent, NeurIPS",
                2017,
            ),
            _one_hot,
            lambda honest: -honest.mean(axis=0, keepdims=True),
            lambda honest, _: np.eye(honest.shape[1]),
        ),
        PoisonAttack(
            "lie",
            "A little is enough: the mean moved by as many deviations as a majority hides.",
            AttackSource(
                "G. Baruch, M. Baruch and Y. Goldberg",
                "A little is enough: circumventing defenses for distributed learning, NeurIPS",
                2019,
            ),
            _lie,
            _both_ways,
            lambda honest, rng: np.vstack([_against(honest), _splits(honest, rng)]),
        ),
        PoisonAttack(
            "fang",
            "Directed deviation: once to twice beyond the extreme honest value of every class.",
            AttackSource(
                "M. Fang, X. Cao, J. Jia and N. Z. Gong",
                "Local model poisoning attacks to Byzantine-robust federated learning, USENIX Security",
                2020,
            ),
            _fang,
            _against,
            _splits,
        ),
        PoisonAttack(
            "min-max",
            "As far as possible without being further from any honest vote than two honest ones are apart.",
            _SHEJWALKAR,
            _min_max,
            _perturbations,
            lambda honest, rng: np.vstack([_against(honest), _splits(honest, rng)]) * honest.std(axis=0),
        ),
        PoisonAttack(
            "min-sum",
            "As far as the largest honest sum of squared distances to the others allows.",
            _SHEJWALKAR,
            _min_sum,
            _perturbations,
            lambda honest, rng: np.vstack([_against(honest), _splits(honest, rng)]) * honest.std(axis=0),
        ),
    )
}


def attack_named(name: str) -> PoisonAttack:
    """Return the attack of that name.

    Raises
    ------
    ConfigError
        There is none; the message lists those there are.
    """
    found = ATTACKS.get(name)
    if found is None:
        raise ConfigError(
            f"there is no attack {name!r}", remedy=f"Choose one of: {', '.join(ATTACKS)}.", parameter="attack"
        )
    return found
