import numpy as np
import pytest

from eguard.baseline import BaselineStatus, BaselineStore
from eguard.fleet import FleetStore
from eguard.wire import BaselineRow

SERVER = "https://localhost:8443"
KEYS = [("sh", "cron"), ("curl", "sh")]


@pytest.fixture
def learned(settings):
    """Leave a store behind with two changed keys; `change` works on it before it is closed."""

    def make(change=lambda _store: None):
        here = settings()
        here.state_path.mkdir()
        with BaselineStore.open(here.baseline_folder) as store:
            store.learn(KEYS, np.array([0, 3]), np.array([100.0, 101.0]), np.array([0, 0]))
            change(store)

    return make


@pytest.mark.parametrize("name", ["baseline_upload", "fleet_seed"])
def test_without_a_server_there_is_nothing_to_exchange(examine, name):
    assert examine(name).state == "skipped"


@pytest.mark.parametrize(
    ("name", "changes", "says"),
    [
        ("baseline_upload", {"baseline_upload_enabled": False}, "EGUARD_BASELINE_UPLOAD_ENABLED is off"),
        ("baseline_upload", {"baseline_upload_canary_percent": 0}, "EGUARD_BASELINE_UPLOAD_CANARY_PERCENT is 0"),
        ("baseline_upload", {"baseline_upload_max_bytes": 600}, "2 of 2 changed keys fit no upload"),
        ("fleet_seed", {"fleet_seed_enabled": False}, "EGUARD_FLEET_SEED_ENABLED is off"),
        ("fleet_seed", {"fleet_seed_canary_percent": 0}, "EGUARD_FLEET_SEED_CANARY_PERCENT is 0"),
        ("fleet_seed", {}, "status learning, so seeds are wanted, and none was ever applied"),
    ],
    ids=["upload off", "upload canary", "cap", "seed off", "seed canary", "no seed"],
)
def test_each_cause_of_the_manual_is_told_apart(examine, settings, learned, name, changes, says):
    learned()
    found = examine(name, with_settings=settings(server=SERVER, **changes))
    assert found.state == "warning"
    assert says in found.cause
    assert found.remedy


def test_changed_keys_wait_for_an_upload(examine, settings, learned):
    learned()
    found = examine("baseline_upload", with_settings=settings(server=SERVER))
    assert (found.state, found.cause) == ("ok", "2 changed keys wait, in 1 uploads of at most 1,000,000 bytes")
    found = examine("baseline_upload", with_settings=settings(server=SERVER, baseline_upload_canary_percent=5))
    assert "5 % are, by a hash of EGUARD_AGENT_ID" in found.cause


def test_nothing_learned_is_told_from_everything_uploaded(examine, settings):
    here = settings(server=SERVER)
    here.state_path.mkdir()
    with BaselineStore.open(here.baseline_folder):
        pass
    found = examine("baseline_upload", with_settings=here)
    assert (found.state, "nothing was learned yet" in found.cause) == ("warning", True)
    assert "EGUARD_SETTLE_SECONDS=300" in found.remedy


def test_no_dirty_keys_is_told(examine, settings, learned):
    learned(lambda store: store.acknowledge(KEYS, store.table.seq[store.table.index.lookup(KEYS)].tolist()))
    found = examine("baseline_upload", with_settings=settings(server=SERVER))
    assert (found.state, "no dirty keys" in found.cause) == ("ok", True)


@pytest.mark.parametrize("name", ["baseline_upload", "fleet_seed"])
def test_no_baseline_is_told(examine, settings, name):
    found = examine(name, with_settings=settings(server=SERVER))
    assert found.state == "warning"
    assert "no readable baseline" in found.cause


def test_applied_seeds_are_counted(examine, settings, learned):
    learned(lambda store: store.seed({("sh", "cron"): np.full(8, 0.125)}, 4))
    found = examine("fleet_seed", with_settings=settings(server=SERVER))
    assert (found.state, "1 seeds of generation 4" in found.cause) == ("ok", True)


def test_an_active_baseline_takes_no_seeds(examine, settings, learned):
    learned(lambda store: store.set_status(BaselineStatus.ACTIVE, learning_completed=200.0))
    found = examine("fleet_seed", with_settings=settings(server=SERVER))
    assert (found.state, "baseline is active" in found.cause) == ("ok", True)


def test_a_fleet_that_publishes_nothing_is_told_from_one_that_does(examine, settings, learned, tmp_path):
    learned()
    url = f"sqlite:///{tmp_path}/fleet.sqlite"
    with FleetStore.create(url) as fleet:
        found = examine("database", "fleet_seed", with_settings=settings(server=SERVER), database_url=url)
        assert "fleet_baseline is empty" in found.cause
        row = BaselineRow(
            process_key="sh:cron",
            event_distribution={"process_exec": 1.0},
            sample_count=50,
            entropy_threshold=2.7,
            learned_at_unix=0.0,
            seq=1,
        )
        for agent in ("a", "b", "c"):
            fleet.upsert_baselines(agent, "first", [row])
        fleet.aggregate()
    found = examine("database", "fleet_seed", with_settings=settings(server=SERVER), database_url=url)
    assert "none was ever applied; the fleet publishes 1 rows" in found.cause
