"""What a view of an event says about its fields."""

from eguard.detection.sigma_view import TEXT_LIMIT_CHARACTERS, Knowledge, SigmaView


def test_fields_are_known_whole_unless_said_otherwise():
    view = SigmaView({"Image": "\\a", "User": "u"}, {"Image": Knowledge.END})
    assert (view.knowledge("Image"), view.knowledge("User")) == (Knowledge.END, Knowledge.WHOLE)


def test_everything_is_all_values_in_lower_case():
    assert SigmaView({"a": "One", "b": "TWO"}).everything == "one\ntwo"


def test_text_beyond_the_limit_is_not_looked_at():
    view = SigmaView({"CommandLine": "x" * (TEXT_LIMIT_CHARACTERS + 5)})
    assert len(view.values["CommandLine"]) == len(view.lowered["CommandLine"]) == TEXT_LIMIT_CHARACTERS
