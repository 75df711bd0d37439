"""Every way in which the table can be less than whole is noticed."""

import pytest

from eguard.agent.isolation.inspection import inspect


def drop_chain(filter_, name):
    filter_.entries = [
        entry
        for entry in filter_.entries
        if entry.get("chain", {}).get("name") != name and entry.get("rule", {}).get("chain") != name
    ]


def flush_chain(filter_, name):
    filter_.entries = [entry for entry in filter_.entries if entry.get("rule", {}).get("chain") != name]


def insert_accept(filter_, name, comment=None):
    rule = {"chain": name, "expr": [{"match": {}}, {"accept": None}]} | ({"comment": comment} if comment else {})
    position = next(i for i, entry in enumerate(filter_.entries) if entry.get("rule", {}).get("chain") == name)
    filter_.entries.insert(position, {"rule": rule})


def rules(filter_, name):
    return [entry["rule"] for entry in filter_.entries if entry.get("rule", {}).get("chain") == name]


def remove_last(filter_, name):
    filter_.entries.remove({"rule": rules(filter_, name)[-1]})


def swap(filter_, name):
    first, last = rules(filter_, name)[0], rules(filter_, name)[-1]
    kept = dict(first)
    first.clear()
    first.update(last)
    last.clear()
    last.update(kept)


DAMAGE = {
    "dormant": (lambda f: f.entries[0]["table"].update(flags=["dormant"]), "dormant"),
    "no-input": (lambda f: drop_chain(f, "input"), "input chain is missing"),
    "no-output": (lambda f: drop_chain(f, "output"), "output chain is missing"),
    "no-forward": (lambda f: drop_chain(f, "forward"), "forward chain is missing"),
    "empty-output": (lambda f: flush_chain(f, "output"), "output chain's rules"),
    "accepting-policy": (lambda f: f.find("chain", "input").update(policy="accept"), "input chain is not"),
    "late-priority": (lambda f: f.find("chain", "input").update(prio=0), "input chain is not"),
    "unhooked": (lambda f: f.find("chain", "output").pop("hook"), "output chain is not"),
    "unnamed-accept": (lambda f: insert_accept(f, "output"), "unnamed rule"),
    "foreign-accept": (lambda f: insert_accept(f, "input", "ssh"), "with 'ssh'"),
    "doubled-rule": (lambda f: insert_accept(f, "input", "loopback"), "order or verdicts"),
    "no-drop": (lambda f: remove_last(f, "forward"), "without 'dropped'"),
    "drop-that-accepts": (lambda f: rules(f, "input")[-1].update(expr=[{"match": {}}, {"accept": None}]), "verdicts"),
    "accept-of-everything": (lambda f: rules(f, "output")[1].update(expr=[{"accept": None}]), "verdicts"),
    "order": (lambda f: swap(f, "output"), "order"),
    "added-server": (lambda f: f.find("set", "server_v4")["elem"].append({"concat": ["203.0.113.9", 1]}), "recorded"),
    "emptied-set": (lambda f: f.find("set", "server_v4").pop("elem"), "recorded"),
    "prefix": (lambda f: f.find("set", "resolver_v4")["elem"].append({"prefix": {"addr": "0.0.0.0", "len": 0}}), "rec"),
    "missing-set": (lambda f: f.entries.remove({"set": f.find("set", "resolver_v6")}), "sets are missing"),
    "no-record": (lambda f: drop_chain(f, "record"), "record is incomplete"),
    "other-format": (lambda f: rules(f, "record")[0].update(comment="format=9"), "format 9"),
    "any-question": (lambda f: insert_accept(f, "questions"), "rate limit"),
    "extra-question": (
        lambda f: f.entries.append({"rule": {"chain": "questions", "expr": [{"accept": None}]}}),
        "ours",
    ),
    "no-limit": (lambda f: flush_chain(f, "questions"), "rate limit"),
    "foreign-chain": (lambda f: f.entries.append({"chain": {"name": "mine"}}), "'mine'"),
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_makes_it_partial_and_says_what(workplace, damage, said):
    workplace.host.isolate(["server.example:8443"])
    damage(workplace.filter)
    found = inspect(workplace.filter.read())
    assert found.state == "partial"
    assert said in "; ".join(found.defects)


@pytest.mark.parametrize(("damage", "said"), DAMAGE.values(), ids=DAMAGE.keys())
def test_isolating_again_repairs_it(workplace, damage, said):
    workplace.host.isolate(["server.example:8443"])
    damage(workplace.filter)
    outcome = workplace.host.isolate()
    assert (outcome.action, outcome.inspection.state) == ("isolated", "isolated")


def test_no_table_is_no_isolation():
    assert inspect(None).state == "not_isolated"


def test_whole_table_tells_since_by_whom_and_what_passes(workplace):
    workplace.host.isolate(["server.example:8443", "192.0.2.9:1"], by="älice\n(sudo)")
    found = inspect(workplace.filter.read())
    assert (found.state, found.defects) == ("isolated", ())
    assert (found.since_unix, found.requested_by) == (1_790_000_000, "älice\n(sudo)")
    assert found.servers == ("192.0.2.7:8443", "192.0.2.9:1", "[2001:db8::7]:8443")
    assert (found.resolvers, found.questions) == (("192.0.2.53",), ("server.example", "server.example.corp.example"))
    assert found.dropped["forward"] == {"packets": 0, "bytes": 0}


@pytest.mark.parametrize("value", ["", "yesterday", "-5", "1e9"])
def test_unreadable_time_is_unknown(workplace, value):
    workplace.host.isolate(["192.0.2.9:1"])
    rules(workplace.filter, "record")[1]["comment"] = f"since={value}"
    assert inspect(workplace.filter.read()).since_unix is None
