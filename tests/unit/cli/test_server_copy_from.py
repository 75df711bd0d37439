"""`eguard server copy-from`: an embedded database moves to a server."""

import json

import pytest
from typer.testing import CliRunner

from eguard.cli.app import app
from eguard.fleet import FleetStore
from eguard.wire import BaselineRow


@pytest.fixture
def embedded(tmp_path):
    path = tmp_path / "fleet.sqlite"
    row = BaselineRow(
        process_key="bash:sshd",
        event_distribution={"alert": 1.0},
        sample_count=50,
        entropy_threshold=2.0,
        learned_at_unix=0.0,
        seq=1,
    )
    with FleetStore.create(f"sqlite:///{path}") as store:
        for agent in "abc":
            store.upsert_baselines(agent, "first", [row])
        store.aggregate()
    return path


def test_the_fleet_is_on_the_server_afterwards(embedded, mariadb_url, monkeypatch):
    monkeypatch.setenv("EGUARD_DATABASE_URL", mariadb_url)
    result = CliRunner().invoke(app, ["server", "copy-from", str(embedded), "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["endpoint_baseline"], facts["fleet_baseline"]) == (3, 1)
    assert "canary" not in result.output
    with FleetStore(mariadb_url) as store:
        assert [row.process_key for row in store.fleet_rows()] == ["bash:sshd"]


def test_a_database_in_use_is_refused(embedded, tmp_path, monkeypatch):
    monkeypatch.setenv("EGUARD_DATABASE_URL", f"sqlite:///{embedded}")
    result = CliRunner().invoke(app, ["server", "copy-from", str(embedded)])
    assert result.exit_code != 0
    assert "in use" in str(result.exception)
