"""The whitelist's entries silence what they name and nothing beside it."""

import pytest

from eguard.detection.alert import Alert, BeaconEvidence, MatchedRule
from eguard.detection.suppression import Suppressor
from eguard.wire.policy import WhitelistEntry

SHA256 = "ab" * 32
MD5 = "cd" * 16


def rule(rule_id, *fields):
    return MatchedRule(rule_id, "t", "high", "a", (), fields)


def alert(**changes):
    values = {
        "alert_id": "e1",
        "host_id": "h",
        "observed_at_unix": 0.0,
        "event_class": "network_connect",
        "process_key": "curl:sh",
        "confidence": "high",
        "response": "alert_only",
        "reasons": ("rule",),
    }
    return Alert(**(values | changes))


def beacon(destination):
    return BeaconEvidence(destination, 1.0, 1.0, 1.0, 0.5, 60.0, 100, is_confirmed=True)


def silenced(kind, value, given):
    return Suppressor([WhitelistEntry(entry_id="w", kind=kind, value=value)]).match(given) == "w"


CASES = [
    ("process_key", "curl:sh", alert(), True),
    ("process_key", "Curl:sh", alert(), False),
    ("rule", "r1", alert(rules=(rule("r1"),)), True),
    ("rule", "r1", alert(rules=(rule("r1"), rule("r2"))), False),
    ("rule", "r1", alert(rules=(rule("r1"),), reasons=("indicator 192.0.2.1 (feed)", "rule")), False),
    ("rule", "r1", alert(rules=(rule("r1"),), reasons=("rule", "beacon to example.org")), False),
    ("rule", "r1", alert(rules=()), False),
    ("ip", "192.0.2.0/24", alert(target="192.0.2.77"), True),
    ("ip", "192.0.2.0/24", alert(target="192.0.3.1"), False),
    ("ip", "192.0.2.1", alert(target="192.0.2.1"), True),
    ("ip", "2001:db8::/32", alert(target="2001:DB8::1"), True),
    ("ip", "192.0.2.0/24", alert(target="2001:db8::1"), False),
    ("ip", "192.0.2.1", alert(target="files/192.0.2.1"), False),
    ("ip", "192.0.2.1", alert(beacon=beacon("192.0.2.1")), True),
    ("domain", "example.org", alert(target="Example.ORG."), True),
    ("domain", "example.org", alert(target="a.b.example.org"), True),
    ("domain", "example.org", alert(target="notexample.org"), False),
    ("domain", "example.org", alert(target="example.org.evil.test"), False),
    ("domain", "org", alert(target="example.org"), False),
    ("domain", "intranet", alert(target="intranet"), True),
    ("hash", SHA256, alert(rules=(rule("r1", ("Hashes", f"SHA256={SHA256.upper()}")),)), True),
    ("hash", MD5, alert(rules=(rule("r1", ("Hashes", f"SHA1={'0' * 40},MD5={MD5}")),)), True),
    ("hash", SHA256, alert(reasons=(f"indicator {SHA256} (feed)",)), True),
    ("hash", SHA256[:32], alert(reasons=(f"indicator {SHA256} (feed)",)), False),
]


@pytest.mark.parametrize("number", range(len(CASES)))
def test_an_entry_silences_what_it_names_and_nothing_beside_it(number):
    kind, value, given, expected = CASES[number]
    assert silenced(kind, value, given) is expected


def test_no_entries_silence_nothing():
    assert Suppressor([]).match(alert(rules=(rule("r1"),))) is None
