import pytest

from eguard.mlops.gates import Gate, missed


@pytest.mark.parametrize(
    ("value", "rule", "threshold", "passed"),
    [(0.82, ">=", 0.82, True), (0.8199, ">=", 0.82, False), (0.1, "<=", 0.1, True), (0.11, "<=", 0.1, False)],
)
def test_a_gate_is_met_at_its_threshold(value, rule, threshold, passed):
    assert Gate("x", value, rule, threshold).passed is passed


@pytest.mark.parametrize("rule", [">=", "<="])
def test_what_could_not_be_measured_is_a_miss(rule):
    gate = Gate("x", None, rule, 0.5)
    assert not gate.passed
    assert gate.to_json()["value"] is None
    assert "not measurable" in missed([gate])


def test_every_miss_is_named():
    gates = [Gate("a", 0.1, ">=", 0.5), Gate("b", 0.9, ">=", 0.5), Gate("c", 0.9, "<=", 0.5)]
    assert missed(gates) == "a is 0.1, asked >= 0.5; c is 0.9, asked <= 0.5"
    assert missed(gates[1:2]) == ""
