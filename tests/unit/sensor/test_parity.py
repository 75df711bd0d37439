import json
import os
import socket
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from typer.testing import CliRunner

from eguard.bundle.keys import generate_keys
from eguard.cli.app import app
from eguard.events import Event, EventClass
from eguard.sensor.dns_message import parse_question
from eguard.sensor.ground_truth import DNS_ADDRESS, Deed, Settings, perform, question
from eguard.sensor.parity import compare
from eguard.wire import canonical_json


def _can_perform():
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return False
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
            sink.bind((DNS_ADDRESS, 53))
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


@pytest.fixture
def _loopback():
    # Looked at by the test and not on import: processes that collect the tests at the same time would find the port
    # taken by each other.
    if not _can_perform():
        pytest.skip("needs root, port 53 on loopback and IPv6")


needs_root = pytest.mark.usefixtures("_loopback")
# Both perform on the same loopback address.
pytestmark = pytest.mark.xdist_group("parity")


def _seen(event_class, comm="ls", parent_comm="sh", **columns):
    return Event(time_unix=0.0, host_id="", event_class=event_class, comm=comm, parent_comm=parent_comm, **columns)


def test_each_deed_takes_one_event_and_wrong_names_cost_accuracy_alone():
    done = [Deed("network_connect", "::1 80", "ls", "sh")] * 3 + [Deed("dns_query", "a.test", "ls", "sh")]
    seen = [
        _seen(EventClass.NETWORK_CONNECT, destination_address="::1", destination_port=80),
        _seen(EventClass.NETWORK_CONNECT, comm="cat", destination_address="::1", destination_port=80),
        _seen(EventClass.NETWORK_CONNECT, destination_address="::1", destination_port=81),
        *[_seen(EventClass.DNS_QUERY, target="a.test")] * 5,
        _seen(-1, target="a.test"),
    ]
    result = compare(done, seen)
    assert result["network_connect"] == {"done": 3, "seen": 2, "recall": 2 / 3, "key_accuracy": 0.5}
    assert result["dns_query"] == {"done": 1, "seen": 1, "recall": 1.0, "key_accuracy": 1.0}
    assert result["file_open"] == {"done": 0, "seen": 0, "recall": None, "key_accuracy": None}


def test_the_script_asks_what_it_says():
    assert parse_question(question("q7.parity.test")) == "q7.parity.test"


@needs_root
def test_the_script_does_as_much_as_it_is_told_to():
    deeds = perform(Settings(execs=23, connects=7, writes=6, queries=5, datagrams=9, per_second=2000))
    count = {name: sum(deed.kind == name for deed in deeds) for name in {deed.kind for deed in deeds}}
    assert count == {
        "process_exec": 23,
        "network_connect": 7,
        "file_open": 6,
        "dns_query": 5,
        "udp_connect": 9,
        "tcp_accept": 7,
    }
    for kind, addresses in (("network_connect", {"127.0.0.1", "::1"}), ("udp_connect", {"127.7.7.77", "::1"})):
        assert {deed.identity.rsplit(" ", 1)[0] for deed in deeds if deed.kind == kind} == addresses
    assert "worker-4" in {deed.comm for deed in deeds}
    assert r"\xff\xfe\xfd" in {deed.comm for deed in deeds}


@needs_root
def test_the_record_is_complete_signed_and_says_what_ebpf_sees(tmp_path):
    signer = generate_keys(tmp_path / "keys")["targets"][0]
    out = tmp_path / "parity.json"
    amounts = ["--execs", "120", "--connects", "40", "--writes", "40", "--queries", "20", "--datagrams", "40"]
    arguments = ["sensor", "parity", "--sensor", "ebpf", "--out", str(out), "--keys", str(tmp_path / "keys")]
    answer = CliRunner().invoke(app, [*arguments, *amounts, "--rate", "400", "--json"], catch_exceptions=False)
    assert answer.exit_code == 0
    document = json.loads(out.read_text("utf-8"))
    public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signer.public_key.keyval["public"]))
    public.verify(bytes.fromhex(document["signature"]["sig"]), canonical_json(document["record"]))
    result = document["record"]["sensors"]["ebpf"]
    if not result["works"]:
        pytest.skip(result["reason"])
    assert {name: (each["done"], each["recall"], each["key_accuracy"]) for name, each in result["classes"].items()} == {
        "process_exec": (120, 1.0, 1.0),
        "network_connect": (40, 1.0, 1.0),
        "file_open": (40, 1.0, 1.0),
        "dns_query": (20, 1.0, 1.0),
        "udp_connect": (40, 1.0, 1.0),
        "tcp_accept": (40, 1.0, 1.0),
    }
    assert result["counters"]["lost"] == {}
