"""The one door to nftables: the `nft` command, fed on its standard input, its answers read as JSON."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from typing import Any, Final, Protocol

from eguard.agent.isolation.availability import refuse_without_nftables
from eguard.agent.isolation.ruleset import FAMILY, TABLE
from eguard.errors import EguardError, IsolationUnavailableError

#: Where nft is looked for. Not in PATH: the command runs with privileges, and PATH belongs to whoever called.
SEARCH_PATH: Final = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin")
TIMEOUT_SECONDS: Final = 30.0
#: What the kernel or nft says, in the C locale, and what it means; the first that occurs is taken.
_CAUSES: Final = (
    (
        "operation not permitted",
        "the kernel does not let this process change packet filters",
        "Run it as root (sudo eguard nac ...) or with CAP_NET_ADMIN; in a container, add that capability.",
    ),
    (
        "unable to initialize netlink socket",
        "this kernel has no nf_tables",
        "Load it (modprobe nf_tables) or use a kernel built with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET.",
    ),
    (
        "protocol not supported",
        "this kernel has no nf_tables",
        "Load it (modprobe nf_tables) or use a kernel built with CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET.",
    ),
    (
        "operation not supported",
        "this kernel lacks a part of nf_tables that isolation needs",
        "Use a kernel with CONFIG_NF_TABLES_INET and CONFIG_NF_CONNTRACK (modprobe nf_tables nf_conntrack).",
    ),
    (
        "no such file or directory",
        "this kernel lacks a part of nf_tables that isolation needs",
        "Load nft_ct, nft_limit and nf_conntrack, or use a kernel with CONFIG_NFT_CT and CONFIG_NFT_LIMIT.",
    ),
)
_REFUSED_REMEDY: Final = "Try the rules by hand: eguard nac isolate --dry-run ... | sudo nft -c -f -"


@dataclass(frozen=True)
class KernelTable:
    """Our table as the kernel holds it, as nft prints it in JSON.

    Parameters
    ----------
    flags : Any
        Flags of the table, such as dormant; None when it has none.
    chains : dict of name to chain
    rules : dict of chain name to its rules in order
    sets : dict of name to elements, written as in a script
    counters : dict of name to (packets, bytes)
    """

    flags: Any
    chains: dict[str, dict[str, Any]]
    rules: dict[str, list[dict[str, Any]]]
    sets: dict[str, list[str]]
    counters: dict[str, tuple[int, int]]


class PacketFilter(Protocol):
    """What isolation needs of the kernel."""

    def check(self, script: str) -> None:
        """Raise if the script would not load; change nothing."""

    def load(self, script: str) -> None:
        """Apply the script in one transaction."""

    def read(self) -> KernelTable | None:
        """Return our table, or None if there is none."""


class Nft:
    """nftables by its command.

    Parameters
    ----------
    search_path : tuple of str
        Folders in which ``nft`` is looked for.
    """

    def __init__(self, search_path: tuple[str, ...] = SEARCH_PATH) -> None:
        self._search_path = search_path

    def check(self, script: str) -> None:
        """Raise IsolationUnavailableError if the script would not load; change nothing."""
        self._run(("-c", "-f", "-"), script)

    def load(self, script: str) -> None:
        """Apply the script in one transaction: all of it or, with an IsolationUnavailableError, none."""
        self._run(("-f", "-"), script)

    def read(self) -> KernelTable | None:
        """Return our table, or None if there is none.

        Raises
        ------
        IsolationUnavailableError
            There is no nft, no privilege, or no nf_tables.
        """
        listing = self._list("tables", FAMILY)
        if not any(entry.get("table", {}).get("name") == TABLE for entry in listing):
            return None
        return table_of(self._list("table", FAMILY, TABLE))

    def _list(self, *what: str) -> list[dict[str, Any]]:
        answer = self._run(("-j", "list", *what), "")
        try:
            entries = json.loads(answer)["nftables"]
        except (ValueError, KeyError, TypeError) as error:
            raise IsolationUnavailableError(
                "nft does not answer in JSON", remedy="Install an nftables built with JSON, as Debian's is."
            ) from error
        return [entry for entry in entries if isinstance(entry, dict)]

    def _run(self, arguments: tuple[str, ...], script: str) -> str:
        try:
            done = subprocess.run(  # noqa: S603 - a fixed program, arguments of our own, the script on standard input
                [self._program(), *arguments],
                input=script.encode("ascii"),
                capture_output=True,
                check=False,
                env={"LC_ALL": "C", "PATH": ":".join(self._search_path)},
                timeout=TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise IsolationUnavailableError(
                f"nft did not answer within {TIMEOUT_SECONDS:.0f} s", remedy="See what holds it: ps, dmesg."
            ) from error
        if done.returncode != 0:
            raise explain_failure(done.stderr.decode("utf-8", "replace"), done.returncode)
        return done.stdout.decode("utf-8", "replace")

    def _program(self) -> str:
        refuse_without_nftables()
        for folder in self._search_path:
            candidate = os.path.join(folder, "nft")  # noqa: PTH118 - a plain string is what exec takes
            if os.access(candidate, os.X_OK):
                return candidate
        raise IsolationUnavailableError(
            f"the command nft is not installed (looked in {', '.join(self._search_path)})",
            remedy="Install nftables: sudo apt-get install nftables",
        )


def explain_failure(stderr: str, status: int) -> EguardError:
    """Return the error that says why nft failed, from what it wrote.

    Examples
    --------
    >>> explain_failure("Error: Could not process rule: Operation not supported", 1).message
    'this kernel lacks a part of nf_tables that isolation needs (nft: Could not process rule: Operation not supported)'
    """
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = next((line for line in lines if "error" in line.lower() or ":" in line), lines[0] if lines else "")
    said = said.rpartition("Error: ")[2] or f"status {status}"
    for sign, cause, remedy in _CAUSES:
        if sign in stderr.lower():
            return IsolationUnavailableError(f"{cause} (nft: {said})", remedy=remedy, status=status)
    ending = f"was killed by signal {-status}" if status < 0 else f"refused ({said})"
    return IsolationUnavailableError(f"nft {ending}", remedy=_REFUSED_REMEDY, status=status)


def table_of(entries: list[dict[str, Any]]) -> KernelTable:
    """Return our table from nft's list of objects."""
    table = KernelTable(None, {}, {}, {}, {})
    flags = None
    for entry in entries:
        if "table" in entry:
            flags = entry["table"].get("flags")
        elif "chain" in entry:
            table.chains[entry["chain"]["name"]] = entry["chain"]
            table.rules.setdefault(entry["chain"]["name"], [])
        elif "rule" in entry:
            table.rules.setdefault(entry["rule"]["chain"], []).append(entry["rule"])
        elif "set" in entry:
            table.sets[entry["set"]["name"]] = [_element(item) for item in entry["set"].get("elem", [])]
        elif "counter" in entry:
            table.counters[entry["counter"]["name"]] = (entry["counter"]["packets"], entry["counter"]["bytes"])
    return KernelTable(flags, table.chains, table.rules, table.sets, table.counters)


def _element(item: Any) -> str:
    """Return an element as a script writes it; an address range or anything else unforeseen as its JSON."""
    if isinstance(item, dict) and "elem" in item:
        item = item["elem"]["val"]
    if isinstance(item, dict) and "concat" in item:
        return " . ".join(map(str, item["concat"]))
    return item if isinstance(item, str) else json.dumps(item, sort_keys=True)
