"""The statements of docs/reference/sql-checks.md, taken from the page and run on both databases."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.evidence.pack.rows import collect_rows
from eguard.evidence.pack.writer import PackWriter
from eguard.evidence.redaction import Redactor
from eguard.evidence.tables import load_table
from eguard.fleet import FleetStore
from eguard.fleet.database import Database
from eguard.fleet.tables import endpoint_agent, endpoint_inventory, fleet_baseline, policy_assignment
from eguard.wire import BaselineRow

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "sql-checks.md"
NOW = 1_772_000_000.0

#: Section 12.4 of the operations manual, as printed.
MANUAL = """\
SELECT COUNT(*) FROM endpoint_baseline;
SELECT COUNT(*) FROM fleet_baseline;
SELECT process_key, agent_count, computed_at FROM fleet_baseline ORDER BY computed_at DESC;
SELECT agent_id, os_version, collected_at FROM endpoint_inventory ORDER BY collected_at DESC LIMIT 20;
"""


def sections():
    """Return the page's SQL by heading: a list of blocks each."""
    parts = re.split(r"^## (.+)$", PAGE.read_text(), flags=re.MULTILINE)[1:]
    return {
        heading: re.findall(r"^```sql\n(.*?)^```$", body, flags=re.MULTILINE | re.DOTALL)
        for heading, body in zip(parts[::2], parts[1::2], strict=True)
    }


def statements(block):
    return [statement for statement in block.split(";\n") if statement.strip()]


@pytest.fixture
def database(migrated_database_url):
    """Three agents that uploaded and one generation; one of them in a canary by name, two by group."""
    row = BaselineRow(
        process_key="bash:sshd",
        event_distribution={"process_exec": 1.0},
        sample_count=100,
        entropy_threshold=3.0,
        learned_at_unix=NOW,
        seq=1,
    )
    with FleetStore(migrated_database_url, SimulatedClock(NOW)) as store:
        for number, agent in enumerate("abc"):
            store.upsert_baselines(agent, "first", [row], at=NOW - 7200 * number)
        store.aggregate()
    made = Database(migrated_database_url)
    with made.write() as connection:
        connection.execute(sa.update(endpoint_agent).values(group="pilot", policy_revision=6))
        connection.execute(
            sa.insert(endpoint_inventory),
            [inventory(agent, NOW + number) for number, agent in enumerate("abc")],
        )
        for scope, scope_id in (("agent", "a"), ("group", "pilot"), ("group", "nobody")):
            connection.execute(
                sa.insert(policy_assignment).values(
                    scope=scope,
                    scope_id=scope_id,
                    policy_id="mlops-rollout",
                    policy_version="v1",
                    revision=7,
                    assigned_by="x",
                    assigned_at=NOW,
                )
            )
    yield made
    made.dispose()


def inventory(agent, at, **changes):
    return {
        "agent_id": agent,
        "hostname": agent,
        "os_type": "linux",
        "os_version": "Debian 12",
        "kernel_version": "6.1",
        "architecture": "x86_64",
        "ip_address": "192.0.2.1",
        "mac_address": "",
        "cpu_count": 2,
        "memory_bytes": 1,
        "agent_version": "1",
        "sensor": "ebpf",
        "collected_at": at,
        **changes,
    }


def ask(database, statement):
    with database.read() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(statement).all()]


def block(heading, number=0):
    (found,) = [blocks for name, blocks in sections().items() if name.startswith(heading)]
    return found[number]


def test_the_minimal_set_is_the_manuals():
    assert block("The minimal set") == MANUAL


def test_the_page_has_all_five_checks():
    headings = [heading for heading in sections() if heading[0].isdigit()]
    assert [heading[0] for heading in headings] == ["1", "2", "3", "4", "5"]
    assert all(sections()[heading] for heading in headings)


def test_every_statement_of_the_page_runs(database):
    asked = [statement for blocks in sections().values() for one in blocks for statement in statements(one)]
    assert len(asked) == 11
    for statement in asked:
        ask(database, statement)


def test_the_minimal_set_counts_and_shows(database):
    answers = [ask(database, statement) for statement in statements(MANUAL)]
    assert answers[:2] == [[(3,)], [(1,)]]
    assert [row[:2] for row in answers[2]] == [("bash:sshd", 3)]
    assert str(answers[2][0][2]).startswith("2026-02-25 06:13:20")
    assert [row[:2] for row in answers[3]] == [("c", "Debian 12"), ("b", "Debian 12"), ("a", "Debian 12")]


def test_growth_is_seen_by_total_and_by_hour(database):
    ((rows, agents, latest),) = ask(database, block("1."))
    assert (rows, agents) == (3, 3)
    assert str(latest).startswith("2026-02-25 06:13:20")
    hours = ask(database, block("1.", 1))
    assert hours == [("2026-02-25 06", 1, 1), ("2026-02-25 04", 1, 1), ("2026-02-25 02", 1, 1)]


def test_a_generation_that_lacks_rows_is_seen(database):
    ((generation, _, source, keys, present),) = ask(database, block("2."))
    assert (generation, source, keys, present) == (1, "aggregate", 1, 1)
    with database.write() as connection:
        connection.execute(sa.delete(fleet_baseline))
    ((*_, keys, present),) = ask(database, block("2."))
    assert (keys, present) == (1, 0)


def test_a_key_below_its_cohort_is_seen(database):
    assert ask(database, block("3.")) == []
    with database.write() as connection:
        connection.execute(sa.update(fleet_baseline).values(agent_count=2))
    assert [row[:2] for row in ask(database, block("3."))] == [("bash:sshd", 2)]


def test_an_active_agent_without_its_fields_is_seen(database):
    assert len(ask(database, block("4."))) == 3
    assert ask(database, block("4.", 1)) == []
    with database.write() as connection:
        connection.execute(sa.update(endpoint_inventory).where(endpoint_inventory.c.agent_id == "a").values(os_type=""))
        connection.execute(sa.delete(endpoint_inventory).where(endpoint_inventory.c.agent_id != "a"))
        connection.execute(
            sa.update(endpoint_agent).where(endpoint_agent.c.agent_id == "c").values(status="quarantined")
        )
    assert [row[0] for row in ask(database, block("4.", 1))] == ["a", "b"]


def test_assignments_are_seen_by_name_and_by_group(database):
    rows = ask(database, block("5."))
    assert [(row[0], row[1], row[2], row[4], row[5]) for row in rows] == [
        ("a", "agent", "mlops-rollout", 7, 6),
        ("a", "group", "mlops-rollout", 7, 6),
        ("b", "group", "mlops-rollout", 7, 6),
        ("c", "group", "mlops-rollout", 7, 6),
    ]


def test_an_evidence_pack_asks_the_manuals_statements_and_every_one_of_the_page():
    packed = [row["statement"].strip() for row in load_table("sql_statements")]
    assert [f"{statement};" for statement in packed[:4]] == MANUAL.splitlines()
    page = [statement.strip() for blocks in sections().values() for one in blocks for statement in statements(one)]
    assert packed == [statement.rstrip(";") for statement in page]


def test_an_evidence_pack_has_the_statements_and_the_history_of_policies(database, tmp_path):
    with PackWriter(tmp_path / "pack", Redactor()) as pack:
        collect_rows(pack, database)
        assert {name: section.missing for name, section in pack.sections.items()} == {"sql": [], "policy": []}
        assert (pack.sections["sql"].files, pack.sections["policy"].files) == (11, 4)
