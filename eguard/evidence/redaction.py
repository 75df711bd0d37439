"""What must not be in evidence: secrets that are known here, and what looks like one.

Known are the values themselves, from the settings, the environment and key files; they are looked for in every form in
which they get into text: as they are, quoted for a URL, for JSON or for HTML, in base64 at any offset, in hexadecimal.
What nobody told of is recognised by its shape, by the rules that agents apply to alerts before they send them.
"""

from __future__ import annotations

import base64
import html
import json
import re
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import quote, quote_plus

from eguard.agent.control.redaction import REDACTED, TELLING_NAME, without_secrets
from eguard.evidence.known_secrets import KnownSecret

#: Lines longer than this are gone through in parts: no rule takes quadratic time on what an endpoint's names may be.
_LINE_CHARACTERS: Final = 16_384
#: A private key to its end, or, where it has none, as far as there is nothing but what keys are written with: whoever
#: can have the first line logged must not be able to have the rest of the log left out.
_PEM: Final = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.{0,8192}?-----END [A-Z ]*PRIVATE KEY-----|[A-Za-z0-9+/=\s\\]*)", re.DOTALL
)
_NAME: Final = re.compile(rf"(?i){TELLING_NAME}")
#: Fields about a secret that are none.
_ABOUT: Final = re.compile(r"(?i).*_(?:id|ids|file|path|share|count|name|at|seconds|unix|version|type)")
#: What no text of a pack may hold, whatever else was redacted.
_NEVER: Final = (
    ("a private key", re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")),
    ("a token of an eGuard server", re.compile(rb"\beguard-(?:enrol|access)-[0-9a-f]{16}-[\w-]{20}")),
    ("a key of AWS", re.compile(rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    ("a token of GitHub", re.compile(rb"\b(?:gh[pousr]_[A-Za-z0-9]{20}|github_pat_\w{20})")),
)
_SHORTEST_ENCODED: Final = 8
#: Names of fields and words come again in every line of a log; they are gone through once.
_SHORT_CHARACTERS: Final = 64
_MOST_SHORT: Final = 20_000
_NAMING_FIELDS: Final = ("name", "variable", "key")


class Redactor:
    """Takes secrets out of what is kept, and tells whether something still holds one.

    Parameters
    ----------
    secrets : iterable of KnownSecret
        Values that are known to be secret.

    Attributes
    ----------
    replaced : int
        Texts in which something was replaced.

    Examples
    --------
    >>> redactor = Redactor([KnownSecret("EGUARD_API_TOKEN", "s3same-open")])
    >>> redactor.text("GET /?t=s3same-open and --password x")
    'GET /?t=[redacted] and --password [redacted]'
    >>> redactor.value({"password": "x", "rows": [1, "czNzYW1lLW9wZW4="]})
    {'password': '[redacted]', 'rows': [1, '[redacted]4=']}
    """

    def __init__(self, secrets: Iterable[KnownSecret] = ()) -> None:
        forms: dict[str, str] = {}
        for secret in secrets:
            for form in _forms(secret.value):
                forms.setdefault(form, secret.origin)
        # The longest first: a password stands inside its own encoded form only by chance, but a token inside a header.
        self._forms = sorted(forms.items(), key=lambda item: (-len(item[0]), item[0]))
        self.replaced = 0
        self._short: dict[str, str] = {}

    def text(self, text: str) -> str:
        """Return a text without secrets."""
        clean = self._short.get(text)
        if clean is None:
            clean = self._without_known(self.without_keys(text))
            clean = "".join(without_secrets(part) for part in _parts(clean))
            if len(text) <= _SHORT_CHARACTERS and len(self._short) < _MOST_SHORT:
                self._short[text] = clean
        self.replaced += clean != text
        return clean

    def without_keys(self, text: str) -> str:
        """Return a text without private keys, which go over many lines; for texts that are read line by line."""
        return _PEM.sub(REDACTED, text)

    def value(self, value: Any, name: str = "") -> Any:
        """Return a JSON value without secrets; `name` is that of the field which holds it."""
        if isinstance(value, str):
            return REDACTED if value and _is_secret_name(name) else self.text(value)
        if isinstance(value, dict):
            holder = next((value[each] for each in _NAMING_FIELDS if isinstance(value.get(each), str)), "")
            return {
                self.text(str(key)): self.value(each, holder if key == "value" and holder else str(key))
                for key, each in value.items()
            }
        if isinstance(value, list | tuple):
            return [self.value(each, name) for each in value]
        return value

    def found_in(self, data: bytes) -> str | None:
        """Return what some bytes hold that must not be kept, in words without the secret; None if nothing."""
        for what, pattern in _NEVER:
            if pattern.search(data):
                return what
        for form, origin in self._forms:
            if form.encode() in data:
                return f"the secret of {origin}"
        return None

    def _without_known(self, text: str) -> str:
        for form, _ in self._forms:
            text = text.replace(form, REDACTED)
        return text


def _is_secret_name(name: str) -> bool:
    return bool(_NAME.fullmatch(name)) and not _ABOUT.fullmatch(name)


def _parts(text: str) -> Iterable[str]:
    """Yield a text in lines, long ones in parts that end at a blank where there is one."""
    for line in text.splitlines(keepends=True):
        while len(line) > _LINE_CHARACTERS:
            cut = line.rfind(" ", 1, _LINE_CHARACTERS) + 1 or _LINE_CHARACTERS
            yield line[:cut]
            line = line[cut:]  # noqa: PLW2901 - what is left of it
        yield line


def _forms(secret: str) -> set[str]:
    """Return the texts in which a secret may stand."""
    raw = secret.encode("utf-8", "surrogatepass")
    plain = {secret, quote(secret, safe=""), quote(secret), quote_plus(secret), json.dumps(secret)[1:-1]}
    plain |= {json.dumps(secret, ensure_ascii=False)[1:-1], html.escape(secret)}
    encoded = {raw.hex(), raw.hex().upper()}
    for offset in range(3):
        whole = base64.b64encode(bytes(offset) + raw).decode()
        # Only the characters that the secret alone decides.
        part = whole[-(-offset * 8 // 6) : (offset + len(raw)) * 8 // 6]
        encoded |= {part, part.translate(str.maketrans("+/", "-_"))}
    return plain | {each for each in encoded if len(each) >= _SHORTEST_ENCODED}
