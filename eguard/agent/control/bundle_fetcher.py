"""Bundles over the channel that the agent has anyway: the server's repository, by mutual TLS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from tuf.api.exceptions import DownloadError, DownloadHTTPError
from tuf.ngclient import FetcherInterface

from eguard.agent.control.client import BASE_PATH, ControlClient, Request
from eguard.bundle.manifest import MAX_FILE_BYTES
from eguard.errors import ServerRefusalError, ServerUnavailableError

REPOSITORY_PATH: Final = "/bundles"
#: Cap on one file, far above what there is; TUF compares with signed lengths what comes below it.
MAX_METADATA_BYTES: Final = 1 << 20
#: For one file; the next check begins where this one ended.
FILE_SECONDS: Final = 120.0


class ControlFetcher(FetcherInterface):
    """Reads the files of a TUF repository below the server's address.

    Parameters
    ----------
    client : ControlClient
        Its certificates, deadlines and caps hold here as well.
    """

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    @property
    def address(self) -> str:
        """The repository's address."""
        return f"{self._client.server.rstrip('/')}{BASE_PATH}{REPOSITORY_PATH}"

    def _fetch(self, url: str) -> Iterator[bytes]:
        _, found, path = url.partition(f"{BASE_PATH}{REPOSITORY_PATH}/")
        if not found or not url.startswith(self._client.server.rstrip("/")):
            raise DownloadError(f"{url} is not in the server's repository")
        limit = MAX_METADATA_BYTES if path.startswith("metadata/") else MAX_FILE_BYTES
        request = Request(f"{REPOSITORY_PATH}/{path}", deadline_seconds=FILE_SECONDS, max_bytes=limit)
        try:
            answer = self._client.send(request)
        except ServerRefusalError as error:
            # TUF asks for the next root until there is none; what a server that refuses says is the same to it.
            raise DownloadHTTPError(error.message, error.status) from error
        except ServerUnavailableError as error:
            raise DownloadError(error.message) from error
        yield answer.body
