import tracemalloc

import numpy as np
import pytest

from eguard.detection.context import AlertContext, alert_keys
from eguard.detection.fleet_context import FleetContext
from eguard.events.columns import EventBatch

MINUTE = 60.0


def update(context, *alerts):
    times, keys, detectors = zip(*alerts, strict=True)
    return context.update_keys(times, keys, detectors)


def test_host_rarity_is_one_minus_the_smoothed_share_of_minutes():
    columns = update(AlertContext(), (0, "A", ""), (60, "A", ""), (120, "B", ""), (180, "A", ""), (240, "B", ""))
    expected = [1 - 0.5 / 1, 1 - 1.5 / 2, 1 - 0.5 / 3, 1 - 2.5 / 4, 1 - 1.5 / 5]
    assert columns.rule_rarity_host.tolist() == pytest.approx(expected, abs=1e-15)


def test_a_flood_within_one_minute_does_not_change_any_share():
    calm, flooded = AlertContext(), AlertContext()
    update(calm, (0, "A", ""), (60, "FLOOD", ""))
    update(flooded, (0, "A", ""), *((60 + i / 100, "FLOOD", "") for i in range(5000)))
    a = update(calm, (120, "A", ""), (120, "FLOOD", ""))
    b = update(flooded, (120, "A", ""), (120, "FLOOD", ""))
    assert a.rule_rarity_host.tolist() == b.rule_rarity_host.tolist() == [1 - 1.5 / 3, 1 - 1.5 / 3]


def test_burst_counts_earlier_alerts_of_the_rule_younger_than_a_minute():
    columns = update(
        AlertContext(), (0, "A", ""), (1, "B", ""), (2, "A", ""), (59.9, "A", ""), (60, "A", ""), (62, "A", "")
    )
    expected = np.log2(1 + np.array([0, 0, 1, 2, 2, 2])) / 12
    assert columns.rule_burst.tolist() == pytest.approx(expected.tolist(), abs=1e-15)


def test_burst_is_one_from_4095_earlier_alerts():
    columns = update(AlertContext(), *((100 + i / 1000, "A", "") for i in range(4097)))
    assert columns.rule_burst[4094] < 1.0
    assert columns.rule_burst[4095] == columns.rule_burst[4096] == 1.0


def test_distinct_rules_of_the_last_five_minutes_include_this_one_and_stop_at_sixteen():
    context = AlertContext()
    columns = update(context, *((i, f"R{i}", "") for i in range(20)))
    assert columns.distinct_rules.tolist() == [min(i + 1, 16) / 16 for i in range(20)]
    later = update(context, (318.5, "NEW", ""), (400, "NEW", ""))
    assert later.distinct_rules.tolist() == [2 / 16, 1 / 16]  # R19 is 299.5 s old, then gone


def test_silence_is_log_scaled_and_one_for_a_rule_never_seen():
    columns = update(AlertContext(), (0, "A", ""), (3600, "A", ""), (3600, "B", ""), (1e7, "A", ""))
    scale = np.log1p(7 * 86_400)
    assert columns.silence_before.tolist() == pytest.approx([1.0, np.log1p(3600) / scale, 1.0, 1.0])


def test_a_run_of_alerts_keeps_the_silence_before_its_first():
    columns = update(AlertContext(), (0, "A", ""), (30, "A", ""), (89, "A", ""), (149, "A", ""), (150, "A", ""))
    before_second_run = np.log1p(60) / np.log1p(7 * 86_400)
    assert columns.silence_before.tolist() == pytest.approx([1.0, 1.0, 1.0, before_second_run, before_second_run])


def test_detectors_agree_when_named_and_recent():
    columns = update(
        AlertContext(),
        (0, "A", "suricata"),
        (1, "B", "wazuh"),
        (2, "C", ""),
        (299, "D", "suricata"),
        (301, "E", ""),
        (600, "F", ""),
    )
    assert columns.detector_agreement.tolist() == [0.25, 0.5, 0.5, 0.5, 0.25, 0.0]


def test_five_detectors_are_full_agreement():
    columns = update(AlertContext(), *((i, "A", name) for i, name in enumerate("vwxyz")))
    assert columns.detector_agreement.tolist() == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_fleet_rarity_comes_from_the_tables_in_force():
    context = AlertContext(FleetContext(n_hosts=9, rule_hosts={"A": 4}))
    assert update(context, (0, "A", ""), (0, "B", "")).rule_rarity_fleet.tolist() == pytest.approx([0.55, 0.95])
    context.fleet = FleetContext(n_hosts=9, rule_hosts={"A": 9})
    assert update(context, (1, "A", "")).rule_rarity_fleet.tolist() == pytest.approx([0.05])


def test_events_without_a_rule_are_keyed_by_program_and_type():
    batch = EventBatch(
        time_unix=[0.0, 1.0, 2.0],
        comm=["sh", "sh", "sh"],
        event_type=["exec", "open", "exec"],
        rule_id=["", "", "R"],
        detector=["", "", "wazuh"],
    )
    assert alert_keys(batch) == ["sh:exec", "sh:open", "R"]
    assert AlertContext().update(batch).distinct_rules.tolist() == [1 / 16, 2 / 16, 3 / 16]


def test_a_late_alert_counts_as_of_the_latest():
    context = AlertContext()
    columns = update(context, (1000, "A", ""), (990, "A", ""), (1000, "A", ""))
    assert columns.rule_burst.tolist() == pytest.approx([0, 1 / 12, np.log2(3) / 12])


def test_a_clock_set_back_empties_the_windows_but_keeps_the_sightings():
    context = AlertContext()
    update(context, (1e6, "A", "x"), (1e6, "B", "y"))
    columns = update(context, (1e5, "A", "x"), (1e5 + 70, "A", "x"))
    assert columns.rule_burst.tolist() == [0.0, 0.0]
    assert columns.distinct_rules.tolist() == [1 / 16, 1 / 16]
    assert columns.detector_agreement.tolist() == [0.25, 0.25]
    assert columns.silence_before[1] == pytest.approx(np.log1p(70) / np.log1p(7 * 86_400))
    assert columns.rule_rarity_host.tolist() == [1 - 1.5 / 2, 1 - 2.5 / 3]


@pytest.mark.parametrize("time", [float("nan"), float("inf"), float("-inf")])
def test_a_time_that_is_no_number_counts_as_now(time):
    context = AlertContext()
    columns = update(context, (time, "A", ""), (50, "A", ""), (time, "A", ""), (55, "A", ""))
    for name in columns.__slots__:
        assert np.all(np.isfinite(getattr(columns, name)))
    assert columns.rule_burst[-1] == pytest.approx(np.log2(4) / 12)


def test_a_rule_flood_of_new_names_stays_in_bounded_memory():
    context = AlertContext()
    tracemalloc.start()
    for start in range(0, 100_000, 5000):
        names = [f"rule-{i}" for i in range(start, start + 5000)]
        context.update_keys(np.full(5000, 1000.0), names, names)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 20 * 2**20
    assert len(context._rules) == 4096
    assert len(context._burst) == 65_536


def test_the_rule_forgotten_first_is_the_one_not_seen_for_longest():
    context = AlertContext()
    update(context, (0, "KEPT", ""), (0, "FORGOTTEN", ""))
    update(context, *((100, f"R{i}", "") for i in range(4094)), (100, "KEPT", ""), (100, "ONE MORE", ""))
    columns = update(context, (200, "KEPT", ""), (200, "FORGOTTEN", ""))
    assert columns.silence_before[0] < 1.0
    assert columns.silence_before[1] == 1.0


def test_an_empty_batch_changes_nothing():
    context = AlertContext()
    assert len(context.update_keys([], [], [])) == 0
    assert update(context, (0, "A", "")).rule_rarity_host.tolist() == [0.5]
