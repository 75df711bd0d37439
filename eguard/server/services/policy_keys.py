"""Keys that policies are signed with: made here, announced by the key before, in force after a week."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from eguard.clock import Clock
from eguard.errors import ConfigError, ServerRefusalError
from eguard.fleet.database import Database
from eguard.fleet.tables import policy_key
from eguard.policy import policy_key_id, public_key_text
from eguard.server.principal import SYSTEM, Principal
from eguard.server.services import audit
from eguard.server.services.policy_state import KeyRow, load_keys
from eguard.server.services.policy_view import PolicyView
from eguard.server.services.revisions import lock_revisions, next_revision, raise_floor
from eguard.wire.control import PolicyKey

#: How long a new key is announced before it signs.
OVERLAP_SECONDS: Final = 7 * 86_400.0

_log = structlog.get_logger("eguard.server")


class PolicyKeys:
    """The signing keys.

    Parameters
    ----------
    database : Database
        Has the public halves and their lives.
    clock : Clock
        Says which key signs now.
    folder : Path
        Has the private halves, ``policy-KEY.pem``, mode 0600. Servers on one database need the same files.
    view : PolicyView
        Is told when keys changed.

    Notes
    -----
    A rotation is decided once: the new key's row says from when on it signs, the old one's until when it counts.
    Nothing has to happen at that time. Agents trust the new key from the moment at which they got any policy that
    announces it; one that was away for all of the overlap learns it from the bundle repository or enrols again.
    """

    def __init__(self, database: Database, clock: Clock, folder: Path, view: PolicyView) -> None:
        self._database = database
        self._clock = clock
        self._folder = folder
        self._view = view
        self._loaded: dict[str, Ed25519PrivateKey] = {}

    def ensure(self) -> PolicyKey:
        """Return the key that signs now; the first one is made.

        Raises
        ------
        ConfigError
            The key's file is missing or cannot be read.
        """
        with self._database.read() as connection:
            rows = load_keys(connection)
        if not rows:
            self._make_first()
            with self._database.read() as connection:
                rows = load_keys(connection)
        row = signing_row(rows, self._clock.now())
        self.private_key(row)
        return PolicyKey(key_id=row.key_id, public_key=row.public_key)

    def trusted(self) -> tuple[PolicyKey, ...]:
        """Return the keys that agents are to trust now, the signing one first."""
        return trusted_keys(self._view.state().keys, self._clock.now())

    def signer(self, rows: tuple[KeyRow, ...]) -> Ed25519PrivateKey:
        """Return the private half of the key that signs now."""
        return self.private_key(signing_row(rows, self._clock.now()))

    def rotate(self, principal: Principal, reason: str = "") -> PolicyKey:
        """Make the next key: announced from now on, signing after the overlap. The present one counts until then.

        Raises
        ------
        ServerRefusalError
            409 ``rotation_pending``: a key is announced already and does not sign yet.
        """
        key, known = self._make_file()
        now = self._clock.now()
        active_from = now + OVERLAP_SECONDS

        def announce(connection: sa.Connection) -> None:
            revision = next_revision(connection)
            rows = load_keys(connection)
            if any(row.active_from > now for row in rows):
                raise ServerRefusalError(409, "rotation_pending", "a new policy key is announced already")
            present = signing_row(rows, now)
            connection.execute(
                sa.update(policy_key).where(policy_key.c.key_id == present.key_id).values(retired_at=active_from)
            )
            _insert(connection, known, now, active_from)
            raise_floor(connection, revision)
            said = {"replaces": present.key_id, "active_from_unix": active_from, "revision": revision, "reason": reason}
            _record(connection, principal, known, "rotate", now=now, **said)

        try:
            self._database.retrying(announce)
        except ServerRefusalError:
            self._path(known.key_id).unlink(missing_ok=True)
            raise
        self._loaded[known.key_id] = key
        self._view.changed()
        _log.info("policy key announced", key_id=known.key_id, active_from_unix=active_from)
        return known

    def private_key(self, row: KeyRow) -> Ed25519PrivateKey:
        """Return the private half of a key.

        Raises
        ------
        ConfigError
            Its file is missing, cannot be read, or holds another key.
        """
        if row.key_id not in self._loaded:
            path = self._path(row.key_id)
            try:
                key = load_pem_private_key(path.read_bytes(), password=None)
            except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
                raise _unusable(path, "cannot be read") from error
            if not isinstance(key, Ed25519PrivateKey) or public_key_text(key) != row.public_key:
                raise _unusable(path, "holds another key than the database says")
            self._loaded[row.key_id] = key
        return self._loaded[row.key_id]

    def _make_first(self) -> None:
        key, known = self._make_file()
        now = self._clock.now()

        def insert(connection: sa.Connection) -> bool:
            lock_revisions(connection)
            if load_keys(connection):
                return False
            _insert(connection, known, now, now)
            raise_floor(connection, next_revision(connection))
            _record(connection, SYSTEM, known, "create", now=now)
            return True

        if not self._database.retrying(insert):  # another server was first; its file has to come here
            self._path(known.key_id).unlink(missing_ok=True)
            return
        self._loaded[known.key_id] = key
        self._view.changed()

    def _make_file(self) -> tuple[Ed25519PrivateKey, PolicyKey]:
        key = Ed25519PrivateKey.generate()
        public_key = public_key_text(key)
        known = PolicyKey(key_id=policy_key_id(public_key), public_key=public_key)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._path(known.key_id), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            stream.flush()
            os.fsync(stream.fileno())
        return key, known

    def _path(self, key_id: str) -> Path:
        return self._folder / f"policy-{key_id}.pem"


def signing_row(rows: tuple[KeyRow, ...], now: float) -> KeyRow:
    """Return the key that signs at `now`: the latest that is in force, else the first.

    Raises
    ------
    ConfigError
        There is no key.
    """
    if not rows:
        raise ConfigError("there is no key to sign policies with", remedy="Start the server once: it makes one.")
    return next((row for row in reversed(rows) if row.active_from <= now), rows[0])


def trusted_keys(rows: tuple[KeyRow, ...], now: float) -> tuple[PolicyKey, ...]:
    """Return the key that signs at `now` and those that are announced to follow it."""
    present = signing_row(rows, now)
    announced = [row for row in rows if row.active_from > now and row is not present]
    return tuple(PolicyKey(key_id=row.key_id, public_key=row.public_key) for row in (present, *announced))


def _insert(connection: sa.Connection, key: PolicyKey, now: float, active_from: float) -> None:
    connection.execute(
        sa.insert(policy_key).values(
            key_id=key.key_id, public_key=key.public_key, created_at=now, active_from=active_from
        )
    )


def _record(
    connection: sa.Connection, principal: Principal, key: PolicyKey, verb: str, *, now: float, **detail: Any
) -> None:
    audit.record(
        connection,
        principal,
        action=f"policy_key.{verb}",
        object_type="policy_key",
        object_id=key.key_id,
        detail=detail,
        now=now,
    )


def _unusable(path: Path, fault: str) -> ConfigError:
    return ConfigError(
        f"the policy key {path.name} {fault}",
        remedy="Put the file back from a copy, mode 0600. Without it: rotate the key, and enrol the agents again.",
        key=path.name,
    )
