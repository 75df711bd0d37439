"""An agent's control plane on a bench: a real store and buffer, and a thread in the runtime's place."""

import threading
import time
from types import SimpleNamespace

import numpy as np

from eguard.agent.buffer import AlertBuffer
from eguard.agent.control.client import ControlClient
from eguard.agent.control.desk import RuntimeDesk
from eguard.agent.control.exchange import Exchange
from eguard.agent.control.policies import PolicyKeeper
from eguard.agent.control.uploads import BaselineUploader
from eguard.agent.learning import BaselineKeeper
from eguard.agent.outlets import AlertOutlet
from eguard.clock import SystemClock
from eguard.policy import StartupControls
from eguard.settings import AgentSettings

T0 = 1_700_000_000.0


class Bench:
    """An agent's real store and buffer, served by a thread as the runtime does, and its control plane's parts."""

    def __init__(self, folder, server, tls_files, signer):
        self.settings = AgentSettings(agent_id="h", state_path=folder)
        folder.mkdir()
        self.keeper = BaselineKeeper(self.settings, SystemClock())
        self.outlet = AlertOutlet(AlertBuffer(folder / "alerts.db"), lambda _: None)
        self.exchange = Exchange()
        self.runtime = SimpleNamespace(baseline=self.keeper, outlet=self.outlet, calibration=None)
        self.desk = RuntimeDesk(self.runtime, self.exchange)
        self.client = ControlClient(server.url, tls_files)
        self.policies = PolicyKeeper(folder / "control", "h", StartupControls(), [signer.public])
        self.policies.take(signer.sign(1))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while not self._stop.is_set():
            self.exchange.serve()
            time.sleep(0.0005)

    def learn(self, *numbers, events=20, comm="tool"):
        """Learn events of some process keys, on the runtime's thread."""
        keys = [(f"{comm}{number}", "cron") for number in numbers for _ in range(events)]
        times = T0 + np.arange(len(keys), dtype=float)

        def learn():
            self.keeper.store.learn(keys, np.arange(len(keys)) % 3, times, np.zeros(len(keys), np.int64))

        self.exchange.ask(learn)

    def dirty(self):
        table = self.keeper.table
        return sorted(table.index.key_of(slot)[0] for slot in table.dirty_slots().tolist())

    def uploader(self, **given):
        fields = {"agent_id": "h", "max_bytes": 1_000_000}
        return BaselineUploader(self.client, self.desk, self.policies, **(fields | given))

    def close(self):
        self._stop.set()
        self._thread.join()
        self.exchange.close()
        self.client.close()
        self.keeper.close()
        self.outlet.close()
