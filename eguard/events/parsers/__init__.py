"""Parsers: files of every supported format become events, a stream at a time.

>>> sorted(FORMATS)[:2]
['ait', 'auditd']
"""

from eguard.events.parsers.formats import FORMATS, Format
from eguard.events.parsers.reading import detect_format, read_batches, read_events
from eguard.events.parsers.report import ParseReport
from eguard.events.parsers.windows_records import carry_parents

__all__ = ["FORMATS", "Format", "ParseReport", "carry_parents", "detect_format", "read_batches", "read_events"]
