"""The services of policies, put together once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from eguard.clock import Clock
from eguard.fleet.database import Database
from eguard.server.services.policies import Policies
from eguard.server.services.policy_board import PolicyBoard
from eguard.server.services.policy_keys import PolicyKeys
from eguard.server.services.policy_view import PolicyView
from eguard.server.services.rollouts import Rollouts


class PolicyServices(NamedTuple):
    """What routes and tasks use."""

    policies: Policies
    keys: PolicyKeys
    board: PolicyBoard
    rollouts: Rollouts
    view: PolicyView


def open_policies(database: Database, clock: Clock, key_folder: Path) -> PolicyServices:
    """Return the services on a database whose tables are there; the first signing key is made if there is none.

    Parameters
    ----------
    database : Database
        The fleet's.
    clock : Clock
        Everybody's.
    key_folder : Path
        Folder of the private keys.

    Raises
    ------
    ConfigError
        The signing key cannot be read.
    """
    view = PolicyView(database, clock)
    keys = PolicyKeys(database, clock, key_folder, view)
    keys.ensure()
    policies = Policies(database, clock, keys, view)
    return PolicyServices(policies, keys, PolicyBoard(view), Rollouts(database, clock, view), view)
