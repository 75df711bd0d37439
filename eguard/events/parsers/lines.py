"""Lines of a file of any compression. A line that is damaged costs that line; a damaged file costs what lies behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eguard.errors import CorruptFileError
from eguard.events.parsers.archives import MEMBER_END, content_blocks
from eguard.events.parsers.byte_reader import BLOCK_BYTES
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
        self._pending: list[bytes] = []  # parts of a line that has not ended yet
        self._pending_bytes = 0
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
            lines[:1] = self._whole_line(lines[0])
        self._pending_bytes += len(rest)
        if self._pending_bytes > MAX_LINE_BYTES:
            self._pending, self._is_too_long = [], True
        elif rest:
            self._pending.append(rest)
        return lines

    def _whole_line(self, end: bytes) -> list[bytes]:
        """Return the pending line with its end, as a list of one; of none if it is too long."""
        line = b"".join((*self._pending, end))
        is_too_long = self._is_too_long or len(line) > MAX_LINE_BYTES
        if self._is_first:
            line = line.removeprefix(_BYTE_ORDER_MARK)
        self._pending, self._pending_bytes, self._is_too_long, self._is_first = [], 0, False, False
        if is_too_long:
            self.report.reject("line_too_long")
            return []
        return [line]

    def _ended(self) -> list[bytes]:
        """Return the last line of a member, which needs no line feed."""
        lines = self._whole_line(b"") if self._pending or self._is_too_long else []
        self._is_first = True
        return lines


def first_line(path: Path) -> str:
    """Return the first line of a file that is not blank, as far as it stands in the first block; empty for none.

    Damage behind it does not matter.
    """
    head = b""
    try:
        for block in content_blocks(path):
            head += block
            if len(head) >= BLOCK_BYTES or b"\n" in head.lstrip():
                break
    except CorruptFileError:
        pass
    lines = head.removeprefix(_BYTE_ORDER_MARK).lstrip().split(b"\n", 1)
    return lines[0].decode("utf-8", "replace")
