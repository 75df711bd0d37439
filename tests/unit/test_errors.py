import inspect

import pytest

from eguard import errors

TREE = [
    cls
    for _, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, errors.EguardError) and cls.__module__ == errors.__name__
]


def test_codes_are_unique():
    codes = [cls.code for cls in TREE]
    assert len(set(codes)) == len(codes)


@pytest.mark.parametrize("cls", TREE, ids=lambda cls: cls.__name__)
def test_every_error_is_drawn_in_the_tree(cls):
    assert cls.__name__ in errors.__doc__


def test_message_remedy_and_context_travel_with_the_error():
    error = errors.BundleDigestError("rules.json differs", remedy="Fetch again.", file="rules.json")
    assert (str(error), error.remedy, error.context) == ("rules.json differs", "Fetch again.", {"file": "rules.json"})


def test_estimator_errors_name_the_argument_and_are_value_errors():
    error = errors.EstimatorInputError("alpha", "is 0.7, not in (0, 0.5)")
    assert isinstance(error, ValueError)
    assert error.argument == "alpha"
    assert str(error).startswith("alpha: ")
