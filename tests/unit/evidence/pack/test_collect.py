"""What a pack has in it, and what it says of the rest."""

import json
from importlib.metadata import version

from eguard.evidence.pack.collect import Sources, collect_pack
from eguard.evidence.pack.verify import verify_pack
from eguard.evidence.redaction import Redactor


def test_a_pack_has_every_kind_of_evidence_and_says_what_is_missing(pack, custody, now):
    found = verify_pack(pack, custody.trusted_keys())
    assert {name: section["state"] for name, section in found["sections"].items()} == {
        **dict.fromkeys(("settings", "versions", "sql", "policy", "logs", "notebooks", "drills"), "present"),
        **dict.fromkeys(("api", "runs"), "partial"),
        "screenshots": "absent",
    }
    assert found["sections"]["api"]["missing"] == ["GET /endpoint/audit/verify: it went away"]
    assert "offline-eval-report.json" in found["sections"]["runs"]["missing"][0]
    assert "PDF" in found["sections"]["notebooks"]["notes"][0]
    assert (found["collected_at"], found["collected_at_unix"]) == ("2026-02-25T06:13:20+00:00", now)


def test_rows_answers_and_counted_phrases_are_what_the_sources_said(pack):
    rows = json.loads((pack / "sql" / "12.4-1.json").read_text())
    assert (rows["statement"], rows["rows"]) == ("SELECT COUNT(*) FROM endpoint_baseline", [{"COUNT(*)": 0}])
    answer = json.loads((pack / "api" / "inventory.json").read_text())
    assert answer["answer"]["rows"] == [{"agent_id": "a", "query": {"limit": 1000}}]
    asked = json.loads((pack / "api" / "candidates.json").read_text())
    assert asked["request"] == "GET /endpoint/ml-ops/candidates"
    phrases = json.loads((pack / "logs" / "phrases.json").read_text())
    assert phrases["agent.log"]["uploaded baseline profile batch"] == 2
    assert json.loads((pack / "drills" / "readiness.json").read_text())["ready"] is False


def test_every_package_has_its_version_whatever_it_is_called(pack):
    packages = json.loads((pack / "versions" / "software.json").read_text())["packages"]
    assert {"package": "asttokens", "version": version("asttokens")} in packages
    assert "[redacted]" not in json.dumps(packages)


def test_the_readable_manifest_is_the_signed_one(pack):
    statement = json.loads((pack / "manifest.json").read_text())
    assert statement["predicateType"] == "urn:eguard:evidence-pack:v1"
    names = {each["name"] for each in statement["subject"]}
    assert names == {each["name"] for each in statement["predicate"]["files"]}
    assert "sql/12.4-1.json" in names


def test_without_database_and_server_the_rest_is_collected(tmp_path, custody, now):
    sources = Sources(custody, tmp_path / "none", tmp_path, why_not="no token was named")
    found = collect_pack(tmp_path / "pack", sources, Redactor(), now=now)
    assert found["sections"]["api"]["missing"] == ["no token was named"]
    assert found["sections"]["sql"]["state"] == "absent"
    assert found["sections"]["versions"]["state"] == "present"


def test_a_link_leads_nothing_into_the_pack_that_lies_elsewhere(pack):
    held = [path.name for path in pack.rglob("*") if path.is_file() and b"what lies outside" in path.read_bytes()]
    assert held == []
