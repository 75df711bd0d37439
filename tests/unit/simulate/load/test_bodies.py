"""Uploads: rows of the wire, drawn from the seed, each upload another."""

import numpy as np
import pytest

from eguard.fleet.store import FleetStore
from eguard.simulate.load.bodies import make_bodies
from eguard.simulate.load.options import LoadOptions
from eguard.wire.baseline import BaselineRow, decode_baseline_batch, entropy_threshold, receive_plain_batch

KEYS = 6


def host_row(rng, key):
    counts = rng.multinomial(200, rng.dirichlet([4.0, 2.0, 1.0]))
    names = ("process_exec", "file_open", "dns_query")
    return BaselineRow(
        process_key=f"program-{key}:parent",
        event_distribution={name: count / 200 for name, count in zip(names, counts.tolist(), strict=True) if count},
        sample_count=200,
        entropy_threshold=entropy_threshold(200),
        learned_at_unix=0.0,
        seq=1,
    )


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A store with five hosts: the first two keys are on all of them, the others on one."""
    path = tmp_path_factory.mktemp("store") / "fleet.db"
    rng = np.random.default_rng(5)
    with FleetStore.create(f"sqlite:///{path}") as store:
        for host in range(5):
            rows = [host_row(rng, key) for key in range(KEYS) if key < 2 or key % 5 == host]
            store.upsert_baselines(f"host-{host}", "a", rows)
    return path


def options_for(recording, **named):
    return LoadOptions(**{"agents": 200, "profiles": 3, "recording": recording, **named})


def test_the_same_seed_uploads_the_same_bytes(recording):
    first, again = make_bodies(options_for(recording)), make_bodies(options_for(recording))
    other = make_bodies(options_for(recording, seed=1))
    uploads = [[bodies.upload(n, f"a-{n}", 2) for n in range(200)] for bodies in (first, again, other)]
    assert uploads[0] == uploads[1]
    assert uploads[0] != uploads[2]


def test_an_upload_has_as_many_different_keys_as_asked_for_and_is_read_the_quick_way(recording):
    bodies = make_bodies(options_for(recording))
    for number in range(200):
        body = bodies.upload(number, f"agent-{number}", 7)
        batch = decode_baseline_batch(body)
        assert (batch.agent_id, batch.batch_id) == (f"agent-{number}", "7")
        assert len({row.process_key for row in batch.baselines}) == 3
        assert {row.seq for row in batch.baselines} == {7}
        assert receive_plain_batch(body) is not None


def test_each_upload_differs_from_the_one_before_in_every_row(recording):
    bodies = make_bodies(options_for(recording))
    for number in range(50):
        rows = [
            {row.process_key: row.event_distribution for row in decode_baseline_batch(upload).baselines}
            for upload in (bodies.upload(number, "a", 1), bodies.upload(number, "a", 2))
        ]
        assert rows[0].keys() == rows[1].keys()
        assert all(rows[0][key] != rows[1][key] for key in rows[0])


def test_keys_of_many_hosts_are_drawn_more_often(recording):
    bodies = make_bodies(options_for(recording, agents=2000))
    counts = np.bincount(bodies.keys.ravel(), minlength=KEYS)
    assert counts.sum() == 6000
    assert counts[:2].min() > 1.5 * counts[2:].max()


def test_more_profiles_than_keys_are_all_keys(recording):
    assert make_bodies(options_for(recording, profiles=50)).keys.shape == (200, KEYS)


def test_liars_are_as_many_as_asked_for_and_send_what_the_attack_says(recording):
    bodies = make_bodies(options_for(recording, poison="one-hot", share=0.25))
    assert bodies.is_liar.sum() == 50
    for number in range(200):
        batch = decode_baseline_batch(bodies.upload(number, "a", 1))
        shares = [max(row.event_distribution.values()) for row in batch.baselines]
        assert all(share == 1.0 for share in shares) == bool(bodies.is_liar[number])


def test_honest_uploads_do_not_depend_on_there_being_liars_for_their_keys(recording):
    honest, poisoned = make_bodies(options_for(recording)), make_bodies(options_for(recording, poison="lie", share=0.1))
    assert not honest.lies
    assert len(poisoned.lies) == len(poisoned.honest) == KEYS


def test_seeds_are_one_row_a_key(recording):
    seeds = make_bodies(options_for(recording)).seeds
    assert [row.process_key for row in seeds] == [f"program-{key}:parent" for key in range(KEYS)]
    assert [row.agent_count for row in seeds] == [5, 5, 1, 1, 1, 1]
