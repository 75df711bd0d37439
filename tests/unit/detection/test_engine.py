"""The engine on hand-made streams: which events become candidates, what alerts, what is learned."""

import math

import numpy as np
import pytest

from eguard.detection.engine import Engine
from eguard.detection.engine_options import EngineOptions, WindowOptions
from eguard.detection.features import FEATURE_NAMES, N_FEATURES, contract_sha256
from eguard.detection.fleet_context import FleetContext
from eguard.detection.gate import CalibrationGroup, ConformalGate
from eguard.detection.indicator_list import make_indicator
from eguard.detection.indicators import IndicatorSet
from eguard.detection.layers import DetectionContent
from eguard.detection.model import load_model
from eguard.detection.prefilter import CommandLinePrefilter
from eguard.detection.rules import RuleSet
from eguard.detection.window_test import WindowLevel
from eguard.errors import ModelError
from eguard.events import UNCOUNTED, Event, EventBatch, EventClass

NO_SAMPLE = EngineOptions(reservoir_events=0)
COLUMN = {name: index for index, name in enumerate(FEATURE_NAMES)}


def rule(number, level, image, *tags):
    return {
        "id": f"rule-{number}",
        "title": f"Rule {number}",
        "level": level,
        "status": "test",
        "author": "somebody",
        "path": "r.yml",
        "licence": "DRL-1.1",
        "tags": list(tags),
        "selector": {"product": "windows", "category": "process_creation", "service": "", "event_codes": []},
        "predicate": ["endswith", "Image", [image]],
    }


RULES = [
    rule(0, "high", "\\whoami.exe", "attack.discovery", "attack.t1033"),
    rule(1, "low", "\\net.exe", "attack.lateral-movement", "attack.t1021"),
    rule(2, "medium", "\\whoami.exe", "attack.execution", "attack.t1059"),
    rule(3, "informational", "\\calc.exe", "attack.impact", "attack.t1499"),
]


@pytest.fixture
def content():
    return DetectionContent(
        indicators=IndicatorSet([make_indicator("198.51.100.7", source="feed")]),
        rules=RuleSet.from_json({"format": 1, "rules": RULES}),
        prefilter=CommandLinePrefilter({"sekurlsa::": 2}),
        fleet=FleetContext(
            n_hosts=9, rule_hosts={"rule-0": 9}, port_ranks={443: 1}, children={"cmd.exe": {"ping.exe": 9}}
        ),
    )


def event(time, event_class=UNCOUNTED, comm="cmd.exe", **extra):
    defaults = {
        "source": "sysmon",
        "event_type": "exec" if event_class == 0 else "other",
        "parent_comm": "explorer.exe",
    }
    return Event(time_unix=float(time), host_id="h", event_class=int(event_class), comm=comm, **(defaults | extra))


def start(time, comm, **extra):
    return event(time, EventClass.PROCESS_EXEC, comm, event_code=1, **extra)


def run(engine, *events):
    return engine.process(EventBatch.from_events(events))


def model_json(intercept=-1.0, coefficient=0.0):
    coefficients = [0.0] * N_FEATURES
    coefficients[COLUMN["prefilter_hit"]] = coefficient
    return {
        "format": 1,
        "kind": "logistic",
        "version": "v-test",
        "contract_sha256": contract_sha256(),
        "n_features": N_FEATURES,
        "threshold": 0.5,
        "platt": {"slope": 1.0, "intercept": 0.0},
        "tables": {"class_risk": [0.25] * 8, "rule_precision": {"rule-0": 0.75}, "rule_precision_default": 0.125},
        "parameters": {
            "coefficients": coefficients,
            "center": [0.0] * N_FEATURES,
            "scale": [1.0] * N_FEATURES,
            "intercept": intercept,
        },
    }


def gate_for(model, threshold=0.5):
    scores = np.linspace(0.0, threshold, 99)
    return ConformalGate({"pooled": CalibrationGroup(threshold, "calibrated", scores)}, 0.01, model.digest)


def test_an_ordinary_event_is_no_candidate(content):
    output = run(Engine("h", content, NO_SAMPLE), event(0), start(1, "notepad.exe"))
    assert len(output.candidates) == 0
    assert output.features.shape == (0, N_FEATURES)
    assert output.alerts == []


def test_each_layer_makes_candidates(content):
    engine = Engine("h", content, NO_SAMPLE)
    output = run(
        engine,
        event(0),
        start(1, "whoami.exe"),
        event(2, EventClass.NETWORK_CONNECT, destination_address="198.51.100.7", destination_port=443),
        start(3, "a.exe", command_line="a sekurlsa::logonpasswords"),
        event(4, EventClass.ALERT, rule_id="W-1", detector="wazuh"),
        start(5, "calc.exe"),
    )
    assert output.candidates.positions.tolist() == [1, 2, 3, 4]
    assert output.candidates.keys == ["rule-0", "cmd.exe:other", "a.exe:exec", "W-1"]
    assert output.candidates.detectors == ["eguard.rules", "eguard.indicators", "eguard.prefilter", "wazuh"]
    assert output.candidates.severity.tolist() == [0.75, 1.0, 0.5, 0.5]
    assert output.hits.enrichment == {5: (3,)}


def test_confidence_follows_the_ladder_and_a_prefilter_alone_is_no_alert(content):
    engine = Engine("h", content, NO_SAMPLE)
    output = run(
        engine,
        start(1, "net.exe"),
        event(2, EventClass.NETWORK_CONNECT, destination_address="198.51.100.7"),
        start(3, "a.exe", command_line="a sekurlsa::logonpasswords"),
        event(4, EventClass.ALERT, rule_id="W-1", detector="wazuh"),
    )
    assert [(alert.observed_at_unix, alert.confidence) for alert in output.alerts] == [(1.0, "high"), (2.0, "definite")]
    assert output.alerts[1].reasons == ("indicator 198.51.100.7 (feed)",)


def test_an_alert_carries_its_evidence(content):
    alert = run(
        Engine("h", content, NO_SAMPLE),
        start(0, "cmd.exe", pid=20, parent_pid=10),
        start(1, "whoami.exe", parent_comm="cmd.exe", pid=21, parent_pid=20, command_line="whoami /all"),
    ).alerts[0]
    assert alert.ancestors == ("cmd.exe", "explorer.exe")
    assert alert.process_key == "whoami.exe:cmd.exe"
    assert [(matched.rule_id, matched.author) for matched in alert.rules] == [
        ("rule-0", "somebody"),
        ("rule-2", "somebody"),
    ]
    assert alert.rules[0].matched_fields[0][0] == "Image"
    assert alert.techniques == ("T1033", "T1059")
    assert alert.tactics == ("discovery", "execution")
    assert (alert.command_line, alert.pid, alert.response) == ("whoami /all", 21, "alert_only")
    assert alert.score is None
    assert alert.window is None


def test_three_tactics_in_one_tree_are_a_kill_chain(content):
    engine = Engine("h", content, NO_SAMPLE)
    output = run(
        engine,
        start(0, "cmd.exe", pid=20, parent_pid=10),
        start(1, "whoami.exe", parent_comm="cmd.exe", pid=21, parent_pid=20),
        start(2, "net.exe", parent_comm="cmd.exe", pid=22, parent_pid=20),
        start(3, "net.exe", parent_comm="services.exe", pid=23, parent_pid=4),
    )
    assert [alert.confidence for alert in output.alerts] == ["high", "very_high", "high"]
    assert output.features[:, COLUMN["z4_killchain_count"]].tolist() == pytest.approx([2 / 3, 1.0, 1 / 3])
    assert "kill chain: discovery, execution, lateral-movement" in output.alerts[1].reasons


def test_matches_of_a_process_count_for_a_minute(content):
    engine = Engine("h", content, NO_SAMPLE)
    known = {"pid": 21, "parent_pid": 20, "command_line": "sekurlsa::"}
    output = run(
        engine,
        start(0, "whoami.exe", **known),
        event(50, comm="whoami.exe", **known),
        event(61, comm="whoami.exe", **known),
    )
    assert output.features[:, COLUMN["z2_temporal_count"]].tolist() == pytest.approx([2 / 3, 2 / 3, 0.0])


def test_fleet_tables_and_tree_reach_the_features(content):
    output = run(
        Engine("h", content, NO_SAMPLE),
        start(0, "cmd.exe", pid=20, parent_pid=10),
        start(1, "whoami.exe", parent_comm="cmd.exe", pid=21, parent_pid=20),
        event(2, EventClass.NETWORK_CONNECT, pid=20, destination_address="198.51.100.7", destination_port=443),
    )
    first, second = output.features
    assert first[COLUMN["tree_depth"]] == pytest.approx(0.2)
    assert first[COLUMN["rule_rarity_fleet"]] == pytest.approx(1 - 9.5 / 10)
    assert first[COLUMN["rare_parent_child_score"]] == pytest.approx(1 - 0.5 / 10)
    assert second[COLUMN["dst_port_risk"]] == pytest.approx(1 / 3)


def test_the_reservoir_is_scored_and_never_alerts(content):
    model = load_model(model_json(intercept=9.0))
    engine = Engine("h", content, EngineOptions(reservoir_events=4), model=model, gate=gate_for(model))
    output = run(engine, *(event(time) for time in range(4)), start(4, "whoami.exe"))
    assert output.candidates.is_reservoir[:4].all()
    assert (output.scores > 0.99).all()
    assert [alert.observed_at_unix for alert in output.alerts] == [4.0]


def test_a_flagged_score_raises_the_confidence_by_one_step_and_to_medium_at_least(content):
    model = load_model(model_json(intercept=-5.0, coefficient=10.0))
    engine = Engine("h", content, NO_SAMPLE, model=model, gate=gate_for(model))
    output = run(
        engine,
        start(0, "a.exe", command_line="sekurlsa::"),
        start(1, "net.exe", command_line="sekurlsa::"),
        start(2, "net.exe"),
    )
    assert [alert.confidence for alert in output.alerts] == ["medium", "very_high", "high"]
    rows = output.features[output.candidates.is_fired]
    assert [alert.features for alert in output.alerts] == [tuple(row) for row in rows.tolist()]
    assert {alert.feature_contract for alert in output.alerts} == {contract_sha256()}
    keys = [key for key, fired in zip(output.candidates.keys, output.candidates.is_fired, strict=True) if fired]
    assert [alert.signal for alert in output.alerts] == keys
    alert = output.alerts[0]
    assert alert.reasons[-1] == "classifier above its threshold"
    assert alert.score == pytest.approx(1 / (1 + math.exp(-5.0)))
    assert (alert.p_value, alert.threshold, alert.model_version) == (0.01, 0.5, "v-test")
    assert alert.contributions[0].feature == "prefilter_hit"
    assert output.p_values.tolist() == pytest.approx([0.01, 0.01, output.p_values[2]])


def test_a_models_tables_fill_columns_7_and_41(content):
    bare = run(Engine("h", content, NO_SAMPLE), start(0, "whoami.exe"), start(1, "net.exe"))
    assert not bare.features[:, [COLUMN["event_class_risk"], COLUMN["rule_precision_prior"]]].any()
    engine = Engine("h", content, NO_SAMPLE, model=load_model(model_json()))
    filled = run(engine, start(0, "whoami.exe"), start(1, "net.exe"))
    assert filled.features[:, COLUMN["event_class_risk"]].tolist() == [0.25, 0.25]
    assert filled.features[:, COLUMN["rule_precision_prior"]].tolist() == [0.75, 0.125]
    assert filled.p_values is None


def test_equal_alerts_of_one_instant_have_names_of_their_own(content):
    first = run(Engine("h", content, NO_SAMPLE), start(0, "net.exe"), start(0, "net.exe"), start(1, "net.exe"))
    again = Engine("h", content, NO_SAMPLE)
    ids = [
        run(again, one).alerts[0].alert_id for one in (start(0, "net.exe"), start(0, "net.exe"), start(1, "net.exe"))
    ]
    assert len(set(ids)) == 3
    assert [alert.alert_id for alert in first.alerts] == ids


def learned_engine(content, **windows):
    options = EngineOptions(reservoir_events=0, windows=WindowOptions(default_overdispersion=1.0, **windows))
    engine = Engine("h", content, options)
    run(engine, *(event(time, EventClass.FILE_OPEN) for time in range(1280)))
    return engine


def test_a_window_far_from_its_baseline_alerts_at_the_event_that_closes_it(content):
    engine = learned_engine(content)
    output = run(engine, *(event(2000 + time, EventClass.LOGIN) for time in range(130)))
    assert output.candidates.positions.tolist() == [127]
    alert = output.alerts[0]
    assert (alert.confidence, alert.observed_at_unix) == ("medium", 2127.0)
    assert alert.window.window[EventClass.LOGIN] == 1.0
    assert alert.window.baseline[EventClass.FILE_OPEN] > 0.99
    assert alert.window.kl_bits > alert.window.threshold_bits
    assert output.features[0, [COLUMN["z3_anomaly_high"], COLUMN["z3_anomaly_med"]]].tolist() == [1.0, 1.0]
    assert output.closed_windows[0].score.level == WindowLevel.HIGH


def test_a_rule_in_an_anomalous_key_is_very_high(content):
    engine = learned_engine(content)
    run(engine, *(event(2000 + time, EventClass.LOGIN) for time in range(128)))
    output = run(engine, start(3000, "cmd.exe", command_line="sekurlsa::"))
    assert [alert.confidence for alert in output.alerts] == ["medium"]
    engine = Engine("h", content, EngineOptions(reservoir_events=0, windows=WindowOptions(default_overdispersion=1.0)))
    run(engine, *(event(time, EventClass.FILE_OPEN, "net.exe") for time in range(1280)))
    run(engine, *(event(2000 + time, EventClass.LOGIN, "net.exe") for time in range(128)))
    assert run(engine, start(3000, "net.exe")).alerts[0].confidence == "very_high"


def test_windows_with_a_high_alert_are_not_learned(content):
    engine = Engine("h", content, NO_SAMPLE)
    run(engine, *(start(time, "whoami.exe" if time == 5 else "cmd.exe", parent_comm="x") for time in range(300)))
    by_name = {engine.profiles.index.key_of(slot)[0]: slot for slot in engine.profiles.index.used().tolist()}
    assert engine.profiles.sample_count[by_name["cmd.exe"]] == 256
    engine.settle(1e9)
    assert engine.profiles.sample_count[by_name["cmd.exe"]] == 299
    assert engine.profiles.sample_count[by_name["whoami.exe"]] == 0  # its only event alerted High


def test_swapping_content_and_model_keeps_what_was_learned(content):
    engine = learned_engine(content)
    learned = engine.profiles.counts.copy()
    model = load_model(model_json())
    engine.swap(content=DetectionContent(), model=model, gate=gate_for(model))
    assert engine.loaded.model is model
    assert np.array_equal(engine.profiles.counts, learned)
    assert run(engine, start(5000, "whoami.exe")).alerts == []
    engine.swap(content=content)
    assert len(run(engine, start(5001, "whoami.exe")).alerts) == 1
    assert engine.loaded.gate is not None


def test_a_new_model_without_a_gate_is_not_judged_by_the_old_one(content):
    old, new = load_model(model_json()), load_model(model_json(intercept=3.0))
    engine = Engine("h", content, NO_SAMPLE, model=old, gate=gate_for(old))
    engine.swap(model=new)
    assert engine.loaded.gate is None


def test_parts_that_do_not_belong_together_are_refused_and_the_old_ones_stay(content):
    old, new = load_model(model_json()), load_model(model_json(intercept=3.0))
    engine = Engine("h", content, NO_SAMPLE, model=old, gate=gate_for(old))
    with pytest.raises(ModelError, match="another model"):
        engine.swap(model=new, gate=gate_for(old))
    foreign = load_model(model_json() | {"contract_sha256": "00" * 32})
    with pytest.raises(ModelError, match="feature contract"):
        engine.swap(model=foreign, gate=None)
    assert engine.loaded.model is old
    assert engine.loaded.gate is not None


def test_evicted_keys_leave_no_windows_behind(content):
    options = EngineOptions(reservoir_events=0, max_profiles=4, windows=WindowOptions(window_events=8))
    engine = Engine("h", content, options)
    for name in "abcdef":
        run(engine, *(event(ord(name) * 100 + time, EventClass.LOGIN, name) for time in range(7)))
    output = run(engine, *(event(99_999 + time, EventClass.LOGIN, "a") for time in range(7)))
    assert output.closed_windows == []  # the seven events of the first "a" are gone
    assert len(engine.profiles) == 4


def test_an_empty_batch_is_fine(content):
    output = Engine("h", content).process(EventBatch())
    assert len(output.candidates) == 0
    assert output.closed_windows == []


def test_after_the_learning_time_alerts_ask_for_a_response(content):
    engine = Engine("h", content, NO_SAMPLE)
    run(engine, event(0))
    alerts = run(engine, start(7 * 86_400 - 1, "net.exe"), start(7 * 86_400, "net.exe")).alerts
    assert [alert.response for alert in alerts] == ["alert_only", "respond"]


def test_whoever_runs_the_engine_may_say_whether_the_baseline_is_being_learned(content):
    engine = Engine("h", content, NO_SAMPLE)
    for is_learning, response in ((False, "respond"), (True, "alert_only")):
        engine.is_learning = is_learning
        assert run(engine, start(0, "net.exe")).alerts[0].response == response


def test_an_engine_goes_on_with_a_baseline_that_it_is_given(content):
    first = learned_engine(content)
    again = Engine("h", content, NO_SAMPLE, profiles=first.profiles)
    assert again.profiles is first.profiles
    assert again.windows.open_counts(0) == (0,) * 8


def test_an_alert_names_the_window_that_is_held_for_it(content):
    engine = Engine("h", content, EngineOptions(reservoir_events=0, windows=WindowOptions(session="s.")))
    events = [start(time, "whoami.exe") for time in range(200)]
    alerts = run(engine, *events).alerts
    assert [alert.window_id for alert in alerts] == ["s.0.1"] * 128 + ["s.0.2"] * 72
    assert [name for name, _ in engine.profiles.held.items()] == ["s.0.1"]
