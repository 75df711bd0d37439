"""A load test: thousands of agents in one process, over real TLS, against a server apart."""

from eguard.simulate.load.measures import Second
from eguard.simulate.load.options import LoadOptions
from eguard.simulate.load.remote import RemoteServer
from eguard.simulate.load.run import run_load
from eguard.simulate.load.verdict import verdict

__all__ = ["LoadOptions", "RemoteServer", "Second", "run_load", "verdict"]
