"""The fleet's database of drills."""

import shutil

import pytest

from eguard.fleet.database import Database


@pytest.fixture
def database(tmp_path, migrated_sqlite):
    made = Database(f"sqlite:///{shutil.copy(migrated_sqlite, tmp_path / 'fleet.db')}")
    yield made
    made.dispose()
