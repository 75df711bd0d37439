"""A small place with evidence of every kind, collected once, and copies of that pack to spoil."""

import shutil

import pytest

from eguard.errors import ServerUnavailableError
from eguard.evidence.pack.collect import Sources, collect_pack
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
def now():
    return NOW


@pytest.fixture(scope="module")
def place(tmp_path_factory, migrated_sqlite):
    """The sources, and in their folder a pack of them."""
    folder = tmp_path_factory.mktemp("place")
    database = Database(f"sqlite:///{shutil.copy(migrated_sqlite, folder / 'fleet.db')}")
    runs, workspace = folder / "ml", folder / "work"
    (runs / "runs" / "1").mkdir(parents=True)
    (runs / "latest").symlink_to(runs / "runs" / "1")
    (runs / "latest-report.json").write_text('{"status": "success"}')
    for name in ("pipeline.log", "signature-ml-model.json", "signature-ml-model-metadata.json"):
        (runs / "latest" / name).write_text("{}")
    (workspace / "reports").mkdir(parents=True)
    (workspace / "reports" / "01.ipynb").write_text('{"cells": []}')
    (workspace / "reports" / "evidence-report.pdf").write_bytes(b"%PDF\xff\xfe")
    (folder / "outside.json").write_text('{"note": "what lies outside"}')
    (workspace / "reports" / "link.json").symlink_to(folder / "outside.json")
    log = folder / "agent.log"
    log.write_text('{"event": "uploaded baseline profile batch"}\n' * 2)
    sources = Sources(Custody(folder / "evidence"), runs, workspace, database, ask, logs=(log,))
    collect_pack(folder / "pack", sources, Redactor(), now=NOW)
    yield sources
    database.dispose()


@pytest.fixture
def custody(place):
    return place.custody


@pytest.fixture
def pack(place, tmp_path):
    return shutil.copytree(place.custody.folder.parent / "pack", tmp_path / "pack")
