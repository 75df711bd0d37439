"""Upload to a fleet store from several threads until killed: ``python fleet_writer.py URL EPOCH SEED THREADS``.

There are 8 agents of 25 keys, 200 registers. Batches of this epoch's incarnation rise in `seq` but arrive duplicated,
reordered and with gaps, and some of the epoch before arrive late. A row's sample count tells its version. After each
answer a line of JSON says what was acknowledged.
"""

import json
import sys
import threading

import numpy as np

from eguard.fleet import FleetStore
from eguard.wire import BaselineRow

AGENTS, KEYS, PLACES = 8, 25, 100_000


def row(key, epoch, seq):
    return BaselineRow(
        process_key=f"p{key}:init",
        event_distribution={"process_exec": 1.0},
        sample_count=epoch * PLACES + seq,
        entropy_threshold=3.0,
        learned_at_unix=0.0,
        seq=seq,
    )


def write(store, epoch, seed, say):
    rng = np.random.default_rng(seed)
    delayed = []
    for step in range(1, PLACES // 2):
        agent = int(rng.integers(AGENTS))
        keys = rng.choice(KEYS, int(rng.integers(1, 6)), replace=False).tolist()
        is_late = epoch > 1 and rng.random() < 0.1
        # Steps of other threads lie close by, before and after: what arrives is out of order.
        seqs = (step + rng.integers(0, 20, len(keys))).tolist()
        batch = agent, epoch - 1 if is_late else epoch, list(zip(keys, seqs, strict=True))
        fate = rng.random()
        if fate < 0.1:
            continue  # dropped
        if fate < 0.3:
            delayed.append(batch)
        sending = [batch] * (2 if fate > 0.8 else 1)
        if len(delayed) > 5:
            sending.append(delayed.pop(int(rng.integers(len(delayed)))))
        for number, version, registers in sending:
            rows = [row(key, version, seq) for key, seq in registers]
            store.upsert_baselines(f"agent-{number}", f"incarnation-{version}", rows)
            say([[f"agent-{number}", f"p{key}:init", version * PLACES + seq] for key, seq in registers])


def main():
    url, epoch, seed, threads = sys.argv[1], *map(int, sys.argv[2:])
    lock = threading.Lock()

    def say(acknowledged):
        with lock:
            sys.stdout.write(json.dumps(acknowledged) + "\n")
            sys.stdout.flush()

    with FleetStore(url) as store:
        workers = [threading.Thread(target=write, args=(store, epoch, (seed, n), say)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()


if __name__ == "__main__":
    main()
