"""`eguard server audit`: who did what, and whether the log is still whole."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from eguard.cli.output import print_facts, print_json, print_table
from eguard.cli.server_console import JsonOption, day, open_console, shown
from eguard.errors import ConfigError, GateFailedError

app = typer.Typer(help="The audit log: read it, and check that nobody changed it.", no_args_is_help=True)


@app.command("list")
def list_records(
    *,
    principal: Annotated[str | None, typer.Option("--by", help="Who did it.")] = None,
    action: Annotated[str | None, typer.Option("--action", "-a", help="What, such as policy.create.")] = None,
    object_id: Annotated[str | None, typer.Option("--object", help="To what: an agent, a policy, a token.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=500, help="At most so many.")] = 50,
    as_json: JsonOption = False,
) -> None:
    """List records, the latest first.

    Example: `eguard server audit list --by ada --action endpoint.decommission`
    """
    import msgspec

    with open_console() as (context, _principal):
        page = context.audit.search(principal=principal, action=action, object_id=object_id, limit=limit)
    if as_json:
        print_json(msgspec.to_builtins(page))
        return
    print_table(
        "Audit log",
        ("number", "at", "by", "role", "action", "to", "from"),
        [
            (
                record.sequence,
                day(record.at_unix),
                shown(record.principal),
                record.role,
                record.action,
                shown(f"{record.object_type} {record.object_id}"),
                record.address or "-",
            )
            for record in page.records
        ],
        numbers=False,
    )


@app.command()
def verify(
    *,
    head: Annotated[
        str | None, typer.Option("--head", help="NUMBER:HASH that an earlier check printed and you kept elsewhere.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Walk the whole chain; exit 1 at the first broken link.

    Keep the head that is printed on another machine: with `--head` the next check also finds a log that somebody
    computed anew from one end to the other.
    """
    import msgspec

    from eguard.server.services.audit_chain import ChainHead

    kept = None
    if head is not None:
        found = re.fullmatch(r"([0-9]{1,18}):([0-9a-f]{64})", head)
        if found is None:
            raise ConfigError(f"{head!r} is no head", remedy="Write it as an earlier check printed it: NUMBER:HASH")
        kept = ChainHead(sequence=int(found[1]), record_hash=found[2])
    with open_console() as (context, _principal):
        report = context.audit.verify(kept)
    facts = msgspec.to_builtins(report)
    if as_json:
        print_json(facts)
    else:
        last = report.head
        print_facts(
            {
                "intact": report.intact,
                "records": report.records,
                "first": report.first_sequence,
                "head": "-" if last is None else f"{last.sequence}:{last.record_hash}",
            }
        )
    if not report.intact:
        raise GateFailedError(
            f"the audit log is broken at record {report.broken_at}: {report.reason}",
            report=facts,
            remedy="Keep a copy of the database as it is, and find out who could write to it.",
        )
