"""A packet filter in memory that understands the scripts that we write, and nothing else."""

import re
from ipaddress import ip_address

import pytest

from eguard.agent.isolation.host import HostIsolation
from eguard.agent.isolation.kernel import table_of
from eguard.agent.isolation.request import RequestFile
from eguard.agent.isolation.resolvers import ResolverConfiguration
from eguard.clock import SimulatedClock
from eguard.errors import IsolationUnavailableError

VERDICT = re.compile(r"(accept|drop|return|jump \w+) comment \"([^\"]*)\"$")


class FilterInMemory:
    """Holds what the last script said, in the form of nft's JSON."""

    def __init__(self):
        self.entries = None
        self.loads = []
        self.refuses_check = self.refuses_load = False

    def check(self, script):
        assert script
        if self.refuses_check:
            raise IsolationUnavailableError("refused", remedy="none")

    def load(self, script):
        if self.refuses_load:
            raise IsolationUnavailableError("refused", remedy="none")
        self.loads.append(script)
        lines = script.splitlines()
        if lines[0].startswith("flush set"):
            self._exchange(lines)
        elif len(lines) == 2:
            self.entries = None
        else:
            self.entries = [{"table": {"name": "eguard_isolation"}}, *self._entries(lines[3:-1])]

    def read(self):
        return None if self.entries is None else table_of(self.entries)

    def find(self, kind, name):
        return next(entry[kind] for entry in self.entries if entry.get(kind, {}).get("name") == name)

    def _exchange(self, lines):
        for line in lines:
            words = line.split()
            if line.startswith("flush set"):
                self.find("set", words[4])["elem"] = []
            elif line.startswith("add element"):
                self.find("set", words[4])["elem"] = elements_of(line)
            elif line.startswith("flush chain"):
                self.entries = [entry for entry in self.entries if entry.get("rule", {}).get("chain") != words[4]]
            else:
                self.entries.append(rule_of(line.split(f"{words[4]} ", 1)[1], words[4]))

    def _entries(self, lines):
        current = None
        for line in lines:
            words = line.split()
            if words[0] == "counter" and current is None:
                yield {"counter": {"name": words[1], "packets": int(words[4]), "bytes": int(words[6])}}
            elif words[0] in ("set", "chain"):
                current = {words[0]: {"name": words[1]}}
                yield current
            elif words[0] == "}":
                current = None
            elif words[0] == "elements":
                current["set"]["elem"] = elements_of(line)
            elif words[0] == "type" and "set" not in current:
                current["chain"] |= {"type": "filter", "hook": words[3], "prio": int(words[5][:-1]), "policy": "drop"}
            elif "chain" in current:
                yield rule_of(line.strip(), current["chain"]["name"])


def elements_of(line):
    texts = line.split("{ ", 1)[1].rsplit(" }", 1)[0].split(", ")
    pairs = [text.split(" . ") for text in texts]
    for pair in pairs:
        ip_address(pair[0])
    return [{"concat": [pair[0], int(pair[1])]} if len(pair) == 2 else pair[0] for pair in pairs]


def rule_of(text, chain):
    verdict, comment = VERDICT.search(text).groups()
    name, _, target = verdict.partition(" ")
    match = [{"match": {}}] if text.partition(verdict)[0].strip() else []
    last = {name: {"target": target}} if target else {name: None}
    return {"rule": {"chain": chain, "comment": comment, "expr": [*match, last]}}


class Workplace:
    """A host with a filter in memory, a folder, a clock, and names that it knows."""

    def __init__(self, folder):
        self.filter = FilterInMemory()
        self.file = RequestFile(folder / "nac")
        self.clock = SimulatedClock(1_790_000_000.0)
        self.names = {"server.example": ["192.0.2.7", "2001:db8::7"]}
        self.configuration = ResolverConfiguration((ip_address("192.0.2.53"),), ("corp.example",))
        self.host = HostIsolation(
            self.filter,
            self.file,
            clock=self.clock,
            lookup=self.lookup,
            configuration=lambda: self.configuration,
        )

    def lookup(self, name):
        if name not in self.names:
            raise OSError(-2, "Name or service not known")
        return self.names[name]


@pytest.fixture
def workplace(tmp_path):
    return Workplace(tmp_path)
