"""Rows of a fleet and answers of commands for drills, as they are where everything is well."""

import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import EvidenceError
from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.evidence.readiness.drills import run_drill
from eguard.evidence.redaction import Redactor

NOW = 1_772_000_000.0
STAGES = ((0, 1), (1, 5), (5, 20), (20, 100))


class Scripted(Course):
    """A course whose commands answer what the test says: by the command's first words, each answer a value or error."""

    def __init__(self, drill, answers, database=None):
        super().__init__(drill, Redactor(), SimulatedClock(NOW), database=database)
        self.answers = answers
        self.asked = []

    def run(self, *arguments, **_named):
        self.asked.append(" ".join(arguments))
        for words, answer in self.answers.items():
            if self.asked[-1].startswith(words):
                if isinstance(answer, EvidenceError):
                    raise answer
                return answer
        raise EvidenceError(f"nobody answers {self.asked[-1]}")


def insert(database, table, *rows):
    with database.write() as connection:
        connection.execute(sa.insert(table), list(rows))


def run(drill, answers, database=None, **options):
    course = Scripted(drill, answers, database)
    return run_drill(course, DrillOptions(wait_seconds=0.0, **options)), course


def missed(record):
    return [check["name"] for check in record["checks"] if not check["passed"]]


def agent(name, **changes):
    return {
        "agent_id": name,
        "incarnation": "i",
        "incarnation_ordinal": 1,
        "group": "default",
        "status": "active",
        "enrolled_at": NOW - 9e5,
        "last_heartbeat": NOW - 10,
        "last_seed_at": NOW - 600,
        "bundle_version": "m1",
        **changes,
    }


def machine(name, **changes):
    texts = ("hostname", "os_type", "os_version", "kernel_version", "architecture", "ip_address", "agent_version")
    return {
        "agent_id": name,
        **dict.fromkeys(texts, "x"),
        "mac_address": "",
        "cpu_count": 1,
        "memory_bytes": 1,
        "sensor": "ebpf",
        "collected_at": NOW - 60,
        **changes,
    }


def baseline(name, **changes):
    return {
        "agent_id": name,
        "process_key": "bash:sshd",
        "event_distribution": {"process_exec": 1.0},
        "distribution_vector": bytes(32),
        "sample_count": 10,
        "entropy_threshold": 1.0,
        "learned_at": NOW - 700,
        "prior_generation": 4,
        "key_shard": 0,
        "updated_at": NOW - 300,
        "expires_at": NOW + 9e6,
        "incarnation": "i",
        "incarnation_ordinal": 1,
        "seq": 1,
        **changes,
    }
