"""Settings of the engine and of its window layer, with the defaults that the trials support."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """Settings of layer 3.

    Parameters
    ----------
    window_events : int
        Counted events of a process key that make a window.
    min_baseline_events : int
        A key without a fleet prior is tested once it has learned this many events.
    delta_medium, delta_high : float
        Probability under the predictive that an ordinary window exceeds the threshold.
    default_overdispersion : float
        Variance of an ordinary window over that of multinomial draws, for keys with fewer than
        `min_overdispersion_windows` tested windows, until the fleet tells its own. On the shipped endpoint events the
        median key has about twelve.
    min_overdispersion_windows, overdispersion_windows : int
        Windows from which a key's own overdispersion counts, and how many of the last ones it averages.
    recompute_fraction : float
        A threshold is computed anew when the baseline has grown, or the overdispersion has moved, by this share.
    grid_bits : float
        Resolution of the exact predictive, in bits of KL for each unit of overdispersion.
    drift_delta, drift_threshold, drift_burn_in : float, float, int
        Page-Hinkley on the windows' KL and event rate, in standard deviations and windows.
    relearns_after_drift : bool
        Whether a key whose divergence raised a drift alarm starts to learn anew; its seed serves meanwhile.
    session : str
        Prefix of the windows' identities, so that those of two lives of an agent never meet.
    """

    window_events: int = 128
    min_baseline_events: int = 300
    delta_medium: float = 1e-3
    delta_high: float = 1e-6
    default_overdispersion: float = 12.0
    min_overdispersion_windows: int = 10
    overdispersion_windows: int = 32
    recompute_fraction: float = 0.10
    grid_bits: float = 0.004
    drift_delta: float = 0.5
    drift_threshold: float = 20.0
    drift_burn_in: int = 30
    relearns_after_drift: bool = False
    session: str = ""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Settings of one host's engine.

    Parameters
    ----------
    max_profiles : int
        Process keys with a baseline; the least recently seen is evicted.
    max_processes : int
        Nodes of the process tree, live and exited together.
    reservoir_events : int
        Events of the uniform sample that is scored beside the candidates and never alerts by itself.
    seed : int
        Seed of the reservoir; combined with the host's name, so that hosts draw independently.
    learning_seconds : float
        Alerts of a host younger than this ask for no response.
    beacon_allow_list : tuple of str
        Addresses and registered domains that are never scored as beacons.
    windows : WindowOptions
        Settings of layer 3.
    """

    max_profiles: int = 4096
    max_processes: int = 8192
    reservoir_events: int = 256
    seed: int = 0
    learning_seconds: float = 7 * 86_400.0
    beacon_allow_list: tuple[str, ...] = ()
    windows: WindowOptions = field(default_factory=WindowOptions)
