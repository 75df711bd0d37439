"""Seeds from a server on a real socket: one generation whole, or none."""

import json

import msgspec
import pytest

from eguard.agent.control.seeds import SeedFetcher
from eguard.baseline.lifecycle import BaselineMode
from eguard.errors import (
    ServerUnavailableError,
)
from eguard.wire.fleet import FleetPage, FleetRow

FLEET = "/endpoint/baseline/fleet"
T0 = 1_700_000_000.0


def fleet_row(number, share=0.5):
    return FleetRow(
        process_key=f"tool{number:04}:cron", median_distribution={"file_open": share, "dns_query": 1.0 - share},
        agent_count=3, stddev_kl=0.0, tolerated_faults=1, source="aggregate",
    )  # fmt: skip


def pages(generation, n=1200, **given):
    """Answer pages of one generation, as the server does."""

    def page(request):
        limit, cursor = int(request.query["limit"]), request.query.get("cursor", "")
        rows = [row for row in map(fleet_row, range(n)) if row.process_key > cursor][: limit + 1]
        more = len(rows) > limit
        fields = {
            "seeded": n, "generation": generation, "seed_enabled": True, "fleet_baselines": rows[:limit],
            "next_cursor": rows[limit - 1].process_key if more else None,
        }  # fmt: skip
        return FleetPage(**(fields | given))

    return page


@pytest.fixture
def seeds(bench):
    return SeedFetcher(bench.client, bench.desk, bench.policies, agent_id="h")


def held(bench):
    return bench.keeper.table.seeds.generation, len(bench.keeper.table.seeds)


def test_a_generation_is_taken_over_its_pages_and_not_twice(bench, seeds, control_server):
    control_server.answers[FLEET] = pages(4)
    seeds.fetch()
    assert held(bench) == (4, 1200)
    assert [request.query["limit"] for request in control_server.seen[FLEET]] == ["512"] * 3
    seeds.fetch()
    assert control_server.count(FLEET) == 4  # one page says that there is nothing new


def test_a_generation_that_ends_between_two_pages_is_begun_again(bench, seeds, control_server):
    old, new = pages(4), pages(5, n=600)

    def page(request):
        return old(request) if control_server.count(FLEET) < 2 else new(request)

    control_server.answers[FLEET] = page
    seeds.fetch()
    assert held(bench) == (5, 600)


def test_generations_that_never_stay_change_nothing(bench, seeds, control_server):
    def page(request):
        return pages(control_server.count(FLEET) + 1)(request)

    control_server.answers[FLEET] = page
    with pytest.raises(ServerUnavailableError):
        seeds.fetch()
    assert held(bench) == (0, 0)


@pytest.mark.parametrize("kind", ["endless", "stands still", "bad row", "half", "500 on page 2"])
def test_a_generation_that_cannot_be_read_whole_changes_nothing(kind, bench, seeds, control_server):
    control_server.answers[FLEET] = pages(3)
    seeds.fetch()
    good = pages(4)

    def endless(request):
        number = int(request.query.get("cursor", "tool0:cron")[4:-5]) + 1
        rows, cursor = [fleet_row(number)], f"tool{number}:cron"
        return FleetPage(seeded=1, generation=4, seed_enabled=True, fleet_baselines=rows, next_cursor=cursor)

    def stands_still(_):
        rows = [fleet_row(1)]
        return FleetPage(seeded=1, generation=4, seed_enabled=True, fleet_baselines=rows, next_cursor="tool1:cron")

    def bad_row(request):
        body = json.loads(msgspec.json.encode(good(request)))
        body["fleet_baselines"][-1]["median_distribution"] = {"file_open": 0.4}
        return body

    def breaks(request):
        return good(request) if "cursor" not in request.query else (500, b"")

    def half(request):
        return good(request) if "cursor" not in request.query else b'{"status":"ok","seeded":12'

    answers = {"endless": endless, "stands still": stands_still, "bad row": bad_row, "half": half}
    control_server.answers[FLEET] = answers.get(kind, breaks)
    before = control_server.count(FLEET)
    with pytest.raises(ServerUnavailableError):
        seeds.fetch()
    assert held(bench) == (3, 1200)
    assert control_server.count(FLEET) - before <= 130


def test_switched_off_seeds_stay_in_use_and_no_others_are_taken(bench, seeds, control_server, signer):
    control_server.answers[FLEET] = pages(3)
    seeds.fetch()
    control_server.answers[FLEET] = lambda _: FleetPage(seeded=0, generation=4, seed_enabled=False, fleet_baselines=[])
    seeds.fetch()
    assert held(bench) == (3, 1200)
    assert bench.policies.describe()["seed"]["decided_by"] == "server"
    control_server.answers[FLEET] = pages(5)
    bench.policies.take(signer.sign(2, {"fleet_seed_enabled": False}))
    count = control_server.count(FLEET)
    seeds.fetch()
    assert control_server.count(FLEET) == count
    assert held(bench) == (3, 1200)


def test_an_active_baseline_asks_only_for_keys_that_are_learned_anew(bench, seeds, control_server):
    control_server.answers[FLEET] = pages(3)
    bench.learn(1)
    bench.exchange.ask(lambda: bench.keeper.lifecycle.move(BaselineMode.FORCE_ACTIVE, T0))
    seeds.fetch()
    assert control_server.count(FLEET) == 0
    bench.exchange.ask(lambda: bench.keeper.table.relearn(0, T0))
    seeds.fetch()
    assert held(bench) == (3, 1200)


def test_a_baseline_that_skips_learning_gets_its_first_seeds(bench, seeds, control_server, signer):
    control_server.answers[FLEET] = pages(3)
    bench.policies.take(signer.sign(2, {"baseline_mode": "skip_learning"}))
    assert bench.desk.apply_mode("skip_learning", 2)
    assert not bench.desk.apply_mode("skip_learning", 2)  # once
    bench.learn(1)
    seeds.fetch()
    assert held(bench) == (3, 1200)
