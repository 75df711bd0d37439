"""Questions that an agent may ask its server, asked with its certificate: nothing is changed by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from eguard.agent.control.answers import Answer
from eguard.agent.control.client import ControlClient, Request
from eguard.agent.control.credentials import TlsFiles
from eguard.errors import ServerUnavailableError
from eguard.settings import AgentSettings

DEADLINE_SECONDS: Final = 3.0


class ServerQuestions:
    """Asks once for each path, and no more once the server could not be reached.

    Parameters
    ----------
    settings : AgentSettings
        With the server and the three files.
    """

    def __init__(self, settings: AgentSettings) -> None:
        self._settings = settings
        self._answers: dict[str, Answer] = {}
        self._trouble: ServerUnavailableError | None = None

    def ask(self, path: str, query: Mapping[str, str | int] | None = None, max_bytes: int = 1_000_000) -> Answer:
        """Return the answer to a GET below ``/api/v1``.

        Raises
        ------
        ServerRefusalError
            The server says no; ``reason`` is its word for why.
        ServerUnavailableError
            There is no answer that could be read, now or when something was asked before.
        ConfigError
            The address is not https, or the files cannot be used.
        """
        if path in self._answers:
            return self._answers[path]
        if self._trouble is not None:
            raise self._trouble
        # With a context of its own the client does not log what it does: this is no agent at work.
        client = ControlClient(self._settings.server, TlsFiles.of(self._settings).context())
        try:
            request = Request(path, query=query or {}, deadline_seconds=DEADLINE_SECONDS, max_bytes=max_bytes)
            self._answers[path] = client.send(request)
        except ServerUnavailableError as error:
            self._trouble = error
            raise
        finally:
            client.close()
        return self._answers[path]
