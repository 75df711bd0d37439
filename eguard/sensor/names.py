"""Names as the kernel hands them over: bytes that anybody may choose, made into text that nothing chokes on."""

from __future__ import annotations

from typing import Final

#: The kernel keeps 16 bytes of a process's name, the last of them a NUL.
KERNEL_COMM_BYTES: Final = 16


def decode_name(raw: bytes) -> str:
    r"""Return the text of a NUL-terminated name.

    Bytes that are no UTF-8 (among them the half of a character that the kernel's cut after 15 bytes leaves behind)
    become ``\xNN``, so that the text can be encoded again everywhere; lone surrogates could not. Control bytes stay:
    the wire and the terminal escape them where they would do harm.

    Examples
    --------
    >>> decode_name(b"bash\x00\x00junk")
    'bash'
    >>> decode_name(b"caf\xc3")
    'caf\\xc3'
    """
    return raw.split(b"\x00", 1)[0].decode("utf-8", "backslashreplace")


def decode_command_line(raw: bytes) -> str:
    r"""Return the arguments that NUL bytes separate as one line, with blanks between them.

    Examples
    --------
    >>> decode_command_line(b"sh\x00-c\x00echo hi\x00")
    'sh -c echo hi'
    """
    return raw.rstrip(b"\x00").replace(b"\x00", b" ").decode("utf-8", "backslashreplace")


def comm_of_path(path: str) -> str:
    """Return the name that the kernel gives a process that executes `path`: 15 bytes of the base name.

    Examples
    --------
    >>> comm_of_path("/usr/lib/systemd/systemd-journald")
    'systemd-journal'
    """
    base = path.rsplit("/", 1)[-1].encode("utf-8", "surrogateescape")
    return decode_name(base[: KERNEL_COMM_BYTES - 1])
