import json

import pytest
from typer.testing import CliRunner

from eguard.cli.config import app
from eguard.settings import AgentSettings, explain_settings, unknown_variables
from eguard.settings.origins import redact_password


def test_every_value_carries_its_origin(tmp_path, monkeypatch):
    file = tmp_path / "agent.toml"
    file.write_text('server = "https://a.example:8443"\nmax_profiles = 5\n')
    monkeypatch.setenv("EGUARD_MAX_PROFILES", "6")
    monkeypatch.setenv("EGUARD_ML_CV_FOLDS", "7")
    found = {each.variable: each for each in explain_settings(file)}
    assert {name: (each.value, each.origin) for name, each in found.items() if each.origin != "default"} == {
        "EGUARD_SERVER": ("https://a.example:8443", "file"),
        "EGUARD_MAX_PROFILES": (6, "environment"),
        "EGUARD_ML_CV_FOLDS": (7, "environment"),
    }
    assert found["EGUARD_STATE_PATH"].value == "/var/lib/eguard"
    assert found["EGUARD_ML_CV_FOLDS"].key == ""
    assert len([each for each in found.values() if each.key]) == len(AgentSettings.model_fields)


def test_command_prints_what_is_in_effect(tmp_path, monkeypatch):
    monkeypatch.setenv("EGUARD_DATABASE_URL", "mysql+pymysql://eguard:hunter2@db.example/fleet")
    monkeypatch.setenv("EGUARD_LERNING_SECONDS", "5")
    answer = CliRunner().invoke(app, ["show", "--json"])
    assert answer.exit_code == 0
    assert "hunter2" not in answer.stdout
    document = json.loads(answer.stdout)
    assert document["unknown_variables"] == ["EGUARD_LERNING_SECONDS"]
    values = {each["variable"]: each["value"] for each in document["settings"]}
    assert values["EGUARD_DATABASE_URL"] == "mysql+pymysql://eguard:[redacted]@db.example/fleet"
    text = CliRunner().invoke(app, ["show"], env={"COLUMNS": "200"})
    assert "hunter2" not in text.output
    assert "EGUARD_LERNING_SECONDS is set, but there is no such setting" in text.output


def test_variables_that_other_commands_read_are_known(monkeypatch):
    for name in ("EGUARD_CONFIG", "EGUARD_KEYS", "EGUARD_BUNDLE_REPOSITORY"):
        monkeypatch.setenv(name, "/x")
    assert unknown_variables() == []


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////var/lib/eguard/fleet.sqlite", "sqlite:////var/lib/eguard/fleet.sqlite"),
        ("mysql://user@host/db", "mysql://user@host/db"),
        ("mysql://user:p@ss#/?w@host/db", "mysql://user:[redacted]@host/db"),
        ("mysql://host/db?user=a&password=p&ssl=1", "mysql://host/db?user=a&password=[redacted]&ssl=1"),
    ],
    ids=["file", "no password", "hostile password", "in the query"],
)
def test_passwords_are_left_out(url, shown):
    assert redact_password(url) == shown
