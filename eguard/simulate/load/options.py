"""What a load test does, and of what is said that it passed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eguard.errors import ConfigError
from eguard.mlops.poison_attacks import attack_named
from eguard.mlops.poison_profiles import SHIPPED_PROFILES

#: A policy's answer is withheld for at most this long.
POLL_SECONDS: Final = 55.0
#: Poisoning is a minority's attack.
_MAJORITY: Final = 0.5


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """One load test.

    Parameters
    ----------
    agents : int
        Simulated agents, each with a key and certificate of its own.
    profiles : int
        Profiles in every upload.
    start_seconds : float
        Within which the agents start, evenly.
    interval_seconds : float
        Between two uploads of an agent.
    heartbeat_seconds : float
        Between two heartbeats of an agent that stays connected.
    hold_seconds : float
        For how long the load goes on once everybody has started.
    is_polling : bool
        Agents stay connected and wait for their policy. Else an agent connects when its interval is over, uploads,
        fetches the fleet's seeds and leaves, and visits are spread over the interval from the first second on.
    is_fetching : bool
        Agents fetch the fleet's seeds after each upload, as those do that still learn; without `is_polling` always.
    herd_seconds : float
        After the hold every connection is dropped, and all agents come back within this; 0: not.
    kill_switch : bool
        Uploads are switched off in the middle: of the herd if there is one, of the hold if not.
    poison, share : str, float
        An attack of `eguard.mlops.poison_attacks`, and which share of the agents takes part; "": all are honest.
    churn_per_minute : float
        Share of the waiting agents that leaves in a minute and comes back, some with a new state folder.
    seed : int
        Of bodies and schedule.
    recording : Path
        Event log or fleet store with the real hosts.
    prefix : str
        Agents are called this and a number.

    Raises
    ------
    ConfigError
        A value is out of range.
    """

    agents: int = 1000
    profiles: int = 20
    start_seconds: float = 45.0
    interval_seconds: float = 900.0
    heartbeat_seconds: float = 30.0
    hold_seconds: float = 15.0
    is_polling: bool = True
    is_fetching: bool = False
    herd_seconds: float = 0.0
    kill_switch: bool = False
    poison: str = ""
    share: float = 0.0
    churn_per_minute: float = 0.0
    seed: int = 0
    recording: Path = SHIPPED_PROFILES
    prefix: str = "load"

    def __post_init__(self) -> None:
        for name, least, most in (
            ("agents", 1, 1_000_000),
            ("profiles", 1, 500),
            ("start_seconds", 0.0, 86_400.0),
            ("interval_seconds", 0.1, 86_400.0),
            ("heartbeat_seconds", 1.0, 3_600.0),
            ("hold_seconds", 0.0, 86_400.0),
            ("herd_seconds", 0.0, 3_600.0),
            ("churn_per_minute", 0.0, 1.0),
            ("seed", 0, 2**63 - 1),
        ):
            value = getattr(self, name)
            if not least <= value <= most:
                raise ConfigError(f"{name} must lie in [{least:g}, {most:g}], got {value:g}", parameter=name)
        if self.poison:
            attack_named(self.poison)
        if bool(self.poison) != (self.share > 0.0) or not 0.0 <= self.share < _MAJORITY:
            raise ConfigError(
                "an attack needs a share of liars in (0, 0.5), and a share an attack",
                remedy="Give both, such as --poison lie --share 0.2, or neither.",
                parameter="share",
            )
        if not self.is_polling and (self.herd_seconds or self.churn_per_minute):
            raise ConfigError(
                "agents that do not stay connected can neither come back as a herd nor leave",
                remedy="Leave --herd and --churn out, or --no-poll.",
                parameter="is_polling",
            )

    @property
    def fetches(self) -> bool:
        """Whether agents fetch seeds."""
        return self.is_fetching or not self.is_polling

    @property
    def liars(self) -> int:
        """How many agents lie."""
        return round(self.agents * self.share)

    @property
    def connections(self) -> int:
        """How many connections there are at once, about."""
        if self.is_polling:
            return self.agents
        # A visit that takes ten seconds is far beyond every bound.
        return min(self.agents, int(10.0 * self.agents / self.interval_seconds) + 64)

    def agent_id(self, number: int) -> str:
        """Return the name of an agent."""
        return f"{self.prefix}-{number:06d}"


def life_name(number: int) -> str:
    """Return what an agent calls its incarnation of this number."""
    return f"life-{number}"
