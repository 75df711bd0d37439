"""The nftables rules of an isolated host, as data and as a script.

One table of our own, ``inet eguard_isolation``. At each hook its base chain comes before other people's (priority -350:
behind the reassembly of fragments, before everything usual) and ends in a drop. A drop is final in nftables whatever
other tables accept; what our table accepts, they still may drop or translate. Going out, a packet meets our chain
before connection tracking, so those rules do not ask for a state; coming in, tracking has seen it at an earlier hook.

Every script is one transaction: the kernel holds the old rules or the new ones, never a part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from eguard.agent.isolation.targets import Address

FAMILY: Final = "inet"
TABLE: Final = "eguard_isolation"
FORMAT: Final = 1
PRIORITY: Final = -350
HOOKS: Final = ("input", "output", "forward")
COUNTERS: Final = tuple(f"dropped_{hook}" for hook in HOOKS)
#: The kernel keeps 128 bytes of a rule's comment.
_MAX_COMMENT_BYTES: Final = 100
#: What may follow a question: an EDNS record with a cookie or padding.
_EDNS_BYTES: Final = 64
_UDP_AND_DNS_HEADER_BYTES: Final = 20
_TYPE_AND_CLASS_BYTES: Final = 4
_COMPARED_BYTES: Final = 16
Counts = Mapping[str, tuple[int, int]]


@dataclass(frozen=True)
class Rule:
    """One rule: a tag (its comment in the kernel), what it matches, and what then happens."""

    tag: str
    match: str
    verdict: str

    def __str__(self) -> str:
        return f'{self.match} {self.verdict} comment "{self.tag}"'.lstrip()


_NEIGHBOUR: Final = "icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, {} }} ip6 hoplimit 255"
_ERRORS: Final = "destination-unreachable, time-exceeded, parameter-problem"
_DHCP_RATE: Final = "limit rate 30/minute burst 10 packets"

INPUT: Final = (
    Rule("loopback", 'iif "lo"', "accept"),
    Rule("server_v4", "ip saddr . tcp sport @server_v4 ct state established", "accept"),
    Rule("server_v6", "ip6 saddr . tcp sport @server_v6 ct state established", "accept"),
    Rule("dns_v4", "ip saddr @resolver_v4 udp sport 53 ct state established", "accept"),
    Rule("dns_v6", "ip6 saddr @resolver_v6 udp sport 53 ct state established", "accept"),
    Rule("neighbour_discovery", _NEIGHBOUR.format("nd-router-advert"), "accept"),
    Rule("multicast_listener", "icmpv6 type mld-listener-query ip6 saddr fe80::/10 ip6 hoplimit 1", "accept"),
    Rule("icmp_errors_v4", f"icmp type {{ {_ERRORS} }} ct state related", "accept"),
    Rule("icmp_errors_v6", f"icmpv6 type {{ {_ERRORS}, packet-too-big }} ct state related", "accept"),
    Rule("dhcp_v4", "meta nfproto ipv4 udp sport 67 udp dport 68", "accept"),
    Rule("dhcp_v6", "ip6 saddr fe80::/10 udp sport 547 udp dport 546", "accept"),
)
OUTPUT: Final = (
    Rule("loopback", 'oif "lo"', "accept"),
    Rule("server_v4", "ip daddr . tcp dport @server_v4", "accept"),
    Rule("server_v6", "ip6 daddr . tcp dport @server_v6", "accept"),
    Rule("dns_v4", "ip daddr @resolver_v4 udp dport 53", "jump questions"),
    Rule("dns_v6", "ip6 daddr @resolver_v6 udp dport 53", "jump questions"),
    Rule("neighbour_discovery", _NEIGHBOUR.format("nd-router-solicit"), "accept"),
    Rule("multicast_listener", "icmpv6 type { mld-listener-report, mld2-listener-report } ip6 hoplimit 1", "accept"),
    Rule("dhcp_v4", f"meta nfproto ipv4 udp sport 68 udp dport 67 {_DHCP_RATE}", "accept"),
    Rule("dhcp_v6", f"ip6 daddr {{ fe80::/10, ff02::1:2 }} udp sport 546 udp dport 547 {_DHCP_RATE}", "accept"),
)
BASE_CHAINS: Final[Mapping[str, tuple[Rule, ...]]] = {
    "input": (*INPUT, Rule("dropped", "counter name dropped_input", "drop")),
    "output": (*OUTPUT, Rule("dropped", "counter name dropped_output", "drop")),
    "forward": (Rule("dropped", "counter name dropped_forward", "drop"),),
}
#: Ahead of the questions: nobody floods a resolver, or spells much in the timing of the one question allowed.
QUESTION_LIMIT: Final = Rule("rate", "limit rate over 10/second burst 20 packets counter name dropped_output", "drop")
SETS: Final[Mapping[str, str]] = {
    "server_v4": "ipv4_addr . inet_service",
    "server_v6": "ipv6_addr . inet_service",
    "resolver_v4": "ipv4_addr",
    "resolver_v6": "ipv6_addr",
}


@dataclass(frozen=True)
class Plan:
    """What the kernel shall hold.

    Parameters
    ----------
    endpoints : frozenset of (address, port)
        Far ends of control channels.
    resolvers : frozenset of addresses
        Whom DNS questions may go to.
    questions : tuple of str
        Names that may be asked for, lower case, without final dot.
    since_unix : int
        When the isolation began, in seconds since the epoch.
    requested_by : str
        Who asked for it; any text.
    """

    endpoints: frozenset[tuple[Address, int]]
    resolvers: frozenset[Address]
    questions: tuple[str, ...]
    since_unix: int
    requested_by: str

    def elements(self) -> dict[str, list[str]]:
        """Return the elements of each set as nft writes them, in numerical order."""
        found: dict[str, list[str]] = {name: [] for name in SETS}
        for address, port in sorted(self.endpoints, key=lambda pair: (int(pair[0]), pair[1])):
            found[f"server_v{address.version}"].append(f"{address} . {port}")
        for address in sorted(self.resolvers, key=int):
            found[f"resolver_v{address.version}"].append(str(address))
        return found


def elements_digest(elements: Mapping[str, Iterable[str]]) -> str:
    """Return a short digest of all sets, kept in the table so that a changed set is noticed without any file."""
    text = "\n".join(f"{name} {element}" for name in sorted(SETS) for element in sorted(elements.get(name, ())))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def question_tag(name: str) -> str:
    """Return the comment of a question's rule: its name, shortened with a digest where the kernel's room ends.

    Examples
    --------
    >>> question_tag("server.example")
    'question server.example'
    """
    if len(name) > _MAX_COMMENT_BYTES - 20:
        name = f"{name[:50]}~{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return f"question {name}"


def question_rule(name: str) -> Rule:
    """Return the rule that lets one DNS question through: standard query, this name, A or AAAA, nothing else inside.

    Matched byte for byte from behind the UDP header: query and opcode bits, one question and no other records but the
    additional section's, the name as length-prefixed labels in lower case, type A or AAAA, class IN, and a length that
    leaves no room for more than an EDNS record.

    Examples
    --------
    >>> print(question_rule("a.b").match)
    udp length 29-93 @th,80,5 0 @th,96,48 0x000100000000 @th,160,40 0x0161016200 @th,200,32 { 0x00010001, 0x001c0001 }
    """
    wire = b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split(".")) + b"\0"
    shortest = _UDP_AND_DNS_HEADER_BYTES + len(wire) + _TYPE_AND_CLASS_BYTES
    parts = [f"udp length {shortest}-{shortest + _EDNS_BYTES}", "@th,80,5 0", "@th,96,48 0x000100000000"]
    offset = _UDP_AND_DNS_HEADER_BYTES
    for start in range(0, len(wire), _COMPARED_BYTES):
        piece = wire[start : start + _COMPARED_BYTES]
        parts.append(f"@th,{(offset + start) * 8},{len(piece) * 8} 0x{piece.hex()}")
    parts.append(f"@th,{(offset + len(wire)) * 8},32 {{ 0x00010001, 0x001c0001 }}")
    return Rule(question_tag(name), " ".join(parts), "accept")


def record_rules(plan: Plan) -> tuple[Rule, ...]:
    """Return the rules of the chain nothing jumps to: the table's own record of since when and by whom."""
    by = plan.requested_by[:_MAX_COMMENT_BYTES]
    while len(_quoted(by)) > _MAX_COMMENT_BYTES - 3:
        by = by[:-1]
    facts = {
        "format": str(FORMAT),
        "since": str(plan.since_unix),
        "by": _quoted(by),
        "sets": elements_digest(plan.elements()),
    }
    return tuple(Rule(f"{name}={value}", "", "return") for name, value in facts.items())


def _quoted(text: str) -> str:
    """Return text in letters, digits and a few signs that mean nothing to nft."""
    return quote(text, safe="@.", errors="replace")


def render(plan: Plan, dropped: Counts | None = None) -> str:
    """Return the script that replaces the whole table in one transaction.

    Parameters
    ----------
    plan : Plan
        What to hold.
    dropped : mapping of counter name to (packets, bytes), optional
        Where the counters go on from.
    """
    lines = [f"add table {FAMILY} {TABLE}", f"delete table {FAMILY} {TABLE}", f"table {FAMILY} {TABLE} {{"]
    for counter in COUNTERS:
        packets, octets = (dropped or {}).get(counter, (0, 0))
        lines += [f"  counter {counter} {{ packets {packets} bytes {octets} }}"]
    for name, elements in plan.elements().items():
        lines += [f"  set {name} {{", f"    type {SETS[name]}"]
        lines += [f"    elements = {{ {', '.join(elements)} }}"] if elements else []
        lines += ["  }"]
    lines += _chain("record", record_rules(plan))
    lines += _chain("questions", (QUESTION_LIMIT, *map(question_rule, plan.questions)))
    for hook, rules in BASE_CHAINS.items():
        lines += _chain(hook, rules, f"type filter hook {hook} priority {PRIORITY}; policy drop;")
    return "\n".join([*lines, "}", ""])


def _chain(name: str, rules: Iterable[Rule], declaration: str = "") -> Iterator[str]:
    yield f"  chain {name} {{"
    if declaration:
        yield f"    {declaration}"
    for rule in rules:
        yield f"    {rule}"
    yield "  }"


def render_sets(plan: Plan) -> str:
    """Return the script that exchanges the addresses alone, in one transaction; rules and counters stay."""
    lines = []
    for name, elements in plan.elements().items():
        lines.append(f"flush set {FAMILY} {TABLE} {name}")
        if elements:
            lines.append(f"add element {FAMILY} {TABLE} {name} {{ {', '.join(elements)} }}")
    lines.append(f"flush chain {FAMILY} {TABLE} record")
    lines += [f"add rule {FAMILY} {TABLE} record {rule}" for rule in record_rules(plan)]
    return "\n".join([*lines, ""])


def render_removal() -> str:
    """Return the script that removes our table, whether it is there or not, and nothing else."""
    return f"add table {FAMILY} {TABLE}\ndelete table {FAMILY} {TABLE}\n"
