"""Parameters of the drift stage: defaults first, nonsense refused."""

import pytest
from pydantic import ValidationError

from eguard.mlops.drift_params import DriftParams


def test_the_first_of_every_list_is_the_default():
    grids = {detector.name: detector.grid for detector in DriftParams().detectors()}
    assert grids["level, previous"][0] == {"level_nats": 0.1, "cycles": 2}
    assert grids["CUSUM, pinned"][0] == {"k": 0.5, "h": 8.0, "burn_in": 30}
    assert grids["ADWIN, pinned"][0] == {"delta": 0.002}
    assert grids["rank ADWIN, same hour"][0] == {"delta": 0.002, "burn_in": 30}
    assert grids["Page-Hinkley, KL of windows"][0] == {"delta": 0.5, "threshold": 20.0, "burn_in": 30}
    assert len(grids["CUSUM, pinned"]) == len({tuple(settings.items()) for settings in grids["CUSUM, pinned"]}) == 12


def test_a_parameter_reaches_its_detector():
    grids = {detector.name: detector.grid for detector in DriftParams(cusum_h=(3.0,), burn_in=(12,)).detectors()}
    assert {settings["h"] for settings in grids["CUSUM, same hour"]} == {3.0}
    assert grids["rank ADWIN, pinned"][0]["burn_in"] == 12


@pytest.mark.parametrize(
    "wrong", [{"baseline_captures": 8}, {"cusum_k": ()}, {"reference_days": 0}, {"colour": 1}, {"same_hour_width": 12}]
)
def test_nonsense_is_refused(wrong):
    with pytest.raises(ValidationError):
        DriftParams(**wrong)
