"""The TUF client under the conformance suite's protocol, against a repository behind HTTP."""

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, Root
from tuf.api.serialization.json import JSONSerializer
from typer.testing import CliRunner

from eguard.bundle import Repository, generate_keys
from eguard.cli import bundle_client
from eguard.errors import (
    BundleDigestError,
    BundleError,
    BundleExpiredError,
    BundleRollbackError,
    BundleSignatureError,
)

FILES = {"rules.json": b"[1]", "models/a.json": b"model"}


class Site:
    """A repository, the server before it, and a client's folders."""

    def __init__(self, folder):
        self.folder = folder
        self.keys = generate_keys(folder / "keys")
        self.requests = []
        self.repository = Repository(folder / "repository", self.keys)
        self.repository.publish(FILES)
        site = self

        class Handler(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def log_request(self, *_):
                site.requests.append(self.path)

        handler = functools.partial(Handler, directory=str(self.repository.directory))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def arguments(self):
        metadata = ["--metadata-url", f"{self.url}/metadata", "--metadata-dir", str(self.folder / "trusted")]
        return [*metadata, "--target-base-url", f"{self.url}/targets", "--target-dir", str(self.folder / "targets")]

    def run(self, *command, name=""):
        self.requests.clear()
        answer = CliRunner().invoke(bundle_client.app, [*self.arguments, "--target-name", name, *map(str, command)])
        if answer.exception is not None and not isinstance(answer.exception, SystemExit):
            raise answer.exception
        assert answer.exit_code == 0, answer.output
        return answer

    def init(self):
        return self.run("init", self.repository.metadata_dir / "1.root.json")

    def version(self, role):
        return json.loads((self.folder / f"trusted/{role}.json").read_bytes())["signed"]["version"]


@pytest.fixture
def site(tmp_path):
    site = Site(tmp_path)
    yield site
    site.server.shutdown()
    site.thread.join()
    site.server.server_close()


def test_init_asks_nobody_and_refresh_brings_every_role(site):
    site.init()
    assert site.requests == []
    assert site.version("root") == 1
    site.run("refresh")
    roles = {path.stem for path in (site.folder / "trusted").glob("*.json")}
    assert roles == {"root", "timestamp", "snapshot", "targets"}
    assert site.version("timestamp") == 2
    assert [path.split("/")[-1] for path in site.requests] == [
        "2.root.json",
        "timestamp.json",
        "2.snapshot.json",
        "2.targets.json",
    ]


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_target_is_downloaded_once(site, name):
    site.init()
    answer = site.run("download", "--json", name=name)
    path = json.loads(answer.stdout)["file"]
    assert Path(path).read_bytes() == FILES[name]
    site.run("download", name=name)
    assert not [path for path in site.requests if path.startswith("/targets")]
    assert len(list((site.folder / "targets").iterdir())) == 1


def test_a_changed_target_replaces_its_file(site):
    site.init()
    site.run("download", name="rules.json")
    site.repository.publish({**FILES, "rules.json": b"[2]"})
    site.run("download", name="rules.json")
    assert [path.read_bytes() for path in (site.folder / "targets").iterdir()] == [b"[2]"]


def test_roots_are_followed_one_by_one(site):
    site.init()
    site.run("refresh")
    old = site.keys["root"]
    root = Metadata[Root].from_file(str(site.repository.metadata_dir / "1.root.json"))
    new = CryptoSigner.generate_ed25519()
    for version, signers in ((2, [old[0], old[1]]), (3, [old[1], new])):
        root.signed.version = version
        if version == 2:
            root.signed.revoke_key(old[0].public_key.keyid, "root")
            root.signed.add_key(new.public_key, "root")
        root.signatures.clear()
        for signer in [*signers, new]:
            root.sign(signer, append=True)
        (site.repository.metadata_dir / f"{version}.root.json").write_bytes(root.to_bytes(JSONSerializer()))
    site.run("refresh")
    assert site.version("root") == 3


def sign_root_alone(site):
    root = Metadata[Root].from_file(str(site.repository.metadata_dir / "1.root.json"))
    root.signed.version = 2
    root.signatures.clear()
    root.sign(site.keys["root"][0])
    (site.repository.metadata_dir / "2.root.json").write_bytes(root.to_bytes(JSONSerializer()))


def go_back(site):
    old = site.folder / "old"
    shutil.copytree(site.repository.metadata_dir, old)
    site.repository.refresh()
    site.run("refresh")
    shutil.copy(old / "timestamp.json", site.repository.metadata_dir)


def let_expire(site):
    past = datetime.now(UTC) - timedelta(days=30)
    Repository(site.repository.directory, site.keys, now=past).refresh()


def flip(site):
    (path,) = site.repository.targets_dir.glob("*.rules.json")
    path.write_bytes(b"[9]")


def garble(site):
    (site.repository.metadata_dir / "timestamp.json").write_bytes(b"{")


REFUSALS = {
    "root-by-one-key": (sign_root_alone, "refresh", BundleSignatureError),
    "rollback": (go_back, "refresh", BundleRollbackError),
    "expired": (let_expire, "refresh", BundleExpiredError),
    "flipped": (flip, "download", BundleDigestError),
    "garbled": (garble, "refresh", BundleSignatureError),
}


@pytest.mark.parametrize("kind", sorted(REFUSALS))
def test_refused_and_nothing_is_left_that_was(site, kind):
    act, command, error = REFUSALS[kind]
    site.init()
    site.run("refresh")
    act(site)
    before = {path.name: path.read_bytes() for path in (site.folder / "trusted").glob("t*.json")}
    with pytest.raises(error):
        site.run(command, name="rules.json")
    if kind != "expired":  # the specification keeps an expired timestamp, and uses nothing below it
        assert {path.name: path.read_bytes() for path in (site.folder / "trusted").glob("t*.json")} == before
    assert not list(site.folder.glob("targets/*"))


def test_a_root_put_into_the_folder_is_not_trusted_for_being_there(site, tmp_path):
    site.init()
    strangers = Repository(tmp_path / "strangers", generate_keys(tmp_path / "other-keys"))
    strangers.publish(FILES)
    shutil.copy(strangers.metadata_dir / "1.root.json", site.folder / "trusted/root.json")
    shutil.rmtree(site.repository.metadata_dir)
    shutil.copytree(strangers.metadata_dir, site.repository.metadata_dir)
    with pytest.raises(BundleSignatureError):
        site.run("refresh")


def test_a_target_that_is_not_listed_and_a_server_that_is_gone_are_told(site):
    with pytest.raises(BundleError, match="was not initialised"):
        site.run("refresh")
    site.init()
    with pytest.raises(BundleError, match="lists no target"):
        site.run("download", name="none.json")
    site.url = "http://127.0.0.1:9"
    with pytest.raises(BundleError, match="cannot be read"):
        site.run("refresh")


def test_refusals_end_with_status_one(site):
    command = [sys.executable, "-c", "from eguard.cli.app import main; main()", "bundle", "client", *site.arguments]
    answer = subprocess.run([*command, "refresh"], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "was not initialised" in answer.stderr
    assert "init ROOT" in answer.stderr
