"""An enrolled agent with its real store, uploader and seed fetcher, at a real server, with nothing to detect."""

import threading
import time
from types import SimpleNamespace

import numpy as np

from eguard.agent.control.desk import RuntimeDesk
from eguard.agent.control.enrolment_files import read_enrolment
from eguard.agent.control.exchange import Exchange
from eguard.agent.control.policies import PolicyKeeper
from eguard.agent.control.policy_poll import PolicyPoll
from eguard.agent.control.seeds import SeedFetcher
from eguard.agent.control.uploads import BaselineUploader
from eguard.agent.learning import BaselineKeeper
from eguard.clock import SystemClock
from eguard.policy import StartupControls
from eguard.settings import AgentSettings

T0 = 1_700_000_000.0


class SeededAgent:
    """The duties that exchange baselines, done when a test says so."""

    def __init__(self, fleet, folder, name):
        folder.mkdir()
        agent = fleet.enrol(name, fleet.token())
        enrolment = read_enrolment(fleet.folder / name)
        self._keeper = BaselineKeeper(AgentSettings(agent_id=name, state_path=folder), SystemClock())
        self._exchange = Exchange()
        outlet = SimpleNamespace(use_whitelist=lambda _: None)
        desk = RuntimeDesk(SimpleNamespace(baseline=self._keeper, outlet=outlet), self._exchange)
        policies = PolicyKeeper(folder / "control", name, StartupControls(), enrolment.policy_keys)
        self._poll = PolicyPoll(agent.client, policies, desk, wait_seconds=0.0)
        self._uploader = BaselineUploader(agent.client, desk, policies, agent_id=name, max_bytes=1_000_000)
        self._fetcher = SeedFetcher(agent.client, desk, policies, agent_id=name)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def learn(self, key, events):
        """Learn events of a process key, all of one class."""
        times = T0 + np.arange(events, dtype=float)
        classes, sizes = np.ones(events, np.int64), np.zeros(events, np.int64)
        self._exchange.ask(lambda: self._keeper.store.learn([key] * events, classes, times, sizes))

    def exchange(self):
        """Ask for the policy, upload what changed and take the fleet's seeds; return how many rows were accepted."""
        before = self._uploader.totals.accepted
        self._poll.poll()
        self._uploader.upload()
        self._fetcher.fetch()
        return self._uploader.totals.accepted - before

    def prior(self, key):
        """Return the prior of a key, or None."""
        return self._exchange.ask(lambda: self._keeper.table.seeds.find(key))

    def close(self):
        self._stop.set()
        self._thread.join()
        self._exchange.close()
        self._keeper.close()

    def _serve(self):
        while not self._stop.is_set():
            self._exchange.serve()
            time.sleep(0.0005)
