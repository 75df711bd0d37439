"""Redaction: known secrets in every form, secrets by their shape, and nothing else."""

import base64
import json
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eguard.evidence.known_secrets import KnownSecret
from eguard.evidence.redaction import Redactor

SECRET = 'p&ss "wörd"/+=1'


@pytest.fixture
def redactor():
    return Redactor([KnownSecret("here", SECRET)])


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        quote(SECRET, safe=""),
        json.dumps(SECRET)[1:-1],
        json.dumps(SECRET, ensure_ascii=False)[1:-1],
        "p&amp;ss &quot;wörd&quot;/+=1",
        SECRET.encode().hex(),
        SECRET.encode().hex().upper(),
    ],
)
def test_a_known_secret_is_replaced_in_every_form(redactor, form):
    text = redactor.text(f"before {form} after")
    assert form not in text
    assert text.startswith("before [redacted]")
    assert text.endswith(" after")
    assert redactor.found_in(form.encode()) == "the secret of here"
    assert redactor.found_in(text.encode()) is None


@given(st.binary(max_size=40), st.binary(max_size=40), st.booleans())
def test_a_known_secret_is_found_in_base64_wherever_it_begins(before, after, is_url):
    encode = base64.urlsafe_b64encode if is_url else base64.b64encode
    data = encode(before + SECRET.encode() + after)
    redactor = Redactor([KnownSecret("here", SECRET)])
    assert redactor.found_in(data) == "the secret of here"
    assert redactor.found_in(redactor.text(data.decode()).encode()) is None


def test_fields_are_judged_by_their_names_and_ids_are_kept(redactor):
    value = {
        "token": "x",
        "token_id": "ab12",
        "password": "",
        "api_key": ["a", {"b": "c"}],
        "process_key": "bash:sshd",
        "max_token_share": 0.1,
        "settings": [{"variable": "DB_PASSWORD", "value": "y"}, {"variable": "EGUARD_API", "value": "z"}],
    }
    assert redactor.value(value) == {
        "token": "[redacted]",
        "token_id": "ab12",
        "password": "",
        "api_key": ["[redacted]", {"b": "c"}],
        "process_key": "bash:sshd",
        "max_token_share": 0.1,
        "settings": [{"variable": "DB_PASSWORD", "value": "[redacted]"}, {"variable": "EGUARD_API", "value": "z"}],
    }


def test_what_holds_no_secret_stays_as_it_is(redactor):
    text = "SELECT process_key, agent_count FROM fleet_baseline;\nbash:sshd 3 2026-03-01 10:00:00\n"
    assert redactor.text(text) == text
    assert redactor.replaced == 0


def test_a_key_over_many_lines_goes_and_what_follows_it_stays(redactor):
    body = "\n".join(["MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg"] * 3)
    text = f"a\n-----BEGIN EC PRIVATE KEY-----\n{body}\n-----END EC PRIVATE KEY-----\nb\n"
    assert redactor.text(text) == "a\n[redacted]\nb\n"


def test_a_first_line_of_a_key_does_not_take_the_rest_of_a_log_with_it(redactor):
    text = '{"comm": "-----BEGIN PRIVATE KEY-----"}\n{"event": "kept, all of it"}\n'
    assert '"kept, all of it"' in redactor.text(text)
    assert "PRIVATE KEY" not in redactor.text(text)


def test_hostile_lines_take_no_more_than_linear_time(redactor):
    began = time.process_time()
    for piece in (
        ".",
        "-",
        "token",
        "://:",
        "a",
        "token.",
        '"token":"',
        "eyJaaaaaaaaa.",
        "-----BEGIN PRIVATE KEY-----.",
    ):
        redactor.text((piece * 40_000)[:40_000])
    assert time.process_time() - began < 5


def test_a_secret_is_not_shown_by_what_holds_it():
    assert "s3same" not in repr(KnownSecret("here", "s3same"))
