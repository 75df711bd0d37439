"""The request file: what was asked for, kept so that a restart brings the isolation back.

A JSON document in a folder of its own (0700), mode 0600, written beside, fsynced and renamed, the folder fsynced as
well: after a power cut it is the old request or the new one. What it says passes the same checks as what is typed.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from eguard.agent.isolation.availability import refuse_without_nftables
from eguard.agent.isolation.resolvers import MAX_RESOLVERS, parse_resolver
from eguard.agent.isolation.targets import MAX_ADDRESSES, parse_address, parse_name, parse_server
from eguard.errors import ConfigError, IsolationError, IsolationUnavailableError

if sys.platform != "win32":
    import fcntl  # elsewhere `locked` refuses, and nothing here is used without it

DEFAULT_FOLDER: Final = Path("/var/lib/eguard/nac")
FILE_NAME: Final = "isolation.json"
MAX_FILE_BYTES: Final = 256 * 1024
MAX_SERVERS: Final = 32
_Text = Annotated[str, msgspec.Meta(max_length=300)]


class PinnedServer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A server as asked for, and the addresses that its name had when it was last looked up."""

    server: _Text
    addresses: Annotated[tuple[_Text, ...], msgspec.Meta(min_length=1, max_length=MAX_ADDRESSES)]


class IsolationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What was asked for: servers, resolvers, the names that may be asked for, when and by whom."""

    servers: Annotated[tuple[PinnedServer, ...], msgspec.Meta(min_length=1, max_length=MAX_SERVERS)]
    resolvers: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=MAX_RESOLVERS)]
    questions: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=512)]
    requested_at_unix: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    requested_by: _Text
    format: Literal["eguard-isolation-request/1"] = "eguard-isolation-request/1"

    def validated(self) -> IsolationRequest:
        """Return the request, every host, address and name of it checked.

        Raises
        ------
        ConfigError
            One of them is not what it should be.
        """
        for pinned in self.servers:
            parse_server(pinned.server)
            for address in pinned.addresses:
                parse_address(address)
        for resolver in self.resolvers:
            parse_resolver(resolver)
        for name in self.questions:
            parse_name(name)
        return self


class RequestFile:
    """The request of one host, in its state folder.

    Parameters
    ----------
    folder : Path
        State folder; made with mode 0700 when something is first written.
    """

    def __init__(self, folder: Path = DEFAULT_FOLDER) -> None:
        self.folder = folder
        self.path = folder / FILE_NAME

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder's lock, so that two commands do not mix their file and their rules.

        Raises
        ------
        IsolationUnavailableError
            This user may not use the folder, or this is not Linux.
        """
        refuse_without_nftables()
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError as error:
            raise IsolationUnavailableError(
                f"the state folder {self.folder} may not be used by this user",
                remedy="Run it as root (sudo eguard nac ...).",
            ) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    def read(self) -> IsolationRequest | None:
        """Return the request, or None if there is none.

        Raises
        ------
        IsolationError
            The file is a link, belongs to somebody else, may be read or written by others, or is damaged.
        """
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            raise self._untrusted("it may not be read") from error
        except OSError as error:
            raise self._untrusted("it is not a plain file") from error
        try:
            facts = os.fstat(handle)
            if not stat.S_ISREG(facts.st_mode):
                raise self._untrusted("it is not a plain file")
            if facts.st_uid not in (0, os.geteuid()) or facts.st_mode & 0o077:
                raise self._untrusted("others than its owner may touch it, or the owner is somebody else")
            with os.fdopen(handle, "rb", closefd=False) as stream:
                data = stream.read(MAX_FILE_BYTES + 1)
        finally:
            os.close(handle)
        if len(data) > MAX_FILE_BYTES:
            raise self._untrusted(f"it is larger than {MAX_FILE_BYTES} bytes")
        try:
            return msgspec.json.decode(data, type=IsolationRequest).validated()
        except (msgspec.MsgspecError, ConfigError, UnicodeDecodeError) as error:
            raise self._untrusted(f"it is damaged: {error}") from error

    def write(self, request: IsolationRequest) -> None:
        """Keep a request; when this returns it survives a power cut."""
        temporary = self.path.with_name(f".{FILE_NAME}.new")
        with suppress(FileNotFoundError):
            temporary.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(temporary, flags, 0o600), "wb") as stream:
            stream.write(msgspec.json.format(msgspec.json.encode(request), indent=2) + b"\n")
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(self.path)
        self._sync_folder()

    def remove(self) -> bool:
        """Forget the request for good; return whether there was one."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        self._sync_folder()
        return True

    def _sync_folder(self) -> None:
        handle = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def _untrusted(self, why: str) -> IsolationError:
        return IsolationError(
            f"the request file {self.path} is not used: {why}",
            remedy="Isolate anew, which writes it afresh (eguard nac isolate --server HOST:PORT), or lift the "
            "isolation (eguard nac allow), which removes it.",
            path=str(self.path),
        )
