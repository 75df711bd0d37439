"""Whether this system has what isolation is made of at all."""

from __future__ import annotations

import sys

from eguard.errors import IsolationUnavailableError


def refuse_without_nftables() -> None:
    """Do nothing on Linux; what is missing there, nft itself says.

    Raises
    ------
    IsolationUnavailableError
        This is another system.
    """
    if sys.platform != "linux":
        raise IsolationUnavailableError(
            f"network isolation is made with nftables, which {sys.platform} does not have; nothing was changed",
            remedy="Cut this host off at its switch or with the firewall of its system.",
        )
