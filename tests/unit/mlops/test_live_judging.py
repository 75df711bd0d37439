"""Who judges a night's model: hosts of the fleet, parts of the fleet in turn, and attacks that no verdict touches."""

import json

import numpy as np
import pandas as pd
import pytest

from eguard.detection.model import load_model
from eguard.errors import GateFailedError
from eguard.mlops import corpus, evaluate, labels, train
from eguard.mlops.adjudications import VERDICT_LABELS
from eguard.mlops.dataset import load_dataset
from eguard.mlops.golden import golden_recall
from eguard.mlops.live_groups import grouped
from eguard.mlops.splits import plan_folds, plan_holdout
from eguard.mlops.workspace import Workspace, read_json

JUDGES = evaluate.EvaluateParams(
    judged_sources=("live",), unseen_sources=("live",), bootstrap_replicates=20, ablation_rows=1000,
    fail_on_threshold=True, fail_on_regression=True,
)  # fmt: skip
SMALL = train.TrainParams(
    resource_profile="tiny",
    l2_grid_points=2,
    bootstrap_replicates=20,
    boosting_min_samples_leaf=20,
    target_precision=0.85,
)
LABEL_GATE = labels.LabelGateParams(min_rules=5, min_hosts=10)


@pytest.fixture(scope="session")
def mixed(small_signals):
    """Four shipped networks, and a fifth that is a fleet of two groups; features say much of a label."""
    signals = small_signals[~small_signals["is_flood"]].copy().reset_index(drop=True)
    rng = np.random.default_rng(8)
    truth = signals["label"].to_numpy(np.int64)
    for name in ("rule_burst", "silence_before", "distinct_rules"):
        signals[name] = np.clip(rng.normal(np.where(truth == 1, 0.68, 0.32), 0.14), 0.0, 1.0)
    live = signals["network"] == "n4"
    signals.loc[live, "source"] = "live"
    signals.loc[live, "label_source"] = "analyst_feedback"
    signals.loc[live, "host_id"] = [f"agent-{number % 24}" for number in range(int(live.sum()))]
    groups = signals.loc[live, "host_id"].str[-1].isin(list("02468")).map({True: "office", False: "plant"})
    signals.loc[live, "network"] = groups
    return signals


def lay_out(folder, signals, verdicts=()):
    workspace = Workspace(folder)
    workspace.interim.mkdir(parents=True)
    signals.to_parquet(workspace.interim / "features.parquet")
    seen = dict(zip(signals["sample_id"], signals["observed_at_unix"], strict=True))
    lines = [
        {"sample_id": sample, "verdict": said, "analyst": analyst, "adjudicated_at_unix": seen[sample] + 900}
        for sample, said, analyst in verdicts
    ]
    (workspace.interim / "adjudications.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return workspace


@pytest.fixture(scope="session")
def sound(mixed, tmp_path_factory):
    """A night on sound labels, up to its evaluation."""
    workspace = lay_out(tmp_path_factory.mktemp("sound"), mixed)
    return workspace, night(workspace)


def night(workspace):
    corpus.run(corpus.CorpusParams(), seed=0, workspace=workspace)
    labels.run(LABEL_GATE, seed=0, workspace=workspace)
    train.run(SMALL, seed=0, workspace=workspace)
    return evaluate.run(JUDGES, seed=0, workspace=workspace)


@pytest.fixture(scope="session")
def live_data(sound):
    return load_dataset(sound[0].processed / "corpus.parquet").labelled()


def test_live_hosts_are_units_and_shipped_networks_stay_whole(live_data):
    live = live_data.sources == "live"
    units = np.array(live_data.names.units)[live_data.units]
    hosts = np.array(live_data.names.hosts)[live_data.hosts]
    assert units[live].tolist() == hosts[live].tolist()
    assert set(units[~live]) == {"n0", "n1", "n2", "n3"}


def test_the_same_hosts_judge_every_night_and_train_nothing(live_data):
    holdout = plan_holdout(live_data, 0.2)
    live = live_data.sources == "live"
    judging = set(live_data.hosts[holdout.held_out & live].tolist())
    assert judging
    assert judging.isdisjoint(live_data.hosts[holdout.training].tolist())
    assert (holdout.training | holdout.held_out)[live].all()  # what was said today counts tonight
    later = live_data.take(live_data.time_unix > np.quantile(live_data.time_unix[live], 0.3))
    again = plan_holdout(later, 0.2) if (later.sources != "live").any() else None
    assert again is None or judging & set(later.hosts[again.held_out].tolist())
    for fold in plan_folds(live_data, holdout.training, 5):
        assert set(live_data.units[fold.training].tolist()).isdisjoint(live_data.units[fold.validation].tolist())


def test_groups_with_attacks_enough_are_left_out_in_turn(live_data):
    data, kind, least = grouped(live_data, min_network_attacks=5)
    assert (kind, least) == ("networks", 5)
    live = live_data.sources == "live"
    assert set(np.array(data.names.units)[data.units[live]]) == {"office", "plant"}
    assert set(np.array(data.names.units)[data.units[~live]]) == {"n0", "n1", "n2", "n3"}


def test_else_hosts_are_packed_with_about_as_many_attacks_each(live_data):
    data, kind, _ = grouped(live_data, min_network_attacks=10**6)
    live = live_data.sources == "live"
    assert kind == "hosts"
    attacks = np.bincount(data.units[live & (data.labels == 1)])
    attacks = attacks[attacks > 0]
    assert len(attacks) == 5
    assert attacks.max() <= attacks.min() * 1.5
    owners = {host: set(data.units[live & (data.hosts == host)].tolist()) for host in data.hosts[live].tolist()}
    assert {len(units) for units in owners.values()} == {1}


def test_a_sound_night_passes_and_is_judged_on_live_rows_alone(sound):
    _, report = sound
    assert report["promoted"]
    assert set(report["headline"]) - {"mean"} <= {"office", "plant", *(f"hosts {n} of 5" for n in range(1, 6))}
    assert all(unit.startswith("agent-") for unit in report["holdout"]["units"] if unit not in {"n0", "n1", "n2", "n3"})


def live_ids(signals):
    return signals.loc[signals["source"] == "live", ["sample_id", "label"]].itertuples(index=False)


def told(label, *, wrong):
    return "true_positive" if bool(label) != wrong else "false_positive"


@pytest.mark.parametrize("share", [0.02, 0.15, 0.30])
def test_flipped_labels_are_caught_or_hardly_matter(mixed, sound, tmp_path, share):
    """A gate says no, or the model finds the golden attacks as before and ranks as before."""
    rng = np.random.default_rng([7, int(100 * share)])
    verdicts = [
        (sample, told(label, wrong=rng.random() < share), f"analyst-{rng.integers(8)}")
        for sample, label in live_ids(mixed)
    ]
    workspace = lay_out(tmp_path, mixed, verdicts)
    shipped = workspace.root / JUDGES.golden
    shipped.parent.mkdir(parents=True)
    table = load_table(sound[0])
    table[table["source"] != "live"].to_parquet(shipped)
    (workspace.root / "previous").mkdir()
    model = (sound[0].models / "signature-ml-model.json").read_bytes()
    (workspace.root / "previous" / "signature-ml-model.json").write_bytes(model)
    if share > 0.1:
        with pytest.raises(GateFailedError, match="not good enough") as refusal:
            night(workspace)
        assert not refusal.value.report["promoted"]
        return
    report = night(workspace)
    assert report["golden"]["drop"] <= 0.02
    assert report["holdout"]["previous_model"]["drop"]["value"] <= 0.05


def load_table(workspace):
    return pd.read_parquet(workspace.processed / "corpus.parquet")


def test_one_analyst_who_floods_weighs_a_bounded_part(mixed, sound, tmp_path):
    """Mallory calls two thirds of the fleet's attacks ordinary; nine others tell the truth of the rest."""
    rows = [*live_ids(mixed)]
    rng = np.random.default_rng(4)
    verdicts = []
    for number, (sample, label) in enumerate(rows):
        is_mallory = rng.random() < 0.67
        said = "false_positive" if is_mallory else told(label, wrong=False)
        verdicts.append((sample, said, "mallory" if is_mallory else f"analyst-{number % 9}"))
    workspace = lay_out(tmp_path, mixed, verdicts)
    report = corpus.run(corpus.CorpusParams(), seed=0, workspace=workspace)
    facts = report["analysts"]
    assert facts["capped"] == ["mallory: negative"]
    assert facts["largest_share_negative"] > 0.6
    assert facts["largest_share_negative_after"] == pytest.approx(0.2)
    assert labels.run(LABEL_GATE, seed=0, workspace=workspace)["passed"]


def test_one_class_alone_is_refused_by_name(mixed, tmp_path):
    verdicts = [(sample, "false_positive", f"analyst-{place % 6}") for place, (sample, _) in enumerate(live_ids(mixed))]
    workspace = lay_out(tmp_path, mixed, verdicts)
    corpus.run(corpus.CorpusParams(), seed=0, workspace=workspace)
    with pytest.raises(GateFailedError, match="live_positive"):
        labels.run(LABEL_GATE, seed=0, workspace=workspace)
    checks = {check["name"]: check for check in read_json(workspace.reports / "label-quality.json")["checks"]}
    assert (checks["positive"]["passed"], checks["live_positive"]["passed"]) == (True, False)


def test_a_model_that_forgot_the_golden_attacks_is_seen(sound, tmp_path):
    workspace, _ = sound
    table = load_table(workspace)
    table[table["source"] != "live"].to_parquet(tmp_path / "corpus.parquet")
    document = read_json(workspace.models / "signature-ml-model.json")
    model = load_model(document)
    same = golden_recall(tmp_path / "corpus.parquet", 0.2, model, document)
    assert same["drop"] == 0.0
    assert same["networks"] == ["n3"]
    assert same["attacks"] > 20
    deaf = load_model(document | {"threshold": 0.999999})
    assert golden_recall(tmp_path / "corpus.parquet", 0.2, deaf, document)["drop"] > 0.5
    assert golden_recall(tmp_path / "none.parquet", 0.2, model, document) is None


def test_verdicts_are_those_of_the_contract():
    assert VERDICT_LABELS == {"true_positive": 1, "false_positive": 0, "benign": 0}
