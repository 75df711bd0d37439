"""Lines of a file of any compression. A line that is damaged costs that line; a damaged file costs what lies behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eguard.errors import CorruptFileError
from eguard.events.parsers.archives import MEMBER_END, content_blocks
from eguard.events.parsers.report import ParseReport

#: A longer line is counted and passed over without being held in memory. The longest shipped record has 60 kB.
MAX_LINE_BYTES: Final = 1 << 20
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class LineReader:
    """The lines of one file, in blocks, without their line feeds.

    Parameters
    ----------
    path : Path
        A file as `eguard.events.parsers.archives` reads it.
    report : ParseReport
        Counts lines that are too long, and the one that damage cuts in two.

    Attributes
    ----------
    lines_read : int
        Lines delivered so far.
    """

    def __init__(self, path: Path, report: ParseReport) -> None:
        self.path = path
        self.report = report
        self.lines_read = 0
        self._pending = b""
        self._is_too_long = False
        self._is_first = True

    def blocks(self) -> Iterator[list[bytes]]:
        """Yield lists of lines.

        Raises
        ------
        CorruptFileError
            After the last whole line before the damage; ``context["line"]`` counts the lines delivered.
        """
        try:
            for block in content_blocks(self.path):
                lines = self._ended() if block == MEMBER_END else self._split(block)
                if lines:
                    self.lines_read += len(lines)
                    yield lines
        except CorruptFileError as error:
            if self._pending or self._is_too_long:
                self.report.reject("cut_off")
            error.message += f"; {self.lines_read:,} lines were read before it"
            error.context["line"] = self.lines_read
            self.report.damage = error.message
            raise

    def _split(self, block: bytes) -> list[bytes]:
        *lines, rest = block.split(b"\n")
        if lines:
            lines[0] = self._pending + lines[0]
            self._pending = rest
            if self._is_too_long or len(lines[0]) > MAX_LINE_BYTES:
                self.report.reject("line_too_long")
                del lines[0]
            elif self._is_first:
                lines[0] = lines[0].removeprefix(_BYTE_ORDER_MARK)
            self._is_too_long = self._is_first = False
        elif not self._is_too_long:
            self._pending += rest
        if len(self._pending) > MAX_LINE_BYTES:
            self._pending, self._is_too_long = b"", True
        return lines

    def _ended(self) -> list[bytes]:
        """Return the last line of a member, which needs no line feed."""
        last = self._pending.removeprefix(_BYTE_ORDER_MARK) if self._is_first else self._pending
        if self._is_too_long:
            self.report.reject("line_too_long")
            last = b""
        self._pending, self._is_too_long, self._is_first = b"", False, True
        return [last] if last else []


def first_line(path: Path) -> str:
    """Return the first line of a file that is not blank, empty if there is none; damage behind it does not matter."""
    try:
        for block in LineReader(path, ParseReport()).blocks():
            for line in block:
                if line.strip():
                    return line.decode("utf-8", "replace")
    except CorruptFileError:
        pass
    return ""
