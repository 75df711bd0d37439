"""A pack as a whole: what is in it, that it verifies, and that no change to it goes unnoticed."""

import json
import os
import shutil
import struct
import zlib
from importlib.metadata import version
from pathlib import Path

import pytest

from eguard.errors import ConfigError, EvidenceError, ServerUnavailableError
from eguard.evidence.known_secrets import KnownSecret
from eguard.evidence.pack.collect import Sources, collect_pack
from eguard.evidence.pack.pictures import bare_png
from eguard.evidence.pack.verify import verify_pack
from eguard.evidence.pack.writer import PackWriter
from eguard.evidence.redaction import Redactor
from eguard.evidence.signing import Custody
from eguard.fleet.database import Database

NOW = 1_772_000_000.0


def ask(path, **query):
    if path == "/endpoint/inventory":
        return {"rows": [{"agent_id": "a", "query": query}], "next_cursor": None, "total": 1}
    if path == "/endpoint/audit/verify":
        raise ServerUnavailableError("it went away")
    return {}


@pytest.fixture
def custody(tmp_path):
    return Custody(tmp_path / "evidence")


@pytest.fixture
def sources(tmp_path, custody, migrated_sqlite):
    database = Database(f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'fleet.db')}")
    runs, workspace = tmp_path / "ml", tmp_path / "work"
    (runs / "runs" / "1").mkdir(parents=True)
    (runs / "latest").symlink_to(runs / "runs" / "1")
    (runs / "latest-report.json").write_text('{"status": "success"}')
    for name in ("pipeline.log", "signature-ml-model.json", "signature-ml-model-metadata.json"):
        (runs / "latest" / name).write_text("{}")
    (workspace / "reports").mkdir(parents=True)
    (workspace / "reports" / "01.ipynb").write_text('{"cells": []}')
    (workspace / "reports" / "evidence-report.pdf").write_bytes(b"%PDF\xff\xfe")
    log = tmp_path / "agent.log"
    log.write_text('{"event": "uploaded baseline profile batch"}\n' * 2)
    yield Sources(custody, runs, workspace, database, ask, logs=(log,))
    database.dispose()


@pytest.fixture
def pack(tmp_path, sources):
    collect_pack(tmp_path / "pack", sources, Redactor(), now=NOW)
    return tmp_path / "pack"


def test_a_pack_has_every_kind_of_evidence_and_says_what_is_missing(pack, custody):
    found = verify_pack(pack, custody.trusted_keys())
    assert {name: section["state"] for name, section in found["sections"].items()} == {
        **dict.fromkeys(("settings", "versions", "sql", "policy", "logs", "notebooks", "drills"), "present"),
        **dict.fromkeys(("api", "runs"), "partial"),
        "screenshots": "absent",
    }
    assert found["sections"]["api"]["missing"] == ["GET /endpoint/audit/verify: it went away"]
    assert "offline-eval-report.json" in found["sections"]["runs"]["missing"][0]
    assert "PDF" in found["sections"]["notebooks"]["notes"][0]
    assert (found["collected_at"], found["collected_at_unix"]) == ("2026-02-25T06:13:20+00:00", NOW)


def test_rows_answers_and_counted_phrases_are_what_the_sources_said(pack):
    rows = json.loads((pack / "sql" / "12.4-1.json").read_text())
    assert (rows["statement"], rows["rows"]) == ("SELECT COUNT(*) FROM endpoint_baseline", [{"COUNT(*)": 0}])
    answer = json.loads((pack / "api" / "inventory.json").read_text())
    assert answer["answer"]["rows"] == [{"agent_id": "a", "query": {"limit": 1000}}]
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


def change(path):
    path.write_bytes(path.read_bytes() + b" ")


def link(path):
    kept = path.with_name("elsewhere")
    path.rename(kept)
    path.symlink_to(kept)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda pack: change(pack / "sql" / "12.4-1.json"), "sql/12.4-1.json was changed"),
        (lambda pack: (pack / "sql" / "12.4-1.json").unlink(), "sql/12.4-1.json is missing"),
        (lambda pack: (pack / "sql" / "more.json").write_text("{}"), "sql/more.json was added"),
        (lambda pack: (pack / "note").symlink_to("/etc"), "note was added"),
        (lambda pack: link(pack / "sql" / "12.4-1.json"), "sql/12.4-1.json was changed"),
        (lambda pack: change(pack / "manifest.json"), "manifest.json is not what was signed"),
        (lambda pack: (pack / "manifest.dsse.json").unlink(), "cannot be read"),
        (lambda pack: (pack / "manifest.dsse.json").write_text("{}"), "not signed by a trusted key"),
    ],
    ids=["changed", "removed", "added", "added-link", "made-a-link", "manifest", "no-seal", "empty-seal"],
)
def test_no_change_goes_unnoticed(pack, custody, spoil, said):
    spoil(pack)
    with pytest.raises(EvidenceError, match=said):
        verify_pack(pack, custody.trusted_keys())


def test_every_difference_is_named_to_programs(pack, custody):
    for path in (pack / "sql").iterdir():
        path.unlink()
    with pytest.raises(EvidenceError, match="and 6 more") as refused:
        verify_pack(pack, custody.trusted_keys())
    assert len(refused.value.context["differences"]) == 11


def test_a_pack_of_a_strangers_key_is_refused(pack, tmp_path):
    other = Custody(tmp_path / "other")
    other.signer()
    with pytest.raises(EvidenceError, match="not signed by a trusted key"):
        verify_pack(pack, other.trusted_keys())


def test_what_is_there_is_not_overwritten(tmp_path, sources):
    (tmp_path / "pack").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        collect_pack(tmp_path / "pack", sources, Redactor(), now=NOW)


def test_a_secret_that_gets_past_redaction_stops_the_pack(tmp_path, custody):
    redactor = Redactor([KnownSecret("TOKEN", "s3same-open")])
    with PackWriter(tmp_path / "pack", redactor) as pack:
        with pack.section("logs") as section:
            pack._write(section, "x.log", b"s3same-open")
        with pytest.raises(EvidenceError, match="would hold the secret of TOKEN") as refused:
            pack.seal({}, custody.signer())
    assert "s3same" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir() if "pack" in path.name] == []


def test_names_of_sources_cannot_leave_the_pack(tmp_path):
    with PackWriter(tmp_path / "pack", Redactor()) as pack, pack.section("logs") as section:
        for _ in range(2):
            pack.add_text(section, "../../etc/passwd", "x")
        pack.add_text(section, "..", "x")
        assert sorted(pack._digests) == ["logs/etc-passwd", "logs/etc-passwd-2", "logs/file"]


def test_without_database_and_server_the_rest_is_collected(tmp_path, custody):
    sources = Sources(custody, tmp_path / "none", tmp_path, why_not="no token was named")
    found = collect_pack(tmp_path / "pack", sources, Redactor(), now=NOW)
    assert found["sections"]["api"]["missing"] == ["no token was named"]
    assert found["sections"]["sql"]["state"] == "absent"
    assert found["sections"]["versions"]["state"] == "present"


def test_a_log_that_is_long_gives_its_end(tmp_path, custody, monkeypatch):
    monkeypatch.setattr("eguard.evidence.pack.logs.MAX_BYTES", 100)
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    collect_pack(tmp_path / "pack", Sources(custody, tmp_path, tmp_path, logs=(log,)), Redactor(), now=NOW)
    kept = (tmp_path / "pack" / "logs" / "a.log").read_text().splitlines()
    assert (kept[0], kept[-1]) == ("line 88", "line 99")


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


HEAD = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
TAIL = chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")


def test_a_picture_is_kept_without_what_is_written_into_it():
    said = chunk(b"tEXt", b"Author\0somebody") + chunk(b"eXIf", b"camera") + chunk(b"iTXt", b"x")
    assert bare_png(HEAD + said + TAIL + b"behind the end") == HEAD + TAIL


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", HEAD, (HEAD + TAIL)[:-1], (HEAD + TAIL).replace(b"IDAT", b"IDAx"), HEAD + b"\xff" * 40]
)
def test_what_is_no_whole_picture_is_refused(data):
    with pytest.raises(EvidenceError):
        bare_png(data)


def test_pages_without_a_picture_are_named(tmp_path, custody):
    shots = tmp_path / "shots"
    shots.mkdir()
    (shots / "endpoint-nac.png").write_bytes(HEAD + TAIL)
    (shots / "broken.png").write_bytes(b"x")
    sources = Sources(custody, tmp_path, tmp_path, screenshots=Path(os.fspath(shots)))
    section = collect_pack(tmp_path / "pack", sources, Redactor(), now=NOW)["sections"]["screenshots"]
    assert (section["state"], section["files"], len(section["missing"])) == ("partial", 1, 4)
    assert section["missing"][0] == "broken.png: no PNG file"
