"""A small sound corpus that tests of the gates spoil in one place."""

import numpy as np
import pandas as pd
import pytest

from eguard.detection.feature_contract import FEATURE_NAMES
from eguard.mlops import corpus
from eguard.mlops.dataset import load_dataset
from eguard.mlops.workspace import Workspace


def make_corpus(n=600):
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "sample_id": [f"s{index:05d}" for index in range(n)],
            "observed_at_unix": 1e9 + np.arange(n, dtype=float),
            "host_id": [f"h{index % 45}" for index in range(n)],
            "network": [f"n{index % 3}" for index in range(n)],
            "source": "ait",
            "rule_id": [f"r{index % 70}" for index in range(n)],
            "event_class": "alert",
            "label": pd.array((np.arange(n) % 4 == 0).astype(int), dtype="Int8"),
            "label_source": "shipped",
            "weight": 1.0,
            "severity": 0.5,
            "analyst": pd.Series([None] * n, dtype=object),
            "is_contested": False,
        }
    )
    frame["adjudicated_at_unix"] = frame["observed_at_unix"] + 86_400
    features = pd.DataFrame(rng.random((n, len(FEATURE_NAMES))), columns=list(FEATURE_NAMES))
    return pd.concat([frame, features], axis=1)


@pytest.fixture
def build_corpus():
    return make_corpus


def make_signals(n_networks=5, n_hosts=6, per_host=110, seed=5):
    """Signals of several networks, one after the other: rules of known worth, two features that help, one scan."""
    rng = np.random.default_rng(seed)
    worth = np.array([0.02] * 6 + [0.3, 0.6, 0.9, 0.05])
    frames = []
    for network in range(n_networks):
        for host in range(n_hosts):
            rule = rng.integers(0, len(worth), per_host)
            burst, silence = rng.random(per_host), rng.random(per_host)
            odds = np.log(worth[rule] / (1 - worth[rule])) + 4 * (burst - 0.5) + 2 * (silence - 0.5)
            label = (rng.random(per_host) < 1 / (1 + np.exp(-odds))).astype(int)
            step = np.where(label == 1, np.where(rule == 8, "webshell", "cracking"), "")
            time = 1.6e9 + network * 1e6 + np.sort(rng.random(per_host)) * 3 * 86_400
            part = pd.DataFrame({"observed_at_unix": time, "label": label, "attack_step": step})
            part["host_id"] = f"n{network}/h{host}"
            part["network"] = f"n{network}"
            part["rule_id"] = [f"R{code}" for code in rule]
            part["rule_burst"], part["silence_before"] = burst, silence
            frames.append(part)
        flood = pd.DataFrame({"observed_at_unix": 1.6e9 + network * 1e6 + 200_000 + np.arange(200) / 10})
        flood["label"], flood["attack_step"] = 1, "dirb"
        flood["host_id"], flood["network"], flood["rule_id"] = f"n{network}/h0", f"n{network}", "R9"
        flood["rule_burst"], flood["silence_before"] = 1.0, 0.0
        frames.append(flood)
    signals = pd.concat(frames, ignore_index=True)
    signals["sample_id"] = [f"id{index:06d}" for index in range(len(signals))]
    signals["source"], signals["event_class"], signals["label_source"] = "ait", "alert", "ait_labels"
    signals["is_flood"] = signals["attack_step"] == "dirb"
    signals["is_reservoir"], signals["severity"] = False, 0.5
    signals["label"] = signals["label"].astype("Int8")
    for name in FEATURE_NAMES:
        if name not in signals:
            signals[name] = 0.0
    return signals


@pytest.fixture
def build_signals():
    return make_signals


@pytest.fixture(scope="session")
def small_signals():
    return make_signals()


@pytest.fixture
def workspace_of(tmp_path):
    """Write signals as a feature table and return the workspace."""

    def build(signals):
        workspace = Workspace(tmp_path)
        workspace.interim.mkdir(parents=True, exist_ok=True)
        signals.to_parquet(workspace.interim / "features.parquet", row_group_size=1000)
        return workspace

    return build


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    """The corpus of five synthetic networks as a dataset; tests must not write to it."""
    workspace = Workspace(tmp_path_factory.mktemp("dataset"))
    workspace.interim.mkdir(parents=True)
    make_signals().to_parquet(workspace.interim / "features.parquet")
    corpus.run(corpus.CorpusParams(), seed=0, workspace=workspace)
    return load_dataset(workspace.processed / "corpus.parquet")
