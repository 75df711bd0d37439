"""A bundle's engine and model on files that nobody has seen: alerts, connections and telemetry, whole and broken."""

import gzip
import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from eguard.bundle.manifest import MANIFEST_FORMAT, MANIFEST_NAME, Manifest, describe_file
from eguard.detection.content import load_content
from eguard.detection.features import FEATURE_NAMES, N_FEATURES, contract, contract_sha256
from eguard.detection.fleet_context import FleetContext
from eguard.detection.gate import CalibrationGroup, calibration_to_json
from eguard.detection.model import load_model
from eguard.errors import BundleDigestError, UnknownFormatError
from eguard.mlops.feature_table import SCHEMA
from eguard.mlops.replay_file import SCORE_SCHEMA, replay_file
from eguard.wire.canonical import canonical_json

RULE = {
    "id": "rule-whoami",
    "title": "Account discovery",
    "level": "high",
    "status": "test",
    "author": "somebody",
    "path": "r.yml",
    "licence": "DRL-1.1",
    "tags": ["attack.discovery", "attack.t1033"],
    "selector": {"product": "windows", "category": "process_creation", "service": "", "event_codes": []},
    "predicate": ["endswith", "Image", ["\\whoami.exe"]],
}


def model_document():
    coefficients = [0.0] * N_FEATURES
    coefficients[FEATURE_NAMES.index("rule_precision_prior")] = 8.0
    return {
        "format": 1,
        "kind": "logistic",
        "version": "v-test",
        "contract_sha256": contract_sha256(),
        "n_features": N_FEATURES,
        "threshold": 0.5,
        "platt": {"slope": 1.0, "intercept": 0.0},
        "tables": {"class_risk": [0.0] * 8, "rule_precision": {"S-Bad": 1.0}, "rule_precision_default": 0.0},
        "parameters": {
            "coefficients": coefficients,
            "center": [0.0] * N_FEATURES,
            "scale": [1.0] * N_FEATURES,
            "intercept": -4.0,
        },
    }


@pytest.fixture
def bundle(tmp_path):
    """Return the folder of a whole bundle."""
    model = load_model(model_document())
    groups = {"pooled": CalibrationGroup(0.9, "calibrated", np.linspace(0.0, 0.9, 99))}
    calibration = calibration_to_json(
        groups, alpha=0.01, guarantee="marginal", model_digest=model.digest, contract_sha256=contract_sha256()
    )
    documents = {
        "rules.json": {"format": 1, "rules": [RULE], "prefilter": {"sekurlsa::": 2}},
        "indicators.json": {
            "format": 1,
            "indicators": [{"kind": "address", "value": "198.51.100.7", "source": "feed"}],
        },
        "feature-schema.json": contract(),
        "models/fleet-context.json": FleetContext().to_json(),
        "models/signature-ml-model.json": model_document(),
        "models/calibration.json": calibration,
    }
    files = {name: canonical_json(document) for name, document in documents.items()}
    counts = load_content(files).counts
    manifest = Manifest(
        format=MANIFEST_FORMAT,
        model_version="v-test",
        feature_contract_sha256=contract_sha256(),
        promoted=False,
        files={name: describe_file(data, counts[name]) for name, data in files.items()},
    )
    files[MANIFEST_NAME] = manifest.to_bytes()
    for name, data in files.items():
        path = tmp_path / "targets" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "targets"


ALERTS = "time,name,ip,host,short,time_label,event_label\n" + "".join(
    f"{1_642_000_000 + 50 * i},alert,10.0.0.{i % 3},h{i % 3},{'S-Bad' if i % 10 == 0 else 'W-Ok'},false_positive,-\n"
    for i in range(200)
)
EVENTS = "capture,host,ts,src,eid,event_type,image,parent,target,cmdline\n" + "".join(
    f"c,host.lab,2024-01-01T00:{i // 60:02}:{i % 60:02}Z,sysmon,{1 if i % 20 == 0 else 11},"
    f"{'exec' if i % 20 == 0 else 'file_create'},{'whoami.exe' if i == 100 else 'a.exe'},cmd.exe,.txt,\n"
    for i in range(300)
)


def test_alerts_are_scored_by_the_model_and_its_tables(bundle, tmp_path):
    (tmp_path / "site_alerts.csv").write_text(ALERTS)
    out = tmp_path / "out"
    summary = replay_file("ait", tmp_path / "site_alerts.csv", out, bundle)
    assert (summary["events"], summary["rows_scored"], summary["rows_flagged"]) == (200, 200, 20)
    assert summary["model_version"] == "v-test"
    assert summary["damage"] is None
    assert summary["events_by_class"] == {"alert": 200}
    features, scores = pq.read_table(out / "features.parquet"), pq.read_table(out / "scores.parquet")
    assert features.schema.names == SCHEMA.names
    assert scores.schema.equals(SCORE_SCHEMA)
    assert features["sample_id"].to_pylist() == scores["sample_id"].to_pylist()
    is_bad = np.array(features["rule_id"].to_pylist()) == "S-Bad"
    assert np.array_equal(scores["is_flagged"].to_numpy(), is_bad)
    assert np.allclose(scores["score"].to_numpy()[is_bad], 1 / (1 + np.exp(-4.0)))
    assert set(scores["p_value"].to_numpy()[is_bad].tolist()) == {0.01}
    assert set(features["network"].to_pylist()) == {"site"}


def test_telemetry_goes_through_the_engine_and_alerts(bundle, tmp_path):
    (tmp_path / "events.csv").write_text(EVENTS)
    summary = replay_file("sysmon-csv", tmp_path / "events.csv", tmp_path / "out", bundle)
    alerts = [json.loads(line) for line in (tmp_path / "out" / "alerts.ndjson").read_text().splitlines()]
    assert summary["alerts"] == len(alerts) == 1
    assert summary["alerts_by_confidence"] == {"high": 1}
    assert alerts[0]["rules"][0]["rule_id"] == "rule-whoami"
    assert alerts[0]["score"] == pytest.approx(1 / (1 + np.exp(4.0)))
    assert summary["rows_scored"] >= 256  # the sample, and the hit


def test_connections_are_replayed_by_host(bundle, tmp_path):
    header = "#separator \\x09\n#set_separator\t,\n#empty_field\t(empty)\n#unset_field\t-\n#path\tconn\n"
    names = "ts uid id.orig_h id.orig_p id.resp_h id.resp_p proto service duration orig_bytes resp_bytes conn_state"
    header += "#fields\t" + "\t".join(names.split()) + "\n"
    ends = {0: "10.0.0.1\t5000\t192.0.2.1", 1: "10.0.0.2\t5000\t198.51.100.7"}
    rows = [f"{1_700_000_000 + 60 * i}.0\tC{i}\t{ends[i % 2]}\t443\ttcp\tssl\t1.0\t100\t200\tSF" for i in range(100)]
    (tmp_path / "conn.log").write_text(header + "\n".join(rows) + "\n")
    summary = replay_file("zeek", tmp_path / "conn.log", tmp_path / "out", bundle)
    assert (summary["events"], summary["alerts"]) == (100, 50)
    assert summary["alerts_by_confidence"] == {"definite": 50}
    features = pq.read_table(tmp_path / "out" / "features.parquet").to_pandas()
    beacons = features[features["host_id"].str.endswith("10.0.0.2")]
    assert beacons["beacon_periodicity"].max() > 0.9


def test_what_stands_before_the_damage_is_replayed_and_the_damage_told(bundle, tmp_path):
    whole = gzip.compress(ALERTS.encode())
    (tmp_path / "site_alerts.csv.gz").write_bytes(whole[: len(whole) // 2])
    summary = replay_file("ait", tmp_path / "site_alerts.csv.gz", tmp_path / "out", bundle)
    assert summary["damage"]
    assert 0 < summary["rows_scored"] < 200


def test_bad_rows_are_counted_by_reason(bundle, tmp_path):
    (tmp_path / "site_alerts.csv").write_text(ALERTS + "not-a-time,alert,ip,h,W-Ok,false_positive,-\n")
    summary = replay_file("ait", tmp_path / "site_alerts.csv", tmp_path / "out", bundle)
    assert summary["rows_rejected"] == {"bad_time": 1}


def test_the_same_file_gives_the_same_bytes(bundle, tmp_path):
    (tmp_path / "events.csv").write_text(EVENTS)
    for name in ("one", "two"):
        replay_file("sysmon-csv", tmp_path / "events.csv", tmp_path / name, bundle)
    for name in ("features.parquet", "scores.parquet", "alerts.ndjson"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_file_of_headers_only_gives_empty_results(bundle, tmp_path):
    (tmp_path / "site_alerts.csv").write_text(ALERTS.splitlines()[0] + "\n")
    summary = replay_file("ait", tmp_path / "site_alerts.csv", tmp_path / "out", bundle)
    assert (summary["events"], summary["rows_scored"], summary["alerts"]) == (0, 0, 0)


def test_a_tampered_bundle_is_refused_before_anything_is_read(bundle, tmp_path):
    path = bundle / "rules.json"
    path.write_bytes(path.read_bytes().replace(b"whoami", b"whoaml"))
    with pytest.raises(BundleDigestError, match=r"rules\.json"):
        replay_file("ait", tmp_path / "missing.csv", tmp_path / "out", bundle)


def test_an_unknown_format_is_named(bundle, tmp_path):
    (tmp_path / "x").write_text("x")
    with pytest.raises(UnknownFormatError):
        replay_file("no-such", tmp_path / "x", tmp_path / "out", bundle)
