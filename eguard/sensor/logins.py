"""Logins from one source at a time: the audit system where it is on, else the files that login programs write."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import structlog

from eguard.sensor.audit_logins import AuditLogins
from eguard.sensor.login_records import BTMP, WTMP, LoginFile, LoginRecord

_CHECK_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class Logins:
    """Both sources are read all the time and one of them is believed, so that no login counts twice.

    Auditing may be switched on and off while this runs; the log says when the source changes, and why.

    Parameters
    ----------
    audit : AuditLogins, optional
        The audit system.
    files : tuple of LoginFile, optional
        The files; wtmp and btmp by default.
    """

    def __init__(self, audit: AuditLogins | None = None, files: tuple[LoginFile, ...] | None = None) -> None:
        self._audit = audit or AuditLogins()
        self._files = (LoginFile(WTMP), LoginFile(BTMP, failed=True)) if files is None else files
        self._has_files = False
        self._next_check = 0.0
        self.source = ""

    @property
    def overruns(self) -> int:
        """How often audit records were lost."""
        return self._audit.overruns

    def open(self) -> bool:
        """Open both sources; return whether there is any."""
        opened = [each.open() for each in self._files]
        self._has_files = any(opened)
        self._audit.open()
        self._choose()
        return bool(self.source)

    def read(self) -> Iterator[LoginRecord]:
        """Yield the records since the last call."""
        audited = list(self._audit.read())
        filed = [record for each in self._files for record in each.read()]
        yield from audited if self.source == "audit" else filed
        now = time.monotonic()
        if now >= self._next_check:
            self._next_check = now + _CHECK_SECONDS
            self._audit.check()
        self._choose()

    def close(self) -> None:
        """Close the audit system's socket."""
        self._audit.close()

    def _choose(self) -> None:
        source = "audit" if not self._audit.reason else "files" if self._has_files else ""
        if source != self.source:
            _log.info("reading logins", source=source or "none", reason=self._audit.reason or "auditing is on")
            self.source = source
