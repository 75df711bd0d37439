"""The demo's indicator list: the far ends of the C2 channels in the labelled captures, each with its source.

What the captures' own labels say is read from them. The few facts that stand only in prose are in
``data/indicators/demo.csv``. An address of a private range means something only together with its port, because other
networks use the same addresses for ordinary machines.
"""

from __future__ import annotations

import csv
import gzip
import ipaddress
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from eguard.detection.indicator_list import Indicator, make_indicator, parse_indicators
from eguard.mlops.workspace import Workspace

_MALICIOUS: Final = "Malicious"


def collect_indicators(workspace: Workspace) -> list[Indicator]:
    """Return the demo indicators, sorted and without duplicates.

    Raises
    ------
    RuleError
        A list below ``data/indicators`` holds something that is no indicator; names file and line.
    """
    found = [
        *_from_labels(workspace.raw / "net-apt29-day1" / "labels.csv"),
        *(
            indicator
            for path in sorted((workspace.raw / "net-c2-sessions").glob("*.messages.csv"))
            for indicator in _from_messages(path)
        ),
        *_from_labelled_connections(workspace.raw / "net-c2-sessions" / "remcos_ctu_sme11.conn.log.labeled.gz"),
    ]
    for path in sorted((workspace.root / "data" / "indicators").glob("*.[ct][sx][vt]")):
        found.extend(parse_indicators(path.read_text(encoding="utf-8"), source=path.name))
    unique = {indicator[:2]: indicator for indicator in reversed(found)}
    return sorted(unique.values())


def _from_labels(path: Path) -> Iterator[Indicator]:
    """Read connections labelled as C2 by the emulation plan."""
    with path.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            if row["label"] == "c2":
                yield _far_end(row["id_resp_h"], row["id_resp_p"], f"{path.parent.name}/{path.name}: {row['note']}")


def _from_messages(path: Path) -> Iterator[Indicator]:
    """Read the destination of a session of which every message is C2."""
    with path.open(encoding="utf-8", newline="") as lines:
        ends = sorted({(row["resp_h"], row["resp_p"]) for row in csv.DictReader(lines)})
    for address, port in ends:
        yield _far_end(address, port, f"{path.parent.name}/{path.name}: every message of the pair is C2")


def _from_labelled_connections(path: Path) -> Iterator[Indicator]:
    """Read the destinations of connections that were labelled malicious by hand, from a Zeek table."""
    names: list[str] = []
    ends: set[tuple[str, str]] = set()
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            cells = line.rstrip("\n").split("\t")
            if cells[0] == "#fields":
                names = cells[1:]
            elif not line.startswith("#"):
                row = dict(zip(names, cells, strict=False))
                if row.get("label") == _MALICIOUS:
                    ends.add((row["id.resp_h"], row["id.resp_p"]))
    for address, port in sorted(ends):
        yield _far_end(address, port, f"{path.parent.name}/{path.name}: connections labelled {_MALICIOUS}")


def _far_end(address: str, port: str, source: str) -> Indicator:
    """Return a public address alone, a private one with its port."""
    if ipaddress.ip_address(address).is_private:
        return make_indicator(f"{address}:{port}", kind="address_port", source=source)
    return make_indicator(address, kind="address", source=source)
