"""Two hundred agents under one policy, for tests of rollouts: what they leave in the database is rows in the tables."""

import pytest
import sqlalchemy as sa

from eguard.errors import ServerRefusalError
from eguard.fleet.ingest import EXPIRY_SECONDS
from eguard.fleet.tables import (
    alert_feedback,
    audit_log,
    endpoint_agent,
    endpoint_baseline,
    endpoint_event,
)
from eguard.policy import canary_bucket, parse_policy_document
from eguard.server.services.policies import Target
from eguard.server.services.policy_writes import Assigned
from eguard.server.services.rollouts import Step

POLICY = "mlops-rollout"
#: Every tenth of two thousand in the order of their buckets: each stage has somebody.
AGENTS = sorted((f"agent-{index:04d}" for index in range(2000)), key=lambda name: canary_bucket(name, POLICY))[::10]
HALF_AN_HOUR = 1800.0
DAYS = 86_400.0


class RolloutFleet:
    """Two hundred agents of the group web, sorted by bucket, and what they leave in the database."""

    def __init__(self, database, clock, services, ada):
        self.database, self.clock, self.services, self.ada = database, clock, services, ada
        self.policies, self.rollouts = services.policies, services.rollouts
        begun = clock.now() - 30 * DAYS
        self._insert(
            endpoint_agent,
            [
                {"agent_id": name, "incarnation": "i", "incarnation_ordinal": 1, "group": "web", "status": "active"}
                | {"enrolled_at": begun, "last_heartbeat": begun, "cpu_fraction": 0.004, "rss_bytes": 150 << 20}
                for name in AGENTS
            ],
        )
        self.events = 0

    def _insert(self, table, rows):
        with self.database.write() as connection:
            connection.execute(sa.insert(table), rows)

    def post(self, percent, **fields):
        shares = {"baseline_upload_canary_percent": percent, "fleet_seed_canary_percent": percent}
        document = parse_policy_document(
            {"baseline_upload_enabled": True, "fleet_seed_enabled": True} | shares | fields
        )
        stored, _ = self.policies.create(self.ada, POLICY, "v1", document)
        self.policies.assign(self.ada, Target("group", "web"), Assigned(POLICY))
        return stored

    def pass_time(self, seconds, *, heard=AGENTS, **report):
        """Let time pass; those that are `heard` send heartbeats at its end."""
        self.clock.advance_to(self.clock.now() + seconds)
        with self.database.write() as connection:
            wanted = endpoint_agent.c.agent_id.in_(list(heard))
            connection.execute(
                sa.update(endpoint_agent).where(wanted).values(last_heartbeat=self.clock.now(), **report)
            )

    def upload(self, *names, prior_generation=None):
        now = self.clock.now()
        row = {"process_key": "bash:sshd", "event_distribution": {}, "distribution_vector": b"\0" * 32}
        row |= {"sample_count": 1, "entropy_threshold": 1.0, "learned_at": now, "key_shard": 0, "seq": 1}
        row |= {"incarnation": "i", "incarnation_ordinal": 1, "prior_generation": prior_generation}
        row |= {"updated_at": now, "expires_at": now + EXPIRY_SECONDS}
        with self.database.write() as connection:
            wanted = endpoint_baseline.c.agent_id.in_(names)
            connection.execute(sa.delete(endpoint_baseline).where(wanted))
            connection.execute(sa.insert(endpoint_baseline), [row | {"agent_id": name} for name in names])

    def alert(self, name, *verdicts, at=None, suppressed_by=None):
        self.events += 1
        event_id = f"event-{self.events}"
        now = self.clock.now() if at is None else at
        row = {"event_id": event_id, "agent_id": name, "observed_at": now, "received_at": now, "detail": {}}
        row |= {"event_class": "process_exec", "process_key": "k:k", "rule_id": "r", "severity": "high"}
        self._insert(endpoint_event, [row | {"search_text": "", "suppressed_by": suppressed_by}])
        for number, verdict in enumerate(verdicts):
            said = {"feedback_id": f"{event_id}-{number}", "event_id": event_id, "verdict": verdict}
            self._insert(alert_feedback, [said | {"analyst": "bob", "note": "", "created_at": now + number}])

    def stage(self):
        return self.rollouts.status(POLICY)["rollouts"][0]

    def check(self, name):
        return next(check for check in self.stage()["checks"] if check["name"] == name)

    def advance(self, **step):
        return self.rollouts.advance(self.ada, POLICY, Step(**step))

    def actions(self):
        with self.database.read() as connection:
            return list(connection.execute(sa.select(audit_log.c.action).order_by(audit_log.c.sequence)).scalars())

    def allowed(self):
        found = [self.policies.controls_for(name) for name in AGENTS]
        return sum(each.upload_enabled and each.upload_in_canary for each in found)


def refusal(call, *arguments, **named):
    with pytest.raises(ServerRefusalError) as refused:
        call(*arguments, **named)
    return refused.value.reason, [code for code, _ in refused.value.errors]
