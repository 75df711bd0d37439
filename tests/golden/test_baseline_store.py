"""Stores written by version 1 of the format open for ever, with the state they were written with."""

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from eguard.baseline.changes import decode_changes, encode_held, encode_seeds
from eguard.baseline.compaction import snapshot_bytes
from eguard.baseline.framing import decode_snapshot, scan_journal
from eguard.baseline.image import StoreImage
from eguard.baseline.store import BaselineStore
from eguard.baseline.store_dump import dump_state, read_store

GOLDEN = Path(__file__).parent / "baseline_store_v1"
READER = Path(__file__).parents[1] / "reliability" / "page_reader.py"


@pytest.fixture
def state():
    return json.loads((GOLDEN / "state.json").read_text())


@pytest.fixture
def folder(tmp_path):
    copy = shutil.copytree(GOLDEN, tmp_path / "state")
    copy.chmod(0o700)
    for path in copy.iterdir():
        path.chmod(0o600)
    return copy


def test_it_opens(folder, state):
    found, report = read_store(folder)
    assert report["is_sound"]
    assert dump_state(found.table, found.facts) | {"operation": found.operation} == state
    with BaselineStore.open(folder, capacity=12) as store:
        assert dump_state(store.table, store.facts) | {"operation": store.operation} == state


def test_it_holds_a_bit_of_everything(state):
    assert state["held"]
    assert state["seeds"]
    assert any(row["prior"] for row in state["profiles"])
    assert any(row["relearn_since"] for row in state["profiles"])
    assert "gr\u00f6\u00dfe:%uD8FF" in [row["process_key"] for row in state["profiles"]]


def test_the_reader_written_from_the_page_agrees(state):
    spec = importlib.util.spec_from_file_location("eguard_page_reader", READER)
    reader = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reader)
    judged = reader.read_folder({path.name: path.read_bytes() for path in GOLDEN.glob("baselines.*")})
    assert judged.pop("damage") == []
    judged.pop("generation")
    assert judged == state


def test_the_snapshot_would_be_written_the_same_today():
    data = (GOLDEN / "baselines.bin").read_bytes()
    header, body = decode_snapshot(data)
    image = StoreImage(header.capacity)
    image.apply(decode_changes(body))
    assert snapshot_bytes(image.finish(header.capacity), image.facts, header) == data


def test_the_journal_would_be_written_the_same_today():
    scan = scan_journal((GOLDEN / "baselines.journal").read_bytes())
    assert scan.ending == "whole"
    found, _ = read_store(GOLDEN)
    body = b"".join(record.changes for record in scan.records)
    assert encode_seeds(found.table.seeds) in body
    assert encode_held(found.table.held.items()[-1:]) in body
