"""Bundles over the agent's own channel: refused as from a folder, and no reason to lose the one in use."""

import pytest
from attacks.agent_place import Place

from eguard.agent.bundles import BundleKeeper
from eguard.agent.control.bundle_fetcher import ControlFetcher
from eguard.agent.control.client import ControlClient
from eguard.errors import BundleError, BundleRollbackError, ConfigError


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path / "place")
    made.folder.mkdir()
    made.publish("one")
    return made


@pytest.fixture
def keeper(server, tls_files, place):
    """Make keepers that read the repository through the server."""
    clients = []

    def serve(request):
        path = place.directory / request.path.removeprefix("/bundles/")
        return path.read_bytes() if path.is_file() else (404, b"")

    server.answers = _Everything(serve)

    def make(root=None):
        clients.append(ControlClient(server.url, tls_files))
        fetcher = ControlFetcher(clients[-1])
        first = (place.directory / "metadata" / "1.root.json").read_bytes() if root is None else root
        return BundleKeeper(
            place.state, fetcher.address, first or None, fetcher=fetcher,
            max_load_memory_bytes=256 << 20, max_load_seconds=30.0,
        )  # fmt: skip

    yield make
    for client in clients:
        client.close()


class _Everything(dict):
    """One answer for every path below /bundles."""

    def __init__(self, answer):
        self.answer = answer

    def get(self, path, default=None):
        return self.answer if path.startswith("/bundles/") else default


def test_a_bundle_comes_over_the_channel_and_the_next_one_too(keeper, place, server):
    ours = keeper()
    assert ours.check().manifest.model_version == "one"
    assert ours.check() is None
    place.publish("two")
    assert ours.check().manifest.model_version == "two"
    assert {seen.certificate for requests in server.seen.values() for seen in requests} == {"h"}
    assert keeper().last_good().manifest.model_version == "two"


def test_what_is_damaged_on_the_way_is_refused_and_the_last_bundle_stays(keeper, place, server):
    ours = keeper()
    ours.check()
    place.publish("two")
    honest = server.answers.answer

    def damage(request):
        answer = honest(request)
        return answer[:-10] + b"xxxxxxxxxx" if isinstance(answer, bytes) and "/targets/" in request.path else answer

    server.answers = _Everything(damage)
    with pytest.raises(BundleError):
        ours.check()
    assert ours.status().model_version == "one"
    server.answers = _Everything(honest)
    assert ours.check().manifest.model_version == "two"


def test_older_metadata_is_a_rollback_over_the_channel_too(keeper, place, server, tmp_path):
    import shutil

    shutil.copytree(place.directory, tmp_path / "old")
    ours = keeper()
    place.publish("two")
    ours.check()
    shutil.rmtree(place.directory)
    shutil.copytree(tmp_path / "old", place.directory)
    with pytest.raises(BundleRollbackError):
        ours.check()


@pytest.mark.parametrize("answer", [(500, b""), (403, b""), (200, b"<html>"), (200, b"x" * 2_000_000)])
def test_a_server_in_trouble_is_no_reason_to_lose_a_bundle(answer, keeper, server):
    ours = keeper()
    ours.check()
    server.answers = _Everything(lambda _: answer)
    with pytest.raises(BundleError):
        ours.check()
    assert ours.status().model_version == "one"


def test_nothing_is_trusted_on_first_use_over_the_network(keeper):
    with pytest.raises(ConfigError, match="trusted root"):
        keeper(root=b"")


def test_another_repositorys_root_is_refused(keeper, tmp_path):
    other = Place(tmp_path / "other")
    other.folder.mkdir()
    other.publish("one")
    with pytest.raises(BundleError):
        keeper(root=(other.directory / "metadata" / "1.root.json").read_bytes()).check()


def test_addresses_outside_the_repository_are_not_asked(server, tls_files):
    client = ControlClient(server.url, tls_files)
    fetcher = ControlFetcher(client)
    for url in ("https://elsewhere.example/api/v1/bundles/metadata/x", f"{server.url}/api/v1/endpoint/policy"):
        with pytest.raises(Exception, match="not in the server's repository"):
            fetcher.download_bytes(url, 100)
    client.close()
    assert not server.order
