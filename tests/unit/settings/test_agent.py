import socket
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from eguard.errors import ConfigError
from eguard.settings import AgentSettings, load_agent_settings


def test_defaults_are_those_of_the_contract():
    settings = load_agent_settings()
    assert settings.agent_id == socket.gethostname()
    assert (settings.baseline_upload_enabled, settings.fleet_seed_enabled, settings.require_ebpf) == (True, True, False)
    assert (settings.baseline_upload_canary_percent, settings.fleet_seed_canary_percent) == (100, 100)
    assert settings.state_path == Path("/var/lib/eguard")
    assert settings.baseline_folder == Path("/var/lib/eguard/baseline")
    assert (settings.learning_seconds, settings.stale_seconds, settings.settle_seconds) == (604_800, 2_592_000, 300)
    assert (settings.tls_cert, settings.bundle_root, settings.beacon_allow_list) == (None, None, ())
    assert settings.max_load_memory_bytes == 2**30


def test_file_beats_default_and_environment_beats_file(tmp_path, monkeypatch):
    file = tmp_path / "agent.toml"
    file.write_text('agent_id = "from-file"\nmax_profiles = 7\nbaseline_upload_enabled = true\n')
    monkeypatch.setenv("EGUARD_CONFIG", str(file))
    monkeypatch.setenv("EGUARD_AGENT_ID", "from-environment")
    monkeypatch.setenv("EGUARD_BASELINE_UPLOAD_ENABLED", "false")
    settings = load_agent_settings()
    assert (settings.agent_id, settings.max_profiles, settings.held_seconds) == ("from-environment", 7, 86_400)
    assert settings.baseline_upload_enabled is False


def test_argument_is_read_in_the_place_of_the_variable(tmp_path, monkeypatch):
    (tmp_path / "a.toml").write_text("max_profiles = 1\n")
    (tmp_path / "b.toml").write_text("max_profiles = 2\n")
    monkeypatch.setenv("EGUARD_CONFIG", str(tmp_path / "a.toml"))
    assert load_agent_settings(tmp_path / "b.toml").max_profiles == 2


def test_bad_value_of_the_file_does_not_matter_where_the_environment_decides(tmp_path, monkeypatch):
    (tmp_path / "a.toml").write_text("max_profiles = 0\n")
    monkeypatch.setenv("EGUARD_MAX_PROFILES", "9")
    assert load_agent_settings(tmp_path / "a.toml").max_profiles == 9


def test_settings_cannot_be_changed_afterwards():
    settings = load_agent_settings()
    with pytest.raises(ValidationError):
        settings.agent_id = "another"


@pytest.mark.parametrize(
    ("given", "folder"),
    [
        ("/srv/b/baselines.bin", "/srv/b"),
        ("/srv/b", "/srv/b"),
        ("/srv/baselines.bin.d", "/srv/baselines.bin.d"),
        ("", "/x/baseline"),
    ],
)
def test_baseline_folder_follows_the_file_or_the_folder(monkeypatch, given, folder):
    monkeypatch.setenv("EGUARD_STATE_PATH", "/x")
    monkeypatch.setenv("EGUARD_BASELINE_PATH", given)
    assert load_agent_settings().baseline_folder == Path(folder)


@pytest.mark.parametrize("word", ["1", "true", "YES", "on"])
def test_switch_on(monkeypatch, word):
    monkeypatch.setenv("EGUARD_REQUIRE_EBPF", word)
    assert load_agent_settings().require_ebpf is True


@pytest.mark.parametrize("word", ["0", "False", "no", "OFF"])
def test_switch_off(monkeypatch, word):
    monkeypatch.setenv("EGUARD_FLEET_SEED_ENABLED", word)
    assert load_agent_settings().fleet_seed_enabled is False


@pytest.mark.parametrize("word", ["", "t", "y", "n", "f", "2", "1.0", "enabled", " true"])
def test_any_other_word_stops_the_start(monkeypatch, word):
    monkeypatch.setenv("EGUARD_FLEET_SEED_ENABLED", word)
    with pytest.raises(ConfigError, match="EGUARD_FLEET_SEED_ENABLED"):
        load_agent_settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("EGUARD_BASELINE_UPLOAD_CANARY_PERCENT", "101"),
        ("EGUARD_FLEET_SEED_CANARY_PERCENT", "-0.1"),
        ("EGUARD_FLEET_SEED_CANARY_PERCENT", "nan"),
        ("EGUARD_LEARNING_SECONDS", "0"),
        ("EGUARD_STALE_SECONDS", "inf"),
        ("EGUARD_MAX_PROFILES", "65537"),
        ("EGUARD_MAX_PROFILES", "4096.5"),
        ("EGUARD_DETECTION_SHARDS", "65"),
        ("EGUARD_SENSOR", "kprobes"),
        ("EGUARD_ALERT_BUFFER_MAX_BYTES", "65535"),
        ("EGUARD_STATE_PATH", ""),
        ("EGUARD_AGENT_ID", ""),
        ("EGUARD_AGENT_ID", "a\nb"),
    ],
)
def test_bad_value_names_its_variable_and_the_value(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError) as caught:
        load_agent_settings()
    assert str(caught.value).startswith(f"{variable}={value!r}: ")
    assert caught.value.remedy == f"Correct or unset {variable}."


def test_names_are_split_at_commas_in_the_environment_and_listed_in_the_file(tmp_path, monkeypatch):
    (tmp_path / "a.toml").write_text('beacon_allow_list = ["a.example", "192.0.2.1"]\n')
    assert load_agent_settings(tmp_path / "a.toml").beacon_allow_list == ("a.example", "192.0.2.1")
    monkeypatch.setenv("EGUARD_BEACON_ALLOW_LIST", "b.example, ,198.51.100.2,")
    assert load_agent_settings(tmp_path / "a.toml").beacon_allow_list == ("b.example", "198.51.100.2")


def test_direct_construction_takes_arguments_before_the_environment(monkeypatch):
    monkeypatch.setenv("EGUARD_STATE_PATH", "/elsewhere")
    assert AgentSettings(state_path=Path("/here")).state_path == Path("/here")


def test_importing_the_settings_loads_nothing_heavy():
    heavy = {"numpy", "scipy", "tuf", "cryptography", "psutil", "sqlalchemy", "pandas", "structlog", "typer"}
    code = f"import sys, eguard.settings; print(sorted({heavy!r} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
