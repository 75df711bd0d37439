"""Network isolation: cut a host off from everything but its server, in one nftables table of our own.

`targets` and `resolvers` say what stays reachable, `request` keeps that over restarts and `composition` makes it;
`ruleset` writes the rules, `kernel` speaks to nft, `inspection` judges what the kernel holds; `host` joins them.
"""

from eguard.agent.isolation.host import HostIsolation, Outcome, Standing
from eguard.agent.isolation.inspection import Inspection, inspect
from eguard.agent.isolation.kernel import Nft
from eguard.agent.isolation.request import IsolationRequest, RequestFile
from eguard.agent.isolation.ruleset import Plan, render
from eguard.agent.isolation.targets import Server, parse_server

__all__ = [
    "HostIsolation",
    "Inspection",
    "IsolationRequest",
    "Nft",
    "Outcome",
    "Plan",
    "RequestFile",
    "Server",
    "Standing",
    "inspect",
    "parse_server",
    "render",
]
