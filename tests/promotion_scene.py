"""A registry, a repository with one release, and agents that say what a test has them say; the clock is the test's."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa
from attacks.agent_place import Place, release

from eguard.bundle import MANIFEST_NAME, Manifest
from eguard.bundle.promotion import publish_models, read_served
from eguard.fleet.database import Database
from eguard.fleet.tables import audit_log, endpoint_event, ml_candidate, notification
from eguard.policy import canary_bucket
from eguard.server.principal import Principal, Role
from eguard.server.services.canary_watch import CanaryWatch
from eguard.server.services.candidate_files import CandidateFiles
from eguard.server.services.candidates import Build, Candidates
from eguard.server.services.endpoints import Endpoints
from eguard.server.services.promotions import Promotions
from eguard.server.services.rollouts import Step
from eguard.server.services.served_bundle import ServedBundle
from eguard.wire.control import Heartbeat, ShadowSummary

DAY = 86_400.0


def names(count, *, inside, percent=1.0, salt="default"):
    """Return the first agents' names inside or outside a cohort of the policy that everybody has."""
    found, number = [], 0
    while len(found) < count:
        name = f"agent-{number:05d}"
        if (canary_bucket(name, salt) < percent * 100) == inside:
            found.append(name)
        number += 1
    return found


def digest_of(files):
    return Manifest.from_bytes(files[MANIFEST_NAME]).digest


def id_of(files):
    return digest_of(files)[:16]


#: Of a night whose model is good enough.
GATES = ({"name": "recall", "value": 0.9, "rule": ">=", "threshold": 0.7, "passed": True},)


def leave_night(folder, run_id, files, changed=None, gates=GATES):
    """Leave what a successful night leaves; `changed` are files that were changed after its report."""
    artefacts = folder / "nights" / "runs" / run_id / "artefacts"
    for name, data in {**files, **(changed or {})}.items():
        path = artefacts / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    told = {f"bundle/{name}": hashlib.sha256(data).hexdigest() for name, data in files.items()}
    report = {"run_id": run_id, "status": "success", "artefacts": told, "offline_eval": {"gates": list(gates)}}
    (artefacts / "report.json").write_text(json.dumps(report))
    latest = folder / "nights" / "latest"
    latest.unlink(missing_ok=True)
    latest.symlink_to(artefacts.relative_to(folder / "nights"))


@dataclass
class Scene:
    """Everything that promotions touch."""

    folder: Path
    database: Database
    clock: object
    admin: Principal

    def __post_init__(self):
        self.place = Place(self.folder / "bundles")
        self.place.publish("one")
        self.candidates = Candidates(self.database, self.clock, CandidateFiles(self.folder / "candidates"))
        self.served = ServedBundle(self.place.directory, self.place.folder / "keys", self.clock)
        self.promotions = Promotions(self.database, self.clock, self.candidates, self.served)
        self.watch = CanaryWatch(
            self.database,
            self.clock,
            self.candidates,
            self.served,
            self.promotions,
            output_root=lambda: self.folder / "nights",
        )
        self.endpoints = Endpoints(self.database, self.clock)
        self.events = 0

    def pass_time(self, seconds):
        self.clock.advance_to(self.clock.now() + seconds)

    def register(self, files):
        return self.candidates.register(self.admin, Build(files, "nightly", "run", GATES))["candidate_id"]

    def promote(self, candidate_id, to=None, reason=""):
        step = Step(to, bool(reason), reason)
        return self.promotions.promote(self.admin, candidate_id, step)

    def roll_back(self, to=None, reason="it was wrong"):
        return self.promotions.roll_back(self.admin, to, reason)

    def look(self):
        return self.watch.look()

    def night(self, run_id, files, changed=None, gates=GATES):
        leave_night(self.folder, run_id, files, changed, gates)

    def beat(self, agent_id, files, *, refused=None, shadow=None, **facts):
        """Have an agent report the bundle that it runs, the one that it refused, and what its shadow said."""
        self.endpoints.heartbeat(
            Principal(agent_id, Role.AGENT),
            Heartbeat(
                agent_id=agent_id,
                incarnation="i",
                agent_version="1",
                baseline_status="active",
                bundle_version=Manifest.from_bytes(files[MANIFEST_NAME]).model_version,
                bundle_digest=digest_of(files),
                bundle_state="current",
                refused_digest=None if refused is None else digest_of(refused),
                refused_code=None if refused is None else "bundle_digest",
                shadow=shadow,
                **facts,
            ),
        )

    def beats(self, agent_ids, files, hours, **facts):
        """Have agents heard in every hour of a time, so that the server knows they were watched."""
        for _ in range(hours):
            for agent_id in agent_ids:
                self.beat(agent_id, files, **facts)
            self.pass_time(3600.0)
        for agent_id in agent_ids:
            self.beat(agent_id, files, **facts)

    def alert(self, agent_id, at, model="one", rule="r", key="sh:cron"):
        self.events += 1
        row = {
            "event_id": f"e{self.events}", "agent_id": agent_id, "observed_at": at, "received_at": at,
            "event_class": "process_exec", "process_key": key, "rule_id": rule, "severity": "medium",
            "model_version": model, "detail": {}, "search_text": "",
        }  # fmt: skip
        with self.database.write() as connection:
            connection.execute(sa.insert(endpoint_event).values(row))

    def row(self, candidate_id):
        with self.database.read() as connection:
            query = sa.select(ml_candidate).where(ml_candidate.c.candidate_id == candidate_id)
            return dict(connection.execute(query).mappings().one())

    def decided(self):
        """Return every decision on record: what, by whom, about which candidate."""
        with self.database.read() as connection:
            log = audit_log.c
            query = sa.select(log.action, log.principal, log.object_id, log.detail).order_by(log.sequence)
            return [row for row in connection.execute(query) if row.action.startswith("candidate.")]

    def messages(self):
        with self.database.read() as connection:
            return [(row.kind, row.severity, row.title) for row in connection.execute(sa.select(notification))]

    def offered(self):
        """Return the models that agents are offered: the stable one, the candidate's digest and its share."""
        served = read_served(self.place.directory)
        listing = served.listing
        return served.manifest.model_version, listing and (listing.manifest_sha256, listing.percent)

    def list_behind_the_registry(self, staged):
        publish_models(self.place.directory, self.place.folder / "keys", release("one"), staged)


def shadow(files, **changes):
    """Return what an agent says of a candidate that does as well as the model in use."""
    counts = {"scored": 1000, "active_flagged": 10, "shadow_flagged": 11, "only_shadow": 2, "only_active": 1}
    return ShadowSummary(digest=digest_of(files), **(counts | {"difference_sum": 20.0} | changes))
