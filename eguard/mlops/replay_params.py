"""Parameters of the replay stage."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from eguard.detection.engine_options import EngineOptions, WindowOptions


class ReplayParams(BaseModel):
    """How recorded events are fed through the engine."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reservoir_events_per_host: int = Field(
        default=256,
        ge=0,
        description="Events of each endpoint in the uniform sample that is scored beside the candidates.",
    )
    max_hosts_per_capture: int = Field(
        default=16,
        ge=1,
        description="Hosts of one network capture that are replayed, those with the most connections; the rest are "
        "scanners with a few packets each.",
    )
    min_agents: int = Field(default=3, ge=1, description="Smallest cohort of agents behind a fleet profile.")
    max_colluders: int = Field(default=1, ge=0, description="Forged votes that a fleet profile has to bear.")
    min_samples: int = Field(default=30, ge=1, description="Events behind a profile before its agent votes on it.")
    min_fleet_overdispersion_keys: int = Field(
        default=5, ge=1, description="Process keys with an overdispersion of their own from which the fleet's is taken."
    )
    processes: int = Field(
        default=2, ge=1, le=2, description="2 replays endpoints beside the alert networks; the outputs are the same."
    )
    max_alerts: int | None = Field(
        default=None, ge=1, description="Most alerts of each network, earliest first; null for all."
    )
    max_events: int | None = Field(
        default=None, ge=1, description="Most events of the endpoints, by capture in time order; null for all."
    )

    def engine_options(self, seed: int) -> EngineOptions:
        """Return the engine's options under these parameters."""
        return EngineOptions(
            reservoir_events=self.reservoir_events_per_host, seed=seed, windows=WindowOptions(relearns_after_drift=True)
        )
