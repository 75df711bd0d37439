import pytest
from pydantic import ValidationError

from eguard.errors import ConfigError
from eguard.settings import load_mlops_settings


def test_nothing_set_leaves_every_choice_to_the_parameters():
    assert set(load_mlops_settings().model_dump().values()) == {None}


def test_environment_is_read_once_and_frozen(monkeypatch):
    monkeypatch.setenv("EGUARD_ML_FAIL_ON_THRESHOLD", "on")
    monkeypatch.setenv("EGUARD_ML_RESOURCE_PROFILE", "tiny")
    settings = load_mlops_settings()
    assert settings.fail_on_threshold is True
    assert settings.resource_profile == "tiny"
    with pytest.raises(ValidationError):
        settings.resource_profile = "high"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EGUARD_ML_FAIL_ON_REGRESSION", "perhaps"),
        ("EGUARD_ML_CV_FOLDS", "4"),
        ("EGUARD_ML_RESOURCE_PROFILE", "gigantic"),
        ("EGUARD_ML_SAMPLE_COUNT", "many"),
    ],
)
def test_a_bad_value_names_its_variable(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable) as caught:
        load_mlops_settings()
    assert value in str(caught.value)
