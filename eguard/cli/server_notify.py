"""`eguard server notify`: try out where operators are told, and see what became of messages."""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from eguard.cli.output import print_json, print_table
from eguard.cli.server_console import JsonOption, day, open_console, shown

if TYPE_CHECKING:
    from eguard.server.sinks import Sink

app = typer.Typer(
    help=(
        "Messages to operators: a webhook (EGUARD_NOTIFY_WEBHOOK_URL) and a syslog receiver (EGUARD_NOTIFY_SYSLOG).\n\n"
        "Run these on the server's machine, with the server's settings."
    ),
    no_args_is_help=True,
)

EXIT_FAILED: Final = 1


@app.command("test")
def try_out(*, as_json: JsonOption = False) -> None:
    """Send a test message to every sink now, past the outbox. Exit code 1 if one did not take it.

    Over UDP nobody can tell whether it arrived: look at the receiver.

    Example: `EGUARD_NOTIFY_SYSLOG=tls://log.example:6514 eguard server notify test`
    """
    from eguard.errors import ConfigError
    from eguard.server.sinks import open_sinks
    from eguard.settings import load_server_settings

    sinks = open_sinks(load_server_settings())
    if not sinks:
        raise ConfigError(
            "there is nobody to tell", remedy="Set EGUARD_NOTIFY_WEBHOOK_URL, EGUARD_NOTIFY_SYSLOG or both."
        )
    results = [_try(sink) for sink in sinks]
    if as_json:
        print_json({"results": results})
    else:
        for result in results:
            typer.echo(f"{result['sink']} {result['address']}: {'sent' if result['ok'] else 'not sent'}")
            if not result["ok"]:
                typer.echo(f"  cause: {result['cause']}\n  remedy: {result['remedy']}")
    if not all(result["ok"] for result in results):
        raise typer.Exit(EXIT_FAILED)


def _try(sink: Sink) -> dict[str, Any]:
    from eguard.errors import NotificationError
    from eguard.server.sinks import Message

    now = time.time()
    message = Message(secrets.token_hex(16), "test", "info", "A test message of eGuard", {"is_test": True}, now)
    result = {"sink": sink.name, "address": sink.address, "id": message.notification_id}
    try:
        sink.send(message, now)
    except NotificationError as error:
        return {**result, "ok": False, "cause": shown(error.message), "remedy": error.remedy}
    return {**result, "ok": True, "cause": "", "remedy": ""}


@app.command("list")
def list_messages(
    *,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="Messages to show.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the latest messages, newest first, and how far each has come.

    `waiting` is tried again by itself for seven days; `given_up` was not delivered in that time.

    Example: `eguard server notify list --limit 5`
    """
    with open_console() as (context, _principal):
        from eguard.server.services.outbox import outbox

        messages = outbox(context.database, limit)
    if as_json:
        print_json({"notifications": messages})
        return
    rows = [
        (day(each["created_at_unix"]), each["severity"], shown(each["kind"]), shown(each["title"]), _states(each))
        for each in messages
    ]
    print_table("Messages to operators", ("at", "severity", "kind", "title", "deliveries"), rows, numbers=False)


def _states(message: dict[str, Any]) -> str:
    if message["dispatched_at_unix"] is None:
        return "new"
    if not message["deliveries"]:
        return "log only: no sink was set up"
    return "; ".join(
        f"{each['sink']} {each['status']}"
        + (f" after {each['attempts']} attempts: {shown(each['last_error'])}" if each["last_error"] else "")
        for each in message["deliveries"]
    )
