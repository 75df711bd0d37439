"""From the server's settings to sinks."""

from __future__ import annotations

import ssl
from pathlib import Path

from eguard.errors import ConfigError
from eguard.server.sinks.message import Sink
from eguard.server.sinks.syslog import SyslogSink
from eguard.settings import ServerSettings


def open_sinks(settings: ServerSettings) -> tuple[Sink, ...]:
    """Return the sinks that are set up: none, the webhook, the syslog receiver, or both.

    Raises
    ------
    ConfigError
        An address or the authority cannot be used.
    """
    sinks: list[Sink] = []
    url, receiver = settings.notify_webhook_url.get_secret_value(), settings.notify_syslog
    authority = _authority(settings.notify_ca) if url or receiver else None
    if url:
        from eguard.server.sinks.webhook import WebhookSink  # noqa: PLC0415 - an HTTP client that few servers need

        sinks.append(
            WebhookSink(
                url,
                settings.notify_webhook_secret.get_secret_value(),
                authority=authority,
                allows_http=settings.notify_webhook_allow_http,
            )
        )
    if receiver:
        sinks.append(SyslogSink(receiver, authority=authority))
    return tuple(sinks)


def _authority(path: Path | None) -> ssl.SSLContext | None:
    if path is None:
        return None
    try:
        return ssl.create_default_context(cafile=str(path))
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"the authority {path} cannot be used: {error.strerror or error}",
            remedy="Set EGUARD_NOTIFY_CA to a file of certificates in PEM, or unset it.",
        ) from error
