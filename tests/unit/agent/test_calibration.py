"""An agent's samples of scored events: uniform, of fixed size, kept over restarts, and lost by no damaged file."""

from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import chisquare

from eguard.agent import calibration
from eguard.agent.calibration import FILE_NAME, KEPT_EVENTS, CalibrationKeeper
from eguard.detection.feature_contract import N_FEATURES

T0 = 1_700_000_000.0
LOADED = SimpleNamespace(model=SimpleNamespace(digest="d" * 64))


def scored(first, count, alerts=(), scores=True):
    """Return what the engine says of `count` scored events; features tell which event it is."""
    batch = SimpleNamespace(
        time_unix=T0 + np.arange(first, first + count), event_class=np.arange(first, first + count) % 9 - 1
    )
    return SimpleNamespace(
        candidates=Candidates(batch, [f"rule-{number}" for number in range(first, first + count)]),
        features=np.tile(np.arange(first, first + count, dtype=float)[:, np.newaxis], N_FEATURES),
        scores=np.arange(first, first + count) / 1e6 if scores else None,
        alerts=[SimpleNamespace(alert_id=f"alert-{first + row}") for row in alerts],
        alert_rows=np.array(alerts, np.intp),
    )


class Candidates:
    def __init__(self, batch, keys):
        self.batch, self.keys = batch, keys

    def __len__(self):
        return len(self.keys)


def keeper(folder, events=5, seed=0, name="agent"):
    return CalibrationKeeper(folder / FILE_NAME, events, np.random.default_rng(seed), name)


def numbers(kept):
    return kept.rows().features[:, 0].astype(int).tolist()


@pytest.mark.slow
def test_every_scored_event_is_drawn_with_the_same_probability(tmp_path):
    """4,000 samples of 5 out of 40 events, offered in uneven batches."""
    counts = Counter()
    drawn = keeper(tmp_path, seed=7)
    drawn._write = lambda: None
    for _ in range(4000):
        for first, count in ((0, 3), (3, 1), (4, 20), (24, 16)):
            drawn.observe(scored(first, count), LOADED)
        drawn.close_sample()
        counts.update(numbers(drawn)[-5:])
    assert sum(counts.values()) == 20_000
    assert chisquare([counts[number] for number in range(40)]).pvalue > 0.001


def test_the_generator_decides_and_not_how_events_are_cut_into_batches(tmp_path):
    whole, pieces, other = keeper(tmp_path), keeper(tmp_path), keeper(tmp_path, seed=1)
    for each in (whole, other):
        each.observe(scored(0, 200), LOADED)
    for first in range(0, 200, 8):
        pieces.observe(scored(first, 8), LOADED)
    for each in (whole, pieces, other):
        each.close_sample()
    assert numbers(whole) == numbers(pieces) != numbers(other)


def test_memory_is_that_of_one_sample_and_of_the_rows_that_are_kept(tmp_path):
    drawn = keeper(tmp_path)
    for first in range(0, 20_000, 100):
        drawn.observe(scored(first, 100), LOADED)
        assert len(drawn._drawn) <= 5
    for _ in range(200):
        drawn.observe(scored(0, 50), LOADED)
        drawn.close_sample()
    assert len(drawn) == KEPT_EVENTS
    assert drawn.describe()["dropped"] == 200 * 5 - KEPT_EVENTS
    assert (tmp_path / FILE_NAME).stat().st_size < 600 * KEPT_EVENTS


def test_an_event_says_who_scored_it_how_and_which_alert_it_gave(tmp_path):
    drawn = keeper(tmp_path, events=10)
    drawn.observe(scored(0, 3, alerts=(1,)), LOADED)
    drawn.observe(scored(3, 1, scores=False), SimpleNamespace(model=None))
    drawn.close_sample()
    first, second, _, last = drawn.waiting(10)
    assert (first.event_id, second.event_id) == ("", "alert-1")
    assert (second.score, second.model_digest, second.signal) == (1e-6, "d" * 64, "rule-1")
    assert (first.event_class, second.event_class, second.observed_at_unix) == (-1, 0, T0 + 1.0)
    assert (last.score, last.model_digest) == (None, "")
    assert len({event.sample_id for event in drawn.waiting(10)}) == 4


def test_other_agents_give_the_same_event_another_name(tmp_path):
    kept = []
    for name in ("one", "two"):
        drawn = keeper(tmp_path, name=name)
        drawn.observe(scored(0, 1), LOADED)
        drawn.close_sample()
        kept.append(drawn.waiting(9)[-1].sample_id)
    assert kept[0] != kept[1]


def test_samples_outlive_a_restart_with_what_the_server_has_of_them(tmp_path):
    drawn = keeper(tmp_path)
    drawn.observe(scored(0, 30), LOADED)
    drawn.close_sample()
    drawn.arrived({drawn.waiting(2)[0].sample_id, drawn.waiting(2)[1].sample_id})
    again = keeper(tmp_path, seed=3)
    assert numbers(again) == numbers(drawn)
    assert [event.sample_id for event in again.waiting(9)] == [event.sample_id for event in drawn.waiting(9)]
    assert len(again.waiting(9)) == 3


def test_no_sample_is_drawn_where_none_is_wanted(tmp_path):
    drawn = keeper(tmp_path, events=0)
    drawn.observe(scored(0, 100), LOADED)
    drawn.close_sample()
    assert (len(drawn), list(tmp_path.iterdir())) == (0, [])


@pytest.mark.parametrize("damage", ["cut", "noise", "short row", "nan", "class", "contract", "empty"])
def test_a_file_that_cannot_be_used_is_as_good_as_none(tmp_path, damage, monkeypatch):
    drawn = keeper(tmp_path)
    drawn.observe(scored(0, 30), LOADED)
    event = next(iter(drawn._drawn.values()))
    if damage == "short row":
        event.features = event.features[:-8]
    elif damage == "nan":
        event.features = np.full(N_FEATURES, np.nan).tobytes()
    elif damage == "class":
        event.event_class = 8
    drawn.close_sample()
    path = tmp_path / FILE_NAME
    content = {"cut": path.read_bytes()[:-100], "noise": b"\xc1" * 50, "empty": b""}.get(damage)
    if content is not None:
        path.write_bytes(content)
    if damage == "contract":
        monkeypatch.setattr(calibration, "contract_sha256", lambda: "0" * 64)
    again = keeper(tmp_path)
    assert len(again) == 0
    again.observe(scored(0, 30), LOADED)
    again.close_sample()
    assert len(keeper(tmp_path)) == 5


def test_a_disk_that_takes_nothing_costs_the_file_and_no_sample(tmp_path):
    drawn = CalibrationKeeper(tmp_path / "missing" / FILE_NAME, 5, np.random.default_rng(0))
    drawn.observe(scored(0, 30), LOADED)
    drawn.close_sample()
    assert len(drawn.waiting(9)) == 5


def test_a_hostile_name_is_written_as_text(tmp_path):
    output = scored(0, 1)
    output.candidates.keys = ["\udcff" * 400]
    drawn = keeper(tmp_path)
    drawn.observe(output, LOADED)
    drawn.close_sample()
    assert keeper(tmp_path).rows().signals == [("\\udcff" * 400)[:255]]
