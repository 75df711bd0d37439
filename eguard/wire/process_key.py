"""The process key: one text for the pair (comm, parent comm), and back without loss.

On the wire a key reads ``comm:parent_comm``. Inside a part ``%``, ``:`` and control bytes are percent-encoded, so that
the colon separates exactly once; ordinary names look as they are. Every pair of names has one text and every accepted
text has one pair: what an endpoint reports can be told apart by the server byte by byte.

Case and blanks are part of a name, and no Unicode normalisation takes place: two names that merely look alike are two
processes.
"""

from __future__ import annotations

import re
from typing import Final

from eguard.errors import WireError

#: Stands for a name that the sensor could not tell.
UNKNOWN_COMM: Final = "unknown"
#: Stands for the parent where a fleet-wide import names a program only.
FLEET_PARENT: Final = "fleet"
#: Longest key on the wire, in characters. Two Windows base names of 255 units fit unescaped.
MAX_PROCESS_KEY_CHARACTERS: Final = 512

# Lone surrogates stand for bytes (or UTF-16 units) that are no text. They cannot travel as UTF-8, so they are escaped.
_ESCAPED = re.compile("[%:\x00-\x1f\x7f\ud800-\udfff]")
_PLAIN_PART = "[^%:\x00-\x1f\x7f\ud800-\udfff]+"
_PLAIN_KEY = re.compile(rf"(?=[^:]*[^\s:]){_PLAIN_PART}:(?=.*\S){_PLAIN_PART}", re.DOTALL)
# Nearly every key: printable ASCII, and no part that begins with a blank. Twice as quick as the general form.
_ORDINARY_KEY = re.compile(r"[!-$&-9;-~][ -$&-9;-~]*:[!-$&-9;-~][ -$&-9;-~]*")
_ESCAPE = re.compile("%([0-9A-F]{2}|u[0-9A-F]{4})")
_PATH_SEPARATOR = re.compile(r"[/\\]")


def encode_process_key(comm: str, parent_comm: str) -> str:
    """Return the wire text of the pair (comm, parent comm).

    Parameters
    ----------
    comm, parent_comm : str
        Base names as the sensor reports them. A blank one (nothing but white space) becomes ``unknown``.

    Returns
    -------
    str
        ``comm:parent_comm`` with exactly one colon. ``%``, ``:`` and control bytes appear as ``%XX``, a lone surrogate
        as ``%uXXXX``.

    Examples
    --------
    >>> encode_process_key("bash", "sshd")
    'bash:sshd'
    >>> encode_process_key("kworker/0:1", "kthreadd")
    'kworker/0%3A1:kthreadd'
    >>> encode_process_key("", "100%")
    'unknown:100%25'
    """
    return f"{_encode_part(comm)}:{_encode_part(parent_comm)}"


def decode_process_key(text: str) -> tuple[str, str]:
    """Return the pair (comm, parent comm) that `text` stands for.

    Only the text that `encode_process_key` writes is accepted. A second spelling of a key (``%41`` for ``A``, ``%3a``
    for ``%3A``, a blank part) would let one process appear as two, so it is refused.

    Raises
    ------
    WireError
        `text` is longer than `MAX_PROCESS_KEY_CHARACTERS` or not the canonical text of any pair; reason
        ``invalid_process_key``.

    Examples
    --------
    >>> decode_process_key("kworker/0%3A1:kthreadd")
    ('kworker/0:1', 'kthreadd')
    """
    if len(text) > MAX_PROCESS_KEY_CHARACTERS:
        raise _invalid(text, f"process key has {len(text)} characters, at most {MAX_PROCESS_KEY_CHARACTERS} are taken")
    comm, separator, parent_comm = text.partition(":")
    if not separator:
        raise _invalid(text, "process key has no colon between comm and parent comm")
    pair = _decode_part(comm), _decode_part(parent_comm)
    if encode_process_key(*pair) != text:
        raise _invalid(text, "process key is not in its canonical spelling")
    return pair


def is_process_key(text: str) -> bool:
    """Return whether `text` is a key that `decode_process_key` accepts.

    Examples
    --------
    >>> is_process_key("bash:sshd"), is_process_key("bash"), is_process_key("%62ash:sshd")
    (True, False, False)
    """
    if len(text) <= MAX_PROCESS_KEY_CHARACTERS and (_ORDINARY_KEY.fullmatch(text) or _PLAIN_KEY.fullmatch(text)):
        return True
    try:
        decode_process_key(text)
    except WireError:
        return False
    return True


def read_imported_key(text: str) -> str:
    """Return the wire text for a key of an import, where a program may stand alone.

    Text without a colon names a program by itself or by its path; it is read literally, and its parent becomes
    ``fleet``. Text with a colon has to be a canonical key. Agents never send the short form.

    Raises
    ------
    WireError
        The text is blank, too long, or has a colon and is not canonical; reason ``invalid_process_key``.

    Examples
    --------
    >>> read_imported_key("/usr/sbin/nginx"), read_imported_key("bash:sshd")
    ('nginx:fleet', 'bash:sshd')
    """
    if not text or text.isspace():
        raise _invalid(text, "imported process key is blank")
    key = text if ":" in text else encode_process_key(_PATH_SEPARATOR.split(text)[-1], FLEET_PARENT)
    decode_process_key(key)
    return key


def _encode_part(part: str) -> str:
    if not part or part.isspace():
        return UNKNOWN_COMM
    return _ESCAPED.sub(_escape, part)


def _escape(match: re.Match[str]) -> str:
    code_point = ord(match[0])
    return f"%{code_point:02X}" if code_point < 0x80 else f"%u{code_point:04X}"


def _decode_part(part: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1].removeprefix("u"), 16)), part) if "%" in part else part


def _invalid(text: str, message: str) -> WireError:
    return WireError(
        message,
        remedy="Send the key as comm:parent_comm with %, : and control bytes percent-encoded.",
        reason="invalid_process_key",
        process_key=text[:MAX_PROCESS_KEY_CHARACTERS],
    )
