"""Votes from the order of the table to that of the keys: every vote once, whole keys, by rank, in bounded pieces."""

import numpy as np
import pytest

from eguard.fleet.blocks import VOTE
from eguard.fleet.vote_reader import Electorate, KeyNumbers
from eguard.fleet.vote_spool import VoteSpool

AGENTS = [f"agent-{number}" for number in range(40)]
KEYS = [f"p{number:02d}:init" for number in range(60)]


@pytest.fixture
def electorate():
    return Electorate({agent: f"token-{number % 3}" for number, agent in enumerate(AGENTS)})


def portions(numbers, electorate, seed, keys=KEYS):
    """Yield records of some agents' votes in the order in which agents uploaded; `samples` tells vote from vote."""
    rng = np.random.default_rng(seed)
    for at, agent in enumerate(AGENTS):
        chosen = [key for key in keys if rng.random() < 0.7]
        records = np.zeros(len(chosen), dtype=VOTE)
        records["key"] = [numbers[key] for key in chosen]
        records["voter"] = electorate.numbers[agent]
        records["samples"] = [100 * at + KEYS.index(key) for key in chosen]
        yield records


def contents(blocks):
    return [
        (key, block.records["voter"][start:stop].tolist(), block.records["samples"][start:stop].tolist())
        for block in blocks
        for key, start, stop in zip(
            block.keys, block.starts.tolist(), [*block.starts[1:].tolist(), len(block.records)], strict=True
        )
    ]


@pytest.mark.parametrize(("run", "block", "memory"), [(1, 1, 1), (50, 30, 2000), (10**6, 10**6, 10**7)])
def test_every_vote_comes_once_by_key_and_rank(electorate, monkeypatch, tmp_path, run, block, memory):
    for name, value in (("RUN_VOTES", run), ("BLOCK_VOTES", block), ("MEMORY_BYTES", memory)):
        monkeypatch.setattr(f"eguard.fleet.vote_spool.{name}", value)
    numbers = KeyNumbers()
    wanted = {}
    for records in portions(numbers, electorate, 1):
        for key, voter, samples in records[["key", "voter", "samples"]].tolist():
            wanted.setdefault(numbers.names[key], []).append((voter, samples))
    with VoteSpool(numbers, tmp_path) as spool:
        counts = list(spool.fill(portions(numbers, electorate, 1)))
        blocks = list(spool.blocks(electorate))
    assert counts[-1] == spool.votes == sum(map(len, wanted.values()))
    found = contents(blocks)
    assert {key: list(zip(voters, samples, strict=True)) for key, voters, samples in found} == {
        key: sorted(votes) for key, votes in wanted.items()
    }
    assert len(found) == len(wanted)
    assert all(len(each.records) <= block or len(each.keys) == 1 for each in blocks)
    assert all(np.array_equal(each.tokens, electorate.tokens[each.records["voter"]]) for each in blocks)
    assert list(tmp_path.iterdir()) == []


def test_parts_of_other_processes_make_the_same_blocks(electorate, tmp_path):
    everything = KeyNumbers()
    with VoteSpool(everything) as alone, VoteSpool(KeyNumbers()) as together:
        for _ in alone.fill(portions(everything, electorate, 1)):
            pass
        for number, keys in enumerate((KEYS[30:], KEYS[:30])):
            own = KeyNumbers()
            with VoteSpool(own) as part:
                for records in portions(everything, electorate, 1):
                    names = [everything.names[key] for key in records["key"].tolist()]
                    records["key"] = [own[name] if name in keys else -1 for name in names]
                    list(part.fill([records[records["key"] >= 0]]))
                together.adopt(part.save(tmp_path / f"{number}.votes"))
        assert contents(together.blocks(electorate)) == contents(alone.blocks(electorate))
        assert together.votes == alone.votes
