"""Where generations come from: kept through imports, rollbacks, and rollbacks of rollbacks."""

import sqlalchemy as sa

from eguard.fleet.generations import origin_of
from eguard.fleet.tables import fleet_generation


def test_a_rollback_to_an_import_says_what_was_imported(store, fleet, row):
    fleet.upload_all("abc", row())
    store.aggregate()
    rows = store.fleet_rows()
    imported = store.import_rows(rows, "lab-7", source="workflow_bundle")
    assert {item["source"] for item in store.fleet_details()} == {"workflow_bundle"}
    assert {item["source_version"] for item in store.fleet_details()} == {"lab-7"}
    store.aggregate()
    once = store.rollback(imported)
    twice = store.rollback(once)
    wanted = {"generation": imported, "source": "workflow_bundle", "source_version": "lab-7"}
    with store.database.read() as connection:
        assert origin_of(connection, once) == origin_of(connection, twice) == origin_of(connection, imported) == wanted
        query = sa.select(fleet_generation.c.source, fleet_generation.c.source_version)
        history = connection.execute(query.order_by(fleet_generation.c.generation)).all()
    assert history == [
        ("aggregate", None),
        ("workflow_bundle", "lab-7"),
        ("aggregate", None),
        ("rollback", "2"),
        ("rollback", "4"),
    ]
    # The rows of the import are kept, and nothing is built on what was not aggregated.
    assert {item["source_version"] for item in store.fleet_details(imported)} == {"lab-7"}
    assert store.aggregate().full_because == "not_aggregated"
    assert store.aggregate().full_because is None
