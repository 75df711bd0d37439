"""How many files, and so connections, the system lets a process hold."""

from __future__ import annotations

import sys
from typing import Final

from eguard.errors import ConfigError

if sys.platform != "win32":
    import resource

#: For everything that is no agent's connection.
_SPARE: Final = 512


def raise_file_limit(connections: int) -> None:
    """Let this process and the server that it starts hold so many connections.

    Raises
    ------
    ConfigError
        The system does not allow it.
    """
    if sys.platform == "win32":
        return
    wanted = connections + _SPARE
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    if hard != resource.RLIM_INFINITY and hard < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{connections} connections need {wanted} open files, and the system allows {hard}",
                remedy=f"Raise it: ulimit -n {wanted} as root, LimitNOFILE={wanted} in a service; or fewer --agents.",
            ) from error
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
