"""The name of this life of the state folder, for whoever needs it while no agent runs."""

from __future__ import annotations

from eguard.agent.private_files import make_private_folder
from eguard.baseline.store import BaselineStore
from eguard.settings import AgentSettings


def incarnation_of(settings: AgentSettings) -> str:
    """Return the incarnation of the baseline store, which is made where there is none.

    Raises
    ------
    BaselineStoreError
        An agent runs on the folder, or it cannot be used.
    """
    make_private_folder(settings.state_path)
    with BaselineStore.open(settings.baseline_folder, settings.max_profiles) as store:
        return store.incarnation
