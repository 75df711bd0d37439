"""A MariaDB server of one's own for tests: free port, own folder, gone at the end.

`tests/conftest.py` makes the fixtures from it: `mariadb` (the server, once a test process), `mariadb_url` (an empty
database), `database_url` (a test runs once on SQLite and once on MariaDB), and `migrated_mariadb_url` and
`migrated_database_url`, where the tables are there already, which is quicker.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import time
from itertools import count
from pathlib import Path

import pymysql
import pytest
import trustme

PASSWORD = "canary-of-the-database"
START_SECONDS = 60.0
PR_SET_PDEATHSIG = 1

OPTIONS = (
    "--bind-address=127.0.0.1",
    "--skip-name-resolve",
    "--skip-log-bin",
    "--innodb-buffer-pool-size=48M",
    "--innodb-log-file-size=16M",
    "--max-connections=200",
    # Every commit is written to the system before it is answered, so kill -9 loses none; only a power cut would.
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-flush-method=nosync",
)


def whats_missing():
    """Return the reason why no server can be started here, empty if one can."""
    missing = [name for name in ("mariadbd", "mariadb-install-db") if shutil.which(name, path=search_path()) is None]
    return f"{' and '.join(missing)} not found: apt-get install mariadb-server" if missing else ""


def search_path():
    """Return where programs are looked for: the server is in a folder that not every user's PATH has."""
    return os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))


def require():
    """Skip the test where there is no server to start, or fail it where there has to be one."""
    missing = whats_missing()
    if missing and any(os.environ.get(name) == "1" for name in ("CI", "EGUARD_REQUIRE_MARIADB")):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


class MariadbServer:
    """A server process, its folder, and databases on it."""

    def __init__(self, folder):
        self.folder = Path(folder)
        self.data = self.folder / "data"
        # Two servers with one folder for scratch files remove each other's as they start.
        self.scratch = self.folder / "scratch"
        self.log = self.folder / "server.log"
        self.port = 0
        self.process = None
        self._names = count(1)
        self._clean = []

    def install(self):
        """Make the folder of an empty server."""
        self.scratch.mkdir()
        command = [
            shutil.which("mariadb-install-db", path=search_path()),
            "--no-defaults",
            f"--datadir={self.data}",
            f"--tmpdir={self.scratch}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            *self._user(),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        self.certify()
        (self.folder / "accounts.sql").write_text(
            f"CREATE USER IF NOT EXISTS eguard@'127.0.0.1' IDENTIFIED BY '{PASSWORD}';\n"
            "GRANT ALL ON *.* TO eguard@'127.0.0.1' WITH GRANT OPTION;\n"
        )

    def certify(self):
        """Give the server a certificate for its address; `ca.pem` is the authority's."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(self.folder / "ca.pem")
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_pem.write_to_path(self.folder / "key.pem")
        certificate.cert_chain_pems[0].write_to_path(self.folder / "cert.pem")

    def start(self):
        """Start the server, on the port that it had before if it had one, and wait until it answers."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            self.port = self.port or free_port()
            command = [
                shutil.which("mariadbd", path=search_path()),
                "--no-defaults",
                f"--datadir={self.data}",
                f"--tmpdir={self.scratch}",
                f"--socket={self.folder}/s",
                f"--pid-file={self.folder}/pid",
                f"--port={self.port}",
                f"--init-file={self.folder}/accounts.sql",
                f"--ssl-ca={self.folder}/ca.pem",
                f"--ssl-cert={self.folder}/cert.pem",
                f"--ssl-key={self.folder}/key.pem",
                *OPTIONS,
                *self._user(),
            ]
            with self.log.open("ab") as log:
                self.process = subprocess.Popen(command, stdout=log, stderr=log, preexec_fn=die_with_parent)  # noqa: PLW1509 - one system call
            if self._answers(deadline):
                return
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]

    def kill(self):
        """End the server as a power cut of its process does."""
        self.process.kill()
        self.process.wait()

    def stop(self):
        """End the server, and for good."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
            return
        self.kill()

    def create_database(self):
        """Make an empty database and return its name."""
        name = f"eguard_{next(self._names)}"
        # As little as an administrator may have said: what matters is up to eGuard's own tables.
        self.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
        return name

    def drop_database(self, name):
        """Remove a database with all that is in it."""
        self.execute(f"DROP DATABASE IF EXISTS {name}")

    @contextlib.contextmanager
    def migrated_database(self):
        """Lend out a database with eGuard's tables as a migration leaves them, and clean it for the next one."""
        name, pristine = self._clean.pop() if self._clean else self._migrate()
        yield name
        with contextlib.closing(self.connect(name)) as connection, connection.cursor() as cursor:
            cursor.execute("SET foreign_key_checks = 0")
            cursor.execute("BEGIN")
            for table, rows in pristine.items():
                cursor.execute(f"DELETE FROM `{table}`")
                for row in rows:
                    cursor.execute(f"INSERT INTO `{table}` VALUES ({', '.join(['%s'] * len(row))})", row)
            cursor.execute("COMMIT")
        self._clean.append((name, pristine))

    def _migrate(self):
        from eguard.fleet import FleetStore

        name = self.create_database()
        FleetStore.create(self.url(name)).close()
        tables = [table for (table,) in self.execute("SHOW TABLES", database=name)]
        return name, {table: self.execute(f"SELECT * FROM `{table}`", database=name) for table in tables}

    def url(self, name, user="eguard", password=PASSWORD):
        """Return the URL of a database."""
        return f"mysql://{user}:{password}@127.0.0.1:{self.port}/{name}"

    def execute(self, *statements, database=None):
        """Run statements as an administrator and return the rows of the last one."""
        with contextlib.closing(self.connect(database)) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
            return cursor.fetchall()

    def connect(self, database=None):
        """Return a connection as an administrator that commits each statement."""
        return pymysql.connect(
            host="127.0.0.1",
            port=self.port,
            user="eguard",
            password=PASSWORD,
            database=database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=5,
        )

    def _answers(self, deadline):
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                # Somebody else may have taken the port in the meantime: try another one, if we may choose.
                self.port = 0 if "Bind on TCP/IP port" in self.log.read_text() else self.port
                return False
            try:
                self.connect().close()
            except pymysql.err.OperationalError:
                time.sleep(0.05)
            else:
                return True
        return False

    @staticmethod
    def _user():
        return ["--user=root"] if os.geteuid() == 0 else []


def free_port():
    """Return a port that the kernel chose."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def die_with_parent():
    """Have the kernel kill this process when the thread that started it ends, as when the tests are killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
