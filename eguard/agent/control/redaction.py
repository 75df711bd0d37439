"""What does not leave the machine: secrets in command lines, and the command lines of programs that were named.

An alert is judged by what was run, hardly ever by a password that stood in it. So each text of an alert is gone through
before it is sent; the alert in the agent's own buffer stays as it is. What is recognised is listed in
`docs/how-to/enrol-an-agent.md`. No list is complete: programs that take secrets in forms of their own belong on
EGUARD_DO_NOT_COLLECT.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any, Final

from eguard.errors import WireError
from eguard.wire.process_key import decode_process_key

REDACTED: Final = "[redacted]"
NOT_COLLECTED: Final = "[not collected]"
#: Strict readers of JSON take strings of 8,192 characters.
MAX_TEXT_CHARACTERS: Final = 4096
_CUT: Final = " [cut]"

#: Names of what holds a secret: options, variables, fields. They begin where no name goes on, and what follows the
#: telling word is bounded, so that no text takes quadratic time.
TELLING_NAME: Final = (
    r"[\w.-]*(?:passw(?:or)?d|passwd|passphrase|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|"
    r"credentials?|auth[_-]?key|session[_-]?key|account[_-]?key|client[_-]?secret|connection[_-]?string)[\w.]{0,64}"
)
#: A value: quoted, or up to the next blank.
_VALUE: Final = r"""(?:\[redacted\]|"[^"]*"?|'[^']*'?|[^\s"';&|]+)"""

_RULES: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    # -----BEGIN ... PRIVATE KEY----- and all that follows it, to its end if there is one
    (
        re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        REDACTED,
    ),
    # scheme://user:password@host
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,31}://[^\s/:@]*):[^\s/@]+@"), rf"\1:{REDACTED}@"),
    # Authorization: Bearer x, Proxy-Authorization, Cookie, X-Api-Key and their like
    (
        re.compile(
            r"(?i)\b((?:proxy-)?authorization|set-cookie|cookie|x-[\w-]*(?:key|token|auth|secret))"
            r"(\s*[:=]\s*)(?:(?:basic|bearer|digest|negotiate|token|apikey)\s+)?[^\s\"';]+(?:;\s*[^\s\"';]+)*"
        ),
        rf"\1\2{REDACTED}",
    ),
    (re.compile(r"(?i)\b(bearer)\s+[\w.~+/=-]{8,}"), rf"\1 {REDACTED}"),
    # Keys that say what they are: AWS, GitHub, GitLab, Slack, Stripe, Google, JSON web tokens
    (re.compile(r"\b(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b"), REDACTED),
    (
        re.compile(
            r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeoprs]-[\w-]{10,}|"
            r"[sr]k_(?:live|test)_\w{16,}|AIza[\w-]{30,}|eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*)"
        ),
        REDACTED,
    ),
    # What a server of eGuard gives out; the identifier in its middle is no secret and stays
    (re.compile(r"\b(eguard-(?:enrol|access)-[0-9a-f]{16}-)[\w-]{20,}"), rf"\1{REDACTED}"),
    # --password x, --password=x, /password:x, -password x, PASSWORD=x, "token": "x"
    (re.compile(rf"(?i)((?<![\w-])(?:--?|/){TELLING_NAME})(\s*[=:]\s*|\s+){_VALUE}"), rf"\1\2{REDACTED}"),
    (re.compile(rf"""(?i)(?<![\w.-])({TELLING_NAME}["']?\s*[=:]\s*){_VALUE}"""), rf"\1{REDACTED}"),
)
#: Programs whose one-letter options are secrets, and those options. Elsewhere -p is a port or a path.
_SHORT_OPTIONS: Final[tuple[tuple[re.Pattern[str], re.Pattern[str], str], ...]] = (
    # mysql -psecret; a lone -p asks, and takes no value
    (
        re.compile(r"(?i)\b(?:mysql\w*|mariadb[\w-]*)\b"),
        re.compile(rf"(?<!\S)(-p)(?=\S){_VALUE}"),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)\bsshpass\b"), re.compile(rf"(?<!\S)(-p\s*){_VALUE}"), rf"\1{REDACTED}"),
    (
        re.compile(r"(?i)\b(?:curl|wget)\b"),
        re.compile(r"""(?<!\S)(-u\s*|--user[= ]|--proxy-user[= ])(["']?[^\s:"']+):[^\s"']+"""),
        rf"\1\2:{REDACTED}",
    ),
    (
        re.compile(r"(?i)\b(?:ldap\w+|redis-cli|smbclient|rpcclient|xfreerdp|plink|pscp|psexec\w*)\b"),
        re.compile(rf"(?<!\S)(-w\s+|-a\s+|-pw\s+|/p:|-p\s+){_VALUE}"),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"(?i)\bnet1?(?:\.exe)?\s+use\b"), re.compile(rf"(?i)(/user:\S+\s+){_VALUE}"), rf"\1{REDACTED}"),
    (re.compile(r"(?i)\bopenssl\b"), re.compile(r"(\bpass:)\S+"), rf"\1{REDACTED}"),
)
#: Fields of matched rules that hold a command line.
_COMMAND_FIELDS: Final = frozenset(
    {"commandline", "parentcommandline", "processcommandline", "command_line", "cmdline"}
)
_IMAGE_FIELDS: Final = frozenset({"image", "parentimage", "exe", "originalfilename"})


def redact(text: str) -> str:
    """Return a text without the secrets that are recognised in it, cut to what a server takes.

    Examples
    --------
    >>> redact("mysql -uroot -phunter2 -h db --password=x && curl -u me:x https://a:b@c.example/")
    'mysql -uroot -p[redacted] -h db --password=[redacted] && curl -u me:[redacted] https://a:[redacted]@c.example/'
    """
    text = without_secrets(text[: 4 * MAX_TEXT_CHARACTERS])
    return text if len(text) <= MAX_TEXT_CHARACTERS else text[:MAX_TEXT_CHARACTERS] + _CUT


def without_secrets(text: str) -> str:
    """Return a text of any length without the secrets that are recognised in it."""
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    for program, pattern, replacement in _SHORT_OPTIONS:
        if program.search(text):
            text = pattern.sub(replacement, text)
    return text


class AlertRedactor:
    """Makes the copy of an alert that leaves the machine.

    Parameters
    ----------
    do_not_collect : iterable of str
        Patterns (``*``, ``?``, ``[...]``) of programs whose command lines stay here. One without a slash is compared
        with names, one with a slash with paths; case does not matter.

    Examples
    --------
    >>> redactor = AlertRedactor(["vault"])
    >>> redactor.prepared({"process_key": "vault:bash", "command_line": "vault login s.1"})["command_line"]
    '[not collected]'
    """

    def __init__(self, do_not_collect: Iterable[str] = ()) -> None:
        self._patterns = tuple(pattern.replace("\\", "/").lower() for pattern in do_not_collect)

    def prepared(self, alert: dict[str, Any]) -> dict[str, Any]:
        """Return an alert's JSON object with its texts redacted; the given one stays as it is."""
        keeps_out = self._is_listed(alert)
        prepared = dict(alert)
        for name in ("command_line", "target"):
            if isinstance(alert.get(name), str):
                prepared[name] = redact(alert[name])
        if keeps_out and alert.get("command_line"):
            prepared["command_line"] = NOT_COLLECTED
        for name in ("reasons", "ancestors"):
            prepared[name] = [redact(each) if isinstance(each, str) else each for each in alert.get(name, ())]
        prepared["rules"] = [_redacted_rule(rule, keeps_out=keeps_out) for rule in alert.get("rules", ())]
        return prepared

    def _is_listed(self, alert: dict[str, Any]) -> bool:
        return bool(self._patterns) and any(
            fnmatchcase(candidate, pattern) or ("/" not in pattern and fnmatchcase(_base(candidate), pattern))
            for candidate in _programs(alert)
            for pattern in self._patterns
        )


def _programs(alert: dict[str, Any]) -> list[str]:
    """Return the names and paths by which an alert's process and its parent are known, in lower case."""
    found: list[str] = []
    try:
        found += decode_process_key(str(alert.get("process_key", "")))
    except WireError:
        found.append(str(alert.get("process_key", "")))
    command = str(alert.get("command_line", "")).strip()
    if command:
        quoted = command[1:].split(command[0], 1)[0] if command[0] in "\"'" else command.split(None, 1)[0]
        found.append(quoted)
    for rule in alert.get("rules", ()):
        fields = rule.get("matched_fields", ()) if isinstance(rule, dict) else ()
        found += [str(value) for name, value in fields if str(name).lower() in _IMAGE_FIELDS]
    return [each.replace("\\", "/").lower() for each in found]


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def _redacted_rule(rule: Any, *, keeps_out: bool) -> Any:
    if not isinstance(rule, dict):
        return rule
    fields = []
    for name, value in rule.get("matched_fields", ()):
        is_command = str(name).lower() in _COMMAND_FIELDS
        fields.append([name, NOT_COLLECTED if keeps_out and is_command else redact(str(value))])
    return rule | {"matched_fields": fields}
