from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import structs

from eguard.baseline import BaselineStatus, BaselineStore
from eguard.errors import ServerUnavailableError
from eguard.fleet import FleetStore
from eguard.wire import BaselineRow
from eguard.wire.fleet import FleetPage, encode_fleet_page

SERVER = "https://localhost:8443"
KEYS = [("sh", "cron"), ("curl", "sh")]


@pytest.fixture
def learned(settings):
    """Leave a store behind with two changed keys; `change` works on it before it is closed."""

    def make(change=lambda _store: None):
        here = settings()
        here.state_path.mkdir(exist_ok=True)
        with BaselineStore.open(here.baseline_folder) as store:
            store.learn(KEYS, np.array([0, 3]), np.array([100.0, 101.0]), np.array([0, 0]))
            change(store)

    return make


@pytest.fixture
def at_work(keep_policy, write_status):
    """Leave behind what an agent at work does: a policy in force and a fresh status."""

    def make(document=None, **status):
        keep_policy(document)
        write_status(**status)

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
        ("fleet_seed", {}, "seeds are wanted, and none was ever applied; status learning"),
    ],
    ids=["upload off", "upload canary", "cap", "seed off", "seed canary", "no seed"],
)
def test_each_cause_of_the_manual_is_told_apart(examine, settings, learned, at_work, name, changes, says):
    learned()
    at_work()
    found = examine(name, with_settings=settings(server=SERVER, **changes))
    assert found.state == "warning"
    assert says in found.cause
    assert found.remedy


@pytest.mark.parametrize(
    ("name", "document", "says", "helps"),
    [
        (
            "baseline_upload",
            {"baseline_upload_enabled": False},
            "policy 'mlops-rollout' version 'v1' revision 3 says baseline_upload_enabled=false (kill switch)",
            "eguard policy show --agent agent-7",
        ),
        (
            "baseline_upload",
            {"baseline_upload_canary_percent": 0},
            "bucket is 6043 under rollout 'mlops-rollout', and 0 % are the buckets below 0 of 10000, by policy",
            "eguard policy advance mlops-rollout",
        ),
        (
            "fleet_seed",
            {"fleet_seed_canary_percent": 60.43},
            "bucket is 6043 under rollout 'mlops-rollout', and 60.43 % are the buckets below 6043 of 10000",
            "eguard policy advance mlops-rollout",
        ),
        ("fleet_seed", {"fleet_seed_enabled": False}, "says fleet_seed_enabled=false", "fleet_seed_enabled=true"),
    ],
    ids=["upload killed", "upload at 0", "seed next bucket", "seed killed"],
)
def test_what_a_policy_forbids_is_said_with_its_name(
    examine, settings, learned, at_work, name, document, says, helps
):  # fmt: skip
    learned()
    at_work(document)
    found = examine(name, with_settings=settings(server=SERVER))
    assert (found.state, says in found.cause, helps in found.remedy) == ("warning", True, True), found


def test_the_bucket_below_the_limit_is_in(examine, settings, learned, at_work):
    learned()
    at_work({"baseline_upload_canary_percent": 60.44})
    found = examine("baseline_upload", with_settings=settings(server=SERVER))
    assert found.state == "ok"
    assert "allowed by policy 'mlops-rollout' version 'v1' revision 3, its bucket is 6043" in found.cause


def test_a_share_of_the_environment_is_named_as_such(examine, settings, learned, at_work):
    learned()
    at_work()
    found = examine("baseline_upload", with_settings=settings(server=SERVER, baseline_upload_canary_percent=5))
    assert (found.state, found.cause.endswith("by EGUARD_BASELINE_UPLOAD_CANARY_PERCENT")) == ("warning", True)
    assert "a restart" in found.remedy


@pytest.mark.parametrize(
    ("name", "direction", "verdict", "says"),
    [
        ("baseline_upload", "upload", "disabled", "latest answer was baseline_upload_disabled"),
        ("baseline_upload", "upload", "not_in_canary", "latest answer was not_in_canary"),
        ("fleet_seed", "seed", "disabled", "latest answer was seed_enabled=false"),
    ],
    ids=["disabled", "canary", "seed"],
)
def test_what_the_server_refused_last_is_said(examine, settings, learned, at_work, name, direction, verdict, says):
    learned()
    at_work(policy={"revision": 3, "server_said": {direction: verdict}})
    found = examine(name, with_settings=settings(server=SERVER))
    assert (found.state, says in found.cause) == ("warning", True), found
    at_work(policy={"revision": 2, "server_said": {direction: verdict}})  # said of an earlier policy
    assert says not in examine(name, with_settings=settings(server=SERVER)).cause


@pytest.mark.parametrize("name", ["baseline_upload", "fleet_seed"])
def test_without_a_good_policy_nothing_is_exchanged(examine, settings, learned, keep_policy, name):
    learned()
    found = examine(name, with_settings=settings(server=SERVER))
    assert (found.state, "it has no policy yet" in found.cause) == ("warning", True)
    keep_policy(damage=lambda signed: structs.replace(signed, signature="00" * 64))
    found = examine(name, with_settings=settings(server=SERVER))
    assert "the policy's signature does not hold" in found.cause


def test_changed_keys_wait_for_an_upload(examine, settings, learned, at_work):
    learned()
    at_work()
    found = examine("baseline_upload", with_settings=settings(server=SERVER))
    assert found.state == "ok"
    assert found.cause.startswith("2 changed keys wait, in 1 uploads of at most 1,000,000 bytes; allowed by")


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ({"state": "stopped", "age_seconds": 600.0}, "no agent runs here: the last one ended 10 min ago"),
        ({"age_seconds": 90.0}, "no agent runs here: the last one wrote its last status 90 s ago"),
        (
            {"duties": {"baseline upload": {"last_error": "broke off"}}},
            "the latest upload failed: broke off",
        ),
        ({"uploads": {"set_aside": 1, "oversized": 2}}, "2 times one as too large (payload_too_large)"),
    ],
    ids=["stopped", "lost", "failing", "oversized"],
)
def test_what_keeps_waiting_keys_here_is_told(examine, settings, learned, at_work, status, says):
    learned()
    at_work(**status)
    found = examine("baseline_upload", with_settings=settings(server=SERVER))
    assert (found.state, says in found.cause) == ("warning", True), found


def test_nothing_learned_is_told_from_everything_uploaded(examine, settings, at_work):
    at_work()
    here = settings(server=SERVER)
    with BaselineStore.open(here.baseline_folder):
        pass
    found = examine("baseline_upload", with_settings=here)
    assert (found.state, "nothing was learned yet" in found.cause) == ("warning", True)
    assert "EGUARD_SETTLE_SECONDS=300" in found.remedy


def test_no_dirty_keys_is_told(examine, settings, learned, at_work):
    learned(lambda store: store.acknowledge(KEYS, store.table.seq[store.table.index.lookup(KEYS)].tolist()))
    at_work()
    found = examine("baseline_upload", with_settings=settings(server=SERVER))
    assert (found.state, "no dirty keys" in found.cause) == ("ok", True)


@pytest.mark.parametrize("name", ["baseline_upload", "fleet_seed"])
def test_no_baseline_is_told(examine, settings, at_work, name):
    at_work()
    found = examine(name, with_settings=settings(server=SERVER))
    assert found.state == "warning"
    assert "no readable baseline" in found.cause


def test_applied_seeds_are_counted(examine, settings, learned, at_work):
    learned(lambda store: store.seed({("sh", "cron"): np.full(8, 0.125)}, 4))
    at_work()
    found = examine("fleet_seed", with_settings=settings(server=SERVER))
    assert (found.state, "1 seeds of generation 4" in found.cause) == ("ok", True)


def test_an_active_baseline_takes_no_seeds(examine, settings, learned, at_work):
    learned(lambda store: store.set_status(BaselineStatus.ACTIVE, learning_completed=200.0))
    at_work()
    found = examine("fleet_seed", with_settings=settings(server=SERVER))
    assert (found.state, "baseline is active" in found.cause) == ("ok", True)


def test_a_fleet_that_publishes_nothing_is_told_from_one_that_does(examine, settings, learned, at_work, tmp_path):
    learned()
    at_work()
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
    assert "none was ever applied; status learning; the fleet publishes 1 rows" in found.cause


@pytest.fixture
def server_says(monkeypatch):
    """Have the server answer a question for the fleet's rows, and no other."""

    def run(page):
        def ask(_questions, path, *_, **__):
            if path != "/endpoint/baseline/fleet":
                raise ServerUnavailableError("gone", reason="connect")
            return SimpleNamespace(body=encode_fleet_page(page))

        monkeypatch.setattr("eguard.operations.server_questions.ServerQuestions.ask", ask)

    return run


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ({"seeded": 0, "generation": 7, "seed_enabled": False}, "gives this agent no seeds (seed_enabled=false)"),
        ({"seeded": 0, "generation": 0, "seed_enabled": True}, "the server publishes no rows"),
    ],
    ids=["switched off", "empty"],
)
def test_what_the_server_answers_about_seeds_counts(examine, settings, learned, at_work, server_says, page, says):
    learned()
    at_work()
    server_says(FleetPage(fleet_baselines=[], **page))
    found = examine("fleet_seed", with_settings=settings(server=SERVER))
    assert (found.state, says in found.cause) == ("warning", True), found
