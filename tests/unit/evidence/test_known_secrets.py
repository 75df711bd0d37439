"""What is known to be secret: by names of variables, in addresses, in settings, in files."""

import os

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import SecretStr

from eguard.bundle.keys import make_signer
from eguard.evidence.known_secrets import known_secrets
from eguard.evidence.redaction import Redactor
from eguard.settings import OperatorSettings, ServerSettings


def values(*arguments, **named):
    return {each.value for each in known_secrets(*arguments, **named)}


@pytest.mark.parametrize(
    "name",
    ["EGUARD_API_TOKEN", "DB_PASSWORD", "my_secret", "AWS_ACCESS_KEY_ID_PASSPHRASE", "STRIPE_API_KEY", "RSA_KEY"],
)
def test_a_variable_is_known_by_its_name(name):
    assert values({name: "hunter22"}) == {"hunter22"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PATH", "/usr/bin:/bin"),
        ("EGUARD_API_TOKEN_FILE", "/etc/eguard/token"),
        ("TLS_KEY", "/etc/eguard/agent.pem"),
        ("DB_PASSWORD", "short"),
        ("DB_PASSWORD", "eguard"),
        ("HOME", "hunter22"),
    ],
)
def test_what_is_no_secret_or_too_common_is_not_looked_for(name, value):
    assert values({name: value}) == set()


def test_passwords_in_addresses_are_known_as_written_and_as_meant():
    assert values({"ANY": "mysql://eguard:a%40b%2Fcd@db.example/x"}) == {"a%40b%2Fcd", "a@b/cd"}


def test_secrets_of_settings_are_known_and_paths_of_receivers():
    hook = "https://chat.example/services/T000/xoxCanaryCanary01"
    settings = [
        OperatorSettings(api_token=SecretStr("token-of-mine")),
        ServerSettings(notify_webhook_url=SecretStr(hook), database_url="mysql://e:passwort@db/x"),
    ]
    found = values({}, settings=settings)
    assert {"token-of-mine", hook, "xoxCanaryCanary01", "passwort"} <= found
    assert "services" not in found


def test_keys_and_token_files_are_known(tmp_path):
    make_signer(tmp_path / "k.pem")
    (tmp_path / "t").write_text("token-in-a-file\n")
    found = values({}, files=[tmp_path / "k.pem", tmp_path / "t", tmp_path / "none"])
    body = (tmp_path / "k.pem").read_text().splitlines()[1]
    assert {body, "token-in-a-file"} <= found
    assert load_pem_private_key((tmp_path / "k.pem").read_bytes(), None).private_bytes_raw().hex() in found


def test_a_certificate_is_no_secret(tmp_path):
    (tmp_path / "c.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    assert values({}, files=[tmp_path / "c.pem"]) == set()


def test_bytes_that_are_no_text_are_known_as_logs_show_them(monkeypatch):
    monkeypatch.setenv("DB_PASSWORD", b"pass\xff\xfeword".decode("utf-8", "surrogateescape"))
    redactor = Redactor(known_secrets(os.environ))
    assert redactor.text(b"with pass\xff\xfeword in".decode("utf-8", "replace")) == "with [redacted] in"
