"""`eguard evidence`: collect a signed pack of evidence, and check one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from eguard.cli.output import print_facts, print_json, print_table, printable, progress_bar

app = typer.Typer(
    help="Evidence of what ran, how it was set up and what it did: collect it into a signed pack, and verify packs.",
    no_args_is_help=True,
)

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@app.callback()
def group() -> None:
    """Collect evidence into a signed pack, and verify packs."""


@app.command()
def collect(
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the pack to; it must not exist.")],
    log: Annotated[
        list[Path] | None, typer.Option("--log", "-l", help="Log file to take; several times for several.")
    ] = None,
    journal_since: Annotated[
        str, typer.Option("--journal-since", help="Take the journal of eGuard's services from here; empty: not at all.")
    ] = "-1 day",
    screenshots: Annotated[
        Path | None, typer.Option("--screenshots", help="Folder of PNG files, such as endpoint-inventory.png.")
    ] = None,
    workspace: Annotated[
        Path, typer.Option("--workspace", "-w", help="Folder in which the pipeline worked; its reports are taken.")
    ] = Path(),
    as_json: JsonOption = False,
) -> None:
    """Gather logs, rows, answers, runs, notebooks, screenshots, versions and policies into a signed folder.

    Run it on the server's machine with the server's settings, and EGUARD_API_TOKEN_FILE for the administration's
    answers. What is not there is named in the manifest; the rest is collected all the same. Secrets are redacted, and
    a pack that would hold one after all is not written. The key that signs is in EGUARD_EVIDENCE_PATH.

    Example: `eguard evidence collect --out evidence-2026-03-01 --log server.log --screenshots shots`
    """
    from eguard.evidence.pack.collect import Sources, collect_pack
    from eguard.evidence.signing import Custody
    from eguard.evidence.surroundings import fleet_database, redactor_here
    from eguard.settings import load_evidence_settings, load_nightly_settings, load_server_settings

    custody = Custody(load_evidence_settings().evidence_path)
    custody.signer()
    database = fleet_database(load_server_settings())
    api, why_not = _server_api()
    sources = Sources(
        custody=custody,
        runs=load_nightly_settings().output_root,
        workspace=workspace,
        database=database,
        ask=None if api is None else api.get,
        why_not=why_not,
        logs=tuple(log or ()),
        journal_since=journal_since,
        screenshots=screenshots,
    )
    try:
        with progress_bar(quiet=as_json) as progress:
            found = collect_pack(out, sources, redactor_here(custody), now=time.time(), progress=progress)
    finally:
        if api is not None:
            api.close()
        if database is not None:
            database.dispose()
    _tell(found, {"pack": str(out)}, as_json=as_json)


def _server_api() -> tuple[Any, str]:
    """Return the server's administration, or None and why there is none."""
    from eguard.errors import ConfigError
    from eguard.operations.server_api import ServerApi

    try:
        return ServerApi.from_settings(), ""
    except ConfigError as error:
        return None, f"{error}. {error.remedy}".strip()


@app.command()
def verify(
    pack: Annotated[Path, typer.Argument(help="The pack's folder.")],
    *,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", "-k", help="Public key to believe (PEM), instead of those in EGUARD_EVIDENCE_PATH."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check a pack's signature and every file's SHA-256. Exit 1 if anything was changed, removed or added.

    On the machine that collected it no key needs to be named. Elsewhere name its evidence-public.pem, which you got
    by another way than the pack.

    Example: `eguard evidence verify evidence-2026-03-01 --key evidence-public.pem`
    """
    from eguard.evidence.pack.verify import verify_pack
    from eguard.evidence.signing import Custody, load_public_key
    from eguard.settings import load_evidence_settings

    named = [load_public_key(path) for path in key or ()]
    keys = named or Custody(load_evidence_settings().evidence_path).trusted_keys()
    found = verify_pack(pack, keys)
    _tell(found, {"pack": str(pack), "verified": True, "manifest_sha256": found["manifest_sha256"]}, as_json=as_json)


def _tell(found: dict[str, Any], facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json({**facts, **found})
        return
    size = sum(each["bytes"] for each in found["files"])
    shown = {"collected_at": found["collected_at"], "eguard": found["eguard"], "key_id": found["key_id"]}
    print_facts({**facts, **shown, "files": f"{len(found['files'])}, {size:,} bytes"})
    rows = [
        (name, each["state"], each["files"], printable("; ".join((*each["missing"], *each["notes"])) or "-"))
        for name, each in found["sections"].items()
    ]
    print_table("sections", ("section", "state", "files", "what is missing or left out"), rows, numbers=False)
