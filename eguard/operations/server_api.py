"""The server's administration, as commands use it: over TLS, with a token, and with refusals in words."""

from __future__ import annotations

import ssl
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx2
import msgspec

from eguard import __version__
from eguard.errors import ConfigError, ServerRefusalError, ServerUnavailableError
from eguard.settings import load_agent_settings, load_operator_settings
from eguard.wire.control import ErrorBody

BASE_PATH: Final = "/api/v1"
TIMEOUT_SECONDS: Final = 60.0
#: Answers are lists that people read; one that is larger comes from something else.
MAX_ANSWER_BYTES: Final = 64 << 20
_ROOT_PATHS: Final = ("/api/", "/healthz", "/readyz", "/metrics", "/openapi.json")
_MAX_TOKEN_BYTES: Final = 4096
_REMEDIES: Final = {
    401: "Make a token with `eguard server token access create`, and set EGUARD_API_TOKEN or EGUARD_API_TOKEN_FILE.",
    403: "Use a token whose role is admin.",
    503: "Ask again in some seconds; `curl https://NAME:PORT/readyz` says what the server lacks.",
}


class ServerApi:
    """The administration of one server.

    Parameters
    ----------
    url : str
        ``https://NAME:PORT``.
    token : str
        Access token; empty for what needs none.
    authority : Path or SSLContext, optional
        The authority of the server's certificate, PEM; without it the system's.
    timeout_seconds : float
        Longest wait for any part of an answer.

    Raises
    ------
    ConfigError
        The address is not https, or the authority cannot be read.
    """

    def __init__(
        self,
        url: str,
        token: str = "",
        authority: Path | ssl.SSLContext | None = None,
        *,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        self.url = url.rstrip("/")
        if not self.url.startswith("https://"):
            raise ConfigError(
                f"the server's address {url!r} does not begin with https://",
                remedy="Set EGUARD_API to https://NAME:PORT; nothing is sent in clear text.",
            )
        headers = {"User-Agent": f"eguard/{__version__}", "Accept": "application/json"}
        if token:
            headers["Authorization"] = f"Bearer {token}"
        self._client = httpx2.Client(
            verify=_context(authority), headers=headers, timeout=timeout_seconds, trust_env=False
        )

    @classmethod
    def from_settings(cls) -> Self:
        """Return the server that EGUARD_API names, with EGUARD_API_TOKEN and EGUARD_TLS_CA.

        Raises
        ------
        ConfigError
            A setting cannot be read, or there is no token.
        """
        settings = load_operator_settings()
        token = settings.api_token.get_secret_value() or _read_token(settings.api_token_file)
        return cls(settings.api, token, load_agent_settings().tls_ca)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def get(self, path: str, **query: str | float | bool | None) -> dict[str, Any]:
        """Return the answer to a GET; a query of None is left out.

        Parameters
        ----------
        path : str
            Below ``/api/v1``, such as ``/endpoint/policy``; one that begins with ``/api/`` is taken as it is.

        Raises
        ------
        ServerRefusalError
            The server said no; the remedy says what may change that.
        ServerUnavailableError
            It cannot be reached, or what came is no answer of this server.
        """
        given = {name: value for name, value in query.items() if value is not None}
        return self._send("GET", path, query=given)

    def post(self, path: str, body: object | None = None) -> dict[str, Any]:
        """Send a JSON body and return the answer; raises as `get`."""
        return self._send("POST", path, body={} if body is None else body)

    def delete(self, path: str) -> dict[str, Any]:
        """Delete something and return the answer; raises as `get`."""
        return self._send("DELETE", path)

    def _send(
        self, method: str, path: str, *, query: dict[str, Any] | None = None, body: object | None = None
    ) -> dict[str, Any]:
        target = self.url + (path if path.startswith(_ROOT_PATHS) else BASE_PATH + path)
        content = None if body is None else msgspec.json.encode(body)
        headers = {} if content is None else {"Content-Type": "application/json"}
        try:
            with self._client.stream(method, target, params=query, content=content, headers=headers) as response:
                raw = _read(response)
        except httpx2.HTTPError as error:
            raise _unreachable(self.url, error) from error
        if response.is_success:
            return _decoded(raw, self.url)
        raise _refused(response.status_code, raw, self.url)


def _context(authority: Path | ssl.SSLContext | None) -> ssl.SSLContext:
    if isinstance(authority, ssl.SSLContext):
        return authority
    try:
        return ssl.create_default_context(cafile=None if authority is None else str(authority))
    except OSError as error:  # which an SSLError is, too
        raise ConfigError(
            f"the authority {authority} cannot be read: {error.strerror or error}",
            remedy="Set EGUARD_TLS_CA to the authority's file, PEM: ca.pem in the server's pki folder.",
        ) from error


def _read_token(path: Path | None) -> str:
    if path is None:
        raise ConfigError(
            "there is no access token for the server's administration",
            remedy=_REMEDIES[401],
        )
    try:
        with path.open("rb") as stream:
            token = stream.read(_MAX_TOKEN_BYTES).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the token file {path} cannot be read", remedy="Correct EGUARD_API_TOKEN_FILE, or let this user read it."
        ) from error
    if not token or not token.isprintable():
        raise ConfigError(f"the token file {path} holds no token", remedy="Write the token into it, on one line.")
    return token


def _read(response: httpx2.Response) -> bytes:
    raw = bytearray()
    for chunk in response.iter_bytes():
        raw += chunk
        if len(raw) > MAX_ANSWER_BYTES:
            raise ServerUnavailableError(f"the answer is longer than {MAX_ANSWER_BYTES >> 20} MiB", reason="too_long")
    return bytes(raw)


def _decoded(raw: bytes, url: str) -> dict[str, Any]:
    if not raw:
        return {}
    try:
        value = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _no_answer(url) from error
    if not isinstance(value, dict):
        raise _no_answer(url)
    return value


def _refused(status: int, raw: bytes, url: str) -> ServerRefusalError | ServerUnavailableError:
    try:
        body = msgspec.json.decode(raw, type=ErrorBody)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _no_answer(url, status)
    errors = [(each.field, each.detail) for each in body.errors]
    return ServerRefusalError(status, body.code, body.message, errors=errors, remedy=_REMEDIES.get(status, ""))


def _no_answer(url: str, status: int = 200) -> ServerUnavailableError:
    return ServerUnavailableError(
        f"what answers at {url} (status {status}) is no eGuard server",
        remedy="Set EGUARD_API to the address of the server's administration listener.",
        reason="no_answer",
        status=status,
    )


def _unreachable(url: str, error: Exception) -> ServerUnavailableError:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLError):
        return ServerUnavailableError(
            f"no trusted connection to {url}: {cause.reason or cause}",
            remedy="Set EGUARD_TLS_CA to the authority of the server's certificate, and EGUARD_API to the name in it.",
            reason="tls",
        )
    return ServerUnavailableError(
        f"{url} does not answer: {error or type(error).__name__}",
        remedy="Start the server with `eguard server run`, or correct EGUARD_API.",
        reason="unreachable",
    )
