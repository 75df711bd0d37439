"""How a pack is written: section by section, every byte past the redactor, and in place all at once."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from securesystemslib.signer import CryptoSigner

from eguard.errors import ConfigError, EguardError, EvidenceError
from eguard.evidence.redaction import Redactor
from eguard.evidence.signing import build_statement, seal, sha256_hex
from eguard.wire.canonical import canonical_json

PACK_TYPE: Final = "urn:eguard:evidence-pack:v1"
#: The statement for readers, and the same bytes in their signed envelope.
MANIFEST_NAME: Final = "manifest.json"
SEAL_NAME: Final = "manifest.dsse.json"
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9._-]+")
_MAX_NAME_CHARACTERS: Final = 120


@dataclass(slots=True)
class Section:
    """One kind of evidence in a pack: its files, what of it is missing and why, and what else is to be known.

    Attributes
    ----------
    files : int
        Files written.
    missing : list of str
        What was wanted and is not there, with the reason.
    notes : list of str
        What was left out on purpose.
    """

    name: str
    files: int = 0
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def state(self) -> str:
        """``present``, ``partial`` if something is missing, ``absent`` if nothing is there."""
        if not self.files:
            return "absent"
        return "partial" if self.missing else "present"

    def to_dict(self) -> dict[str, Any]:
        """Return it as the manifest shows it."""
        return {"state": self.state, "files": self.files, "missing": list(self.missing), "notes": list(self.notes)}


class PackWriter:
    """A pack in the making. It appears under its name when it is sealed, and not at all if it is not.

    Parameters
    ----------
    out : Path
        The pack's folder, which must not exist.
    redactor : Redactor
        Takes secrets out of everything, and looks again at what was written.

    Raises
    ------
    ConfigError
        There is something of that name already.
    """

    def __init__(self, out: Path, redactor: Redactor) -> None:
        if out.exists() or out.is_symlink():
            raise ConfigError(
                f"{out} exists already", remedy="Name a folder that does not exist; packs are not added to."
            )
        self.out = out
        self.redactor = redactor
        self.sections: dict[str, Section] = {}
        self._digests: dict[str, str] = {}
        self._sizes: dict[str, int] = {}
        self._place = out.with_name(f".{out.name}.{os.getpid()}.partial")

    def __enter__(self) -> Self:
        self._place.mkdir(parents=True, mode=0o700)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        shutil.rmtree(self._place, ignore_errors=True)

    @contextmanager
    def section(self, name: str) -> Iterator[Section]:
        """Yield a section to fill. What cannot be had is said in it, and the rest of the pack is made all the same."""
        section = self.sections.setdefault(name, Section(name))
        try:
            yield section
        except ModuleNotFoundError as error:
            self.miss(section, f"the package {error.name!r} is not installed")
        except (EguardError, OSError) as error:
            self.miss(section, str(error))

    def miss(self, section: Section, why: str) -> None:
        """Say what of a section is not there, and why."""
        section.missing.append(self.redactor.text(why))

    def add_json(self, section: Section, name: str, value: Any) -> None:
        """Write a JSON value without secrets."""
        text = json.dumps(self.redactor.value(value), indent=1, ensure_ascii=False, allow_nan=False, default=str)
        self._write(section, f"{name}.json", text.encode("utf-8", "backslashreplace") + b"\n")

    def add_text(self, section: Section, name: str, text: str) -> None:
        """Write a text without secrets."""
        self._write(section, name, self.redactor.text(text).encode("utf-8", "backslashreplace"))

    def add_clean(self, section: Section, name: str, data: bytes) -> None:
        """Write bytes as they are: a picture, or what carries a signature of its own.

        Raises
        ------
        EvidenceError
            They hold a secret.
        """
        found = self.redactor.found_in(data)
        if found is not None:
            raise EvidenceError(f"{name} holds {found}, and cannot be changed: it is left out")
        self._write(section, name, data)

    def seal(self, facts: Mapping[str, Any], signer: CryptoSigner) -> dict[str, Any]:
        """Sign the manifest, put the pack in place, and return the manifest's statement.

        Raises
        ------
        EvidenceError
            Something that was written still holds a secret. Nothing is kept.
        """
        predicate = {
            **facts,
            "files": [{"name": name, "bytes": size} for name, size in sorted(self._sizes.items())],
            "sections": {name: section.to_dict() for name, section in sorted(self.sections.items())},
            "redacted_texts": self.redactor.replaced,
        }
        statement = build_statement(self._digests, PACK_TYPE, predicate)
        (self._place / MANIFEST_NAME).write_bytes(canonical_json(statement))
        self._look_again()
        (self._place / SEAL_NAME).write_bytes(seal(statement, signer))
        self._place.rename(self.out)
        return statement

    def _look_again(self) -> None:
        for path in sorted(self._place.rglob("*")):
            found = self.redactor.found_in(path.read_bytes()) if path.is_file() else None
            found = found or self.redactor.found_in(str(path.relative_to(self._place)).encode())
            if found is not None:
                raise EvidenceError(
                    f"{path.relative_to(self._place)} would hold {found}; no pack was written",
                    remedy="Remove the secret from its source, or leave the source out.",
                )

    def _write(self, section: Section, name: str, data: bytes) -> None:
        path = self._free_name(section, name)
        target = self._place / path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(data)
        self._digests[path] = sha256_hex(data)
        self._sizes[path] = len(data)
        section.files += 1

    def _free_name(self, section: Section, name: str) -> str:
        """Return a path in the pack for a file, whatever its source was called."""
        safe = _UNSAFE.sub("-", self.redactor.text(name)).strip("-.")[-_MAX_NAME_CHARACTERS:] or "file"
        stem, dot, ending = safe.partition(".")
        path, number = f"{section.name}/{safe}", 1
        while path in self._digests:
            number += 1
            path = f"{section.name}/{stem}-{number}{dot}{ending}"
        return path
