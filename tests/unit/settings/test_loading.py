import pytest

from eguard.errors import ConfigError
from eguard.settings import load_agent_settings


def test_unknown_key_is_named_with_its_file(tmp_path):
    file = tmp_path / "agent.toml"
    file.write_text("max_profiles = 5\nlerning_seconds = 3\n")
    with pytest.raises(ConfigError) as caught:
        load_agent_settings(file)
    assert "'lerning_seconds'" in str(caught.value)
    assert str(file) in str(caught.value)
    assert caught.value.context["key"] == "lerning_seconds"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("max_profiles = true", "max_profiles"),
        ("learning_seconds = nan", "learning_seconds"),
        ("require_ebpf = 'perhaps'", "require_ebpf"),
        ("require_ebpf = 2", "require_ebpf"),
        ("state_path = 3", "state_path"),
        ("beacon_allow_list = [1]", "beacon_allow_list"),
        ('tls_key = "/a\\u0000b"', "tls_key"),
        ("[sensor]\nname = 'ebpf'", "sensor"),
    ],
    ids=[
        "switch for number",
        "nan",
        "word",
        "number for switch",
        "number for path",
        "number in list",
        "zero byte",
        "table",
    ],
)
def test_bad_value_in_the_file_names_its_key_and_file(tmp_path, line, key):
    file = tmp_path / "agent.toml"
    file.write_text(line)
    with pytest.raises(ConfigError) as caught:
        load_agent_settings(file)
    assert str(caught.value).startswith(f"{key} = ")
    assert str(file) in str(caught.value)
    assert caught.value.remedy == f"Correct or remove {key} in {file}."


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"max_profiles == 3", "is not TOML"),
        (b"agent_id = 'a'\nagent_id = 'b'", "is not TOML"),
        (b"agent_id = '\xff'", "is not TOML"),
        (b"a = " + b"[" * 100_000, "is not TOML"),
        (b"#" * 1_000_001, "larger than 1 MB"),
    ],
    ids=["malformed", "repeated", "not utf-8", "deep", "large"],
)
def test_file_that_is_no_configuration_is_refused_with_a_remedy(tmp_path, content, says):
    file = tmp_path / "agent.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=says) as caught:
        load_agent_settings(file)
    assert caught.value.remedy


def test_file_that_cannot_be_read_says_why(tmp_path, monkeypatch):
    monkeypatch.setenv("EGUARD_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read: No such file or directory"):
        load_agent_settings()
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        load_agent_settings(tmp_path)
