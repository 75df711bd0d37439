"""`eguard bundle`: make, publish and check signed bundles."""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from eguard.cli import bundle_client
from eguard.cli.output import print_facts, print_json

app = typer.Typer(
    help="Signed bundles: what agents load. `verify` is safe to run anywhere; `publish` needs the signing keys.",
    no_args_is_help=True,
)
app.add_typer(bundle_client.app, name="client")

RepositoryOption = Annotated[
    Path, typer.Option("--repository", "-r", help="Folder of the TUF repository.", envvar="EGUARD_BUNDLE_REPOSITORY")
]
KeysOption = Annotated[Path, typer.Option("--keys", "-k", help="Folder of the signing keys.", envvar="EGUARD_KEYS")]
TargetsOption = Annotated[Path, typer.Option("--targets", "-t", help="Folder of the unsigned bundle.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]

REPOSITORY = Path("bundles/repository")
TARGETS = Path("bundles/targets")
KEYS = Path("keys")
INDICATORS = Path("data/indicators")


def _answer(as_json: bool, facts: dict[str, Any]) -> None:
    if as_json:
        print_json(facts)
    else:
        print_facts({name: "-" if value in (None, [], ()) else value for name, value in facts.items()})


@app.command()
def init(repository: RepositoryOption = REPOSITORY, keys: KeysOption = KEYS, as_json: JsonOption = False) -> None:
    """Create development keys and an empty repository; what exists is kept."""
    from eguard.bundle import Repository, generate_keys

    target = Repository(repository, generate_keys(keys))
    target.create()
    _answer(as_json, {"repository": str(repository), "keys": str(keys), "versions": target.versions()})


@app.command()
def publish(
    targets: TargetsOption = TARGETS,
    repository: RepositoryOption = REPOSITORY,
    keys: KeysOption = KEYS,
    as_json: JsonOption = False,
) -> None:
    """Sign the unsigned bundle into the repository; unchanged files make no new version."""
    from eguard.bundle import Repository, load_keys
    from eguard.bundle.manifest import Manifest, check_files, read_targets
    from eguard.detection.content import load_content

    files = read_targets(targets)
    manifest = Manifest.from_bytes(files["models/manifest.json"])
    check_files(manifest, files)
    load_content(files)
    publication = Repository(repository, load_keys(keys)).publish(files)
    _answer(
        as_json,
        {
            "model_version": manifest.model_version,
            "promoted": manifest.promoted,
            "changed_roles": list(publication.changed_roles),
            "versions": publication.versions,
        },
    )


@app.command()
def refresh(repository: RepositoryOption = REPOSITORY, keys: KeysOption = KEYS, as_json: JsonOption = False) -> None:
    """Renew snapshot and timestamp, so that agents see a living repository."""
    from eguard.bundle import Repository, load_keys

    target = Repository(repository, load_keys(keys))
    target.refresh()
    _answer(as_json, {"repository": str(repository), "versions": target.versions()})


@app.command()
def verify(
    repository: RepositoryOption = REPOSITORY,
    targets: TargetsOption = TARGETS,
    root: Annotated[
        Path | None, typer.Option("--root", help="Trusted root metadata; by default the repository's first.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Check signatures, versions, digests and counts as an agent would. Exit 1 on any difference.

    The unsigned folder is compared with what was signed, too, where it exists.
    """
    from eguard.bundle import MANIFEST_NAME, BundleClient, check_counts, verify_statement
    from eguard.bundle.manifest import check_files, read_targets
    from eguard.bundle.repository import ENVELOPE_NAME
    from eguard.detection.content import load_content
    from eguard.errors import BundleDigestError

    trusted_root = (root or repository / "metadata" / "1.root.json").read_bytes()
    with tempfile.TemporaryDirectory() as state:
        bundle = BundleClient(Path(state), repository.absolute().as_uri(), trusted_root).fetch()
    statement = verify_statement((repository / ENVELOPE_NAME).read_bytes(), bundle.provenance_keys)
    signed = {**bundle.files, MANIFEST_NAME: bundle.manifest.to_bytes()}
    for subject in statement["subject"]:
        data = signed.get(subject["name"], b"")
        if hashlib.sha256(data).hexdigest() != subject["digest"]["sha256"]:
            raise BundleDigestError(f"the provenance names another {subject['name']} than the one that was signed")
    content = load_content(bundle.files)
    check_counts(bundle.manifest, content.counts)
    if targets.exists():
        unsigned = read_targets(targets)
        check_files(bundle.manifest, unsigned)
        different = sorted(name for name, data in unsigned.items() if signed.get(name) != data)
        if different:
            raise BundleDigestError(
                f"{', '.join(different)} in {targets} is not what was signed",
                remedy="Publish the new build with `eguard bundle publish`, or restore the folder with `dvc checkout`.",
            )
    _answer(
        as_json,
        {
            "verified": True,
            "model_version": bundle.manifest.model_version,
            "promoted": bundle.manifest.promoted,
            "files": {name: line.sha256 for name, line in sorted(bundle.manifest.files.items())}
            if as_json
            else len(bundle.manifest.files),
            "records": content.counts,
            "inputs_in_provenance": len(statement["predicate"]["buildDefinition"]["resolvedDependencies"]),
            "versions": bundle.versions,
        },
    )


@app.command("add-indicators")
def add_indicators(
    path: Annotated[Path, typer.Argument(help="List: one indicator a line, or CSV with kind,value,source.")],
    into: Annotated[Path, typer.Option("--into", help="Folder of the lists that the rules stage reads.")] = INDICATORS,
    as_json: JsonOption = False,
) -> None:
    """Check an indicator list and add it to the next bundle; a list with a bad line is refused whole."""
    from eguard.bundle.repository import write_durably
    from eguard.detection.indicator_list import parse_indicators
    from eguard.errors import RuleError

    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        raise RuleError(f"{path} is no text file: {error}", remedy="Save the list as UTF-8.") from error
    indicators = parse_indicators(text, path.name)
    kinds = Counter(indicator.kind for indicator in indicators)
    target = into / path.name
    write_durably(target, text.encode())
    _answer(as_json, {"added": len(indicators), "by_kind": dict(kinds), "list": str(target), "next": "dvc repro"})
