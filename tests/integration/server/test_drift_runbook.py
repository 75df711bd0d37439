"""The runbook over HTTP on both databases: an alarm, what it refuses, what explains it, and the ways out."""

import numpy as np
import pytest
from server_place import server_place

from eguard.server.principal import Role
from eguard.wire import BaselineRow, distribution_from_vector
from eguard.wire.baseline import BaselineBatch, encode_baseline_batch
from eguard.wire.control import INCARNATION_HEADER

AGENTS = [f"agent-{number:02d}" for number in range(12)]
LIARS = AGENTS[:5]
KEYS = [f"program-{number}:init" for number in range(4)]


class Fleet:
    """Twelve agents and two people at a running server."""

    def __init__(self, place):
        self.agents = {name: place.agent(name) for name in AGENTS}
        self.admin, self.analyst = place.person(Role.ADMIN), place.person(Role.ANALYST)
        self.seq, self.rng = 0, np.random.default_rng(5)
        programs = self.rng.dirichlet(np.full(8, 2.0), len(KEYS))
        self.own = {name: [self.rng.dirichlet(60 * each) for each in programs] for name in AGENTS}

    def cycle(self, moving=(), share=0.9):
        self.seq += 1
        for name, client in self.agents.items():
            part = share if name in moving else 0.0
            rows = []
            for key, own in zip(KEYS, self.own[name], strict=True):
                counts = self.rng.multinomial(1000, (1 - part) * own + part * np.eye(8)[3])
                rows.append(
                    BaselineRow(
                        process_key=key,
                        event_distribution=distribution_from_vector(counts / 1000),
                        sample_count=1000,
                        entropy_threshold=4.0,
                        learned_at_unix=1_772_000_000.0,
                        seq=self.seq,
                    )
                )
            body = encode_baseline_batch(BaselineBatch(agent_id=name, batch_id="b", baselines=rows))
            answer = client.post("/endpoint/baseline/batch", content=body, headers={INCARNATION_HEADER: "one"})
            assert answer.json()["accepted"] == len(KEYS), answer.text
        return self.post("/endpoint/baseline/aggregate")

    def post(self, path, status=200, **body):
        answer = self.admin.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    def drift(self):
        return self.analyst.get("/endpoint/fleet/health").json()["drift"]


@pytest.fixture
def fleet(tmp_path, database_url):
    with server_place(tmp_path, database_url, aggregation_max_token_share=1.0) as place:
        made = Fleet(place)
        shares = {"baseline_upload_canary_percent": 0, "fleet_seed_canary_percent": 0}
        made.post("/endpoint/policy", 201, policy_id="new", policy_version="v1", policy_json=shares)
        made.post("/endpoint/policy/advance", policy_id="new", to_percent=1, force=True, reason="test")
        yield made


def test_from_the_alarm_to_the_resumed_rollout(fleet):
    for _ in range(2):
        fleet.cycle()
    assert fleet.drift()["open_alarms"] == []
    for _ in range(2):
        fleet.cycle(AGENTS)  # everybody: nine events of ten are something else
    drift = fleet.drift()
    assert {(alarm["series"], alarm["kind"]) for alarm in drift["open_alarms"]} == {
        *((key, "js_level") for key in ("fleet", *KEYS))
    }
    assert drift["fleet_drift"] is False  # by the level, not by a detector: these still learn
    (rollout,) = fleet.admin.get("/endpoint/rollout/status").json()["rollouts"]
    assert (rollout["is_frozen"], rollout["frozen_by"]) == (True, "system")
    assert fleet.post("/endpoint/fleet/resume", 409, reason="impatient")["code"] == "drift_alarm_open"
    found = fleet.analyst.get("/endpoint/fleet/explain", params={"limit": 2}).json()
    assert (len(found["keys"]), found["moved_keys"], found["common_keys"]) == (2, 4, 4)
    assert found["evidence_points"]["adversarial"] == 0
    assert fleet.agents[AGENTS[0]].get("/endpoint/fleet/explain").status_code in {401, 403, 404}
    approved = fleet.post("/endpoint/fleet/approve", reason="new office suite")
    assert len(approved["resolved_alarms"]) == len(drift["open_alarms"])
    assert fleet.post("/endpoint/fleet/resume", reason="approved") == {"resumed": ["new"]}


def test_liars_are_named_rolled_back_and_taken_out(fleet):
    for _ in range(2):
        fleet.cycle()
    for _ in range(2):
        fleet.cycle(LIARS)
    found = fleet.analyst.get("/endpoint/fleet/explain").json()
    assert found["group"] == LIARS
    back = fleet.post("/endpoint/baseline/fleet/rollback", generation=2, reason="liars")
    assert back["rolled_back_to"] == 2
    refused = fleet.post("/endpoint/fleet/quarantine", 404, agent_ids=[*LIARS, "nobody"], reason="liars")
    assert refused["code"] == "unknown_agent"
    done = fleet.post("/endpoint/fleet/quarantine", agent_ids=LIARS, reason="liars", resolve_alarms=True)
    assert done["quarantined"] == LIARS
    assert fleet.post("/endpoint/fleet/quarantine", 422, reason="nobody is named")["code"] == "no_agent"
    assert fleet.cycle(LIARS)["agents"] == len(AGENTS) - len(LIARS)
    records = fleet.admin.get("/endpoint/audit", params={"action": "endpoint.quarantine"}).json()["records"]
    assert sorted(record["object_id"] for record in records) == LIARS


def test_there_is_nothing_to_explain_before_the_second_generation(fleet):
    refused = fleet.analyst.get("/endpoint/fleet/explain")
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_compare")
    fleet.cycle()
    fleet.cycle()
    unknown = fleet.analyst.get("/endpoint/fleet/explain", params={"key": "no:such"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_key")
