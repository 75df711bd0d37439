"""What docs/how-to/database.md tells an administrator to do is enough, and what it promises of TLS is so."""

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
import trustme

from eguard.errors import FleetStoreError
from eguard.fleet import FleetStore
from eguard.fleet.database import Database
from eguard.settings.server import ServerSettings
from eguard.wire import BaselineRow

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "database.md").read_text()
PASSWORD = "canary:p@ss/%word"
QUOTED = "canary%3Ap%40ss%2F%25word"


@pytest.fixture
def account(mariadb):
    """Run the page's statements, for a database and an account of other names."""
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE, flags=re.DOTALL)
    assert block.count("'192.0.2.%'") == 2
    block = block.replace("'eguard'@'192.0.2.%'", "'by_the_page'@'127.0.0.1'").replace("'PASSWORD'", f"'{PASSWORD}'")
    block = block.replace("DATABASE eguard", "DATABASE by_the_page").replace("eguard.*", "by_the_page.*")
    mariadb.execute(*[statement for statement in block.split(";") if statement.strip()])
    yield mariadb.url("by_the_page", user="by_the_page", password=QUOTED)
    mariadb.execute("DROP DATABASE by_the_page", "DROP USER 'by_the_page'@'127.0.0.1'")


def test_the_pages_account_may_do_all_that_a_server_does(account):
    from eguard.fleet import migrations

    row = BaselineRow(
        process_key="bash:sshd",
        event_distribution={"alert": 1.0},
        sample_count=50,
        entropy_threshold=2.0,
        learned_at_unix=0.0,
        seq=1,
    )
    with FleetStore.create(account) as store:
        for agent in "abc":
            store.upsert_baselines(agent, "first", [row])
        assert store.aggregate().aggregated == 1
        assert store.rollback(1) == 2
        store.remove_agent("a")
        assert store.purge_expired(at=1e12 / 100) == 2
        with store.database.write() as connection:
            migrations.downgrade(connection, "base")


def test_the_settings_of_the_page_exist():
    named = set(re.findall(r"EGUARD_([A-Z_]+)", PAGE))
    assert named
    assert named <= {name.upper() for name in ServerSettings.model_fields}


def test_an_authority_in_the_url_has_the_connection_encrypted_and_the_server_checked(mariadb, mariadb_url, tmp_path):
    def cipher(url):
        database = Database(url)
        try:
            with database.read() as connection:
                return connection.execute(sa.text("show status like 'Ssl_cipher'")).one()[1]
        finally:
            database.dispose()

    assert cipher(mariadb_url) != ""  # encrypted where the server can, but it might be anybody
    assert cipher(f"{mariadb_url}?ssl_ca={mariadb.folder}/ca.pem") != ""
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    with pytest.raises(FleetStoreError, match="certificate verify failed") as caught:
        cipher(f"{mariadb_url}?ssl_ca={tmp_path}/other.pem")
    assert caught.value.context["reason"] == "database_unavailable"
    with pytest.raises(FleetStoreError, match=r"[Hh]ostname|[Hh]ost name|IP address"):
        cipher(f"{mariadb_url}?ssl_ca={mariadb.folder}/ca.pem".replace("127.0.0.1", "localhost"))
