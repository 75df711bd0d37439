"""Records of drills: one signed file a drill, of its latest run, whatever came of it.

A run replaces the record of the run before, so that a drill which fails unticks the box that an earlier one ticked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

from eguard.errors import EvidenceError
from eguard.evidence.signing import MAX_ENVELOPE_BYTES, Custody, build_statement, open_sealed, seal, sha256_hex
from eguard.wire.canonical import canonical_json

RECORD_TYPE: Final = "urn:eguard:drill-record:v1"
FOLDER_NAME: Final = "records"
_ENDING: Final = ".dsse.json"


class RecordFolder:
    """The records below a folder of evidence.

    Parameters
    ----------
    custody : Custody
        Whose key signs, and whose keys are believed.
    """

    def __init__(self, custody: Custody) -> None:
        self._custody = custody
        self.folder = custody.folder / FOLDER_NAME

    def names(self) -> list[str]:
        """Return the drills that have a record, whether it holds or not."""
        return sorted(path.name.removesuffix(_ENDING) for path in self.folder.glob(f"*{_ENDING}"))

    def path_of(self, drill: str) -> Path:
        """Return where a drill's record lies."""
        return self.folder / f"{drill}{_ENDING}"

    def write(self, drill: str, record: dict[str, Any]) -> Path:
        """Sign a record and put it in the place of the one before, whole or not at all.

        Raises
        ------
        EvidenceError
            The folder cannot be written.
        """
        subject = {f"drill/{drill}": sha256_hex(canonical_json(record))}
        envelope = seal(build_statement(subject, RECORD_TYPE, record), self._custody.signer())
        path = self.path_of(drill)
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with partial.open("wb") as stream:
                stream.write(envelope)
                stream.flush()
                os.fsync(stream.fileno())
            partial.replace(path)
        except OSError as error:
            raise EvidenceError(
                f"the record {path} cannot be written: {error.strerror}",
                remedy="Set EGUARD_EVIDENCE_PATH to a folder that this user may write.",
            ) from error
        return path

    def read(self, drill: str) -> dict[str, Any] | None:
        """Return a drill's record; None if there is none.

        Raises
        ------
        EvidenceError
            It is not signed by a trusted key, was changed, or is the record of another drill.
        """
        path = self.path_of(drill)
        try:
            with path.open("rb") as stream:
                envelope = stream.read(MAX_ENVELOPE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise EvidenceError(f"the record {path} cannot be read: {error.strerror}") from error
        record: dict[str, Any] = open_sealed(envelope, self._custody.trusted_keys(), RECORD_TYPE)["predicate"]
        if record.get("drill") != drill:
            raise EvidenceError(f"it is the record of the drill {record.get('drill')!r}")
        return record

    def sealed(self, drill: str) -> bytes:
        """Return a record's envelope, once it holds; raises as `read`."""
        if self.read(drill) is None:
            raise EvidenceError(f"there is no record of the drill {drill}")
        return self.path_of(drill).read_bytes()
