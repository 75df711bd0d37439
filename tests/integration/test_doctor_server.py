"""Each symptom of the exchange and of the channel, made for real with a running server, and what the doctor says."""

import re
import socket
import time
from itertools import count
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from msgspec import structs
from server_place import CONSOLE, server_place

from eguard.agent.control.enrol import enrol
from eguard.agent.control.enrolment_files import read_enrolment
from eguard.agent.control.kept_policy import FILE_NAME, KeptPolicy, enrolment_name
from eguard.agent.control.loop import FOLDER_NAME
from eguard.baseline import BaselineStatus, BaselineStore
from eguard.operations import Examination, run_checks
from eguard.policy import sign_policy
from eguard.server.pki import Authority, make_key_and_request, read_request
from eguard.server.pki.files import pki_folder
from eguard.settings import AgentSettings, ServerSettings
from eguard.wire.baseline import BaselineBatch, BaselineRow, encode_baseline_batch
from eguard.wire.control import PolicyKey
from eguard.wire.policy import PolicyPayload, SignedPolicy

KEYS = [("sh", "cron"), ("curl", "sh")]
NUMBERS = count()
WAY = ("server_name", "server_connect", "server_tls", "server_identity")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with server_place(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def admin(place):
    return place.person()


class Machine:
    """An enrolled machine: what its agent would have left behind, and the doctor on it."""

    def __init__(self, place, folder, name):
        self.place, self.name = place, name
        self.settings = AgentSettings(agent_id=name, state_path=folder / name)
        token = place.context.enrolment.tokens.create(CONSOLE).secret
        url = f"https://localhost:{place.running.agent_port}"
        enrol(
            self.settings.tls_folder, url, place.authority_file, lambda: token,
            agent_id=name, incarnation=lambda: f"life-{name}",
        )  # fmt: skip

    @property
    def server(self):
        return read_enrolment(self.settings.tls_folder).server

    def fetch_policy(self):
        """Take the policy that the server has, as the agent does."""
        answer = self.client().get("/endpoint/policy").content
        enrolment = read_enrolment(self.settings.tls_folder)
        kept = KeptPolicy(
            signed=msgspec.json.decode(answer, type=SignedPolicy),
            trusted_keys={key.key_id: key.public_key for key in enrolment.policy_keys},
            enrolment=enrolment_name(enrolment, ""),
        )
        folder = self.settings.state_path / FOLDER_NAME
        folder.mkdir(exist_ok=True)
        (folder / FILE_NAME).write_bytes(msgspec.json.encode(kept))

    def client(self):
        identity = self.settings.tls_folder / "agent.pem"
        return self.place.agent(files=(identity, identity))

    def learn(self, change=lambda _store: None):
        with BaselineStore.open(self.settings.baseline_folder) as store:
            store.learn(KEYS, np.array([0, 3]), np.array([100.0, 101.0]), np.array([0, 0]))
            change(store)

    def work(self, **control):
        """Write the status of an agent at work."""
        now = time.time()
        duty = {"interval_seconds": 30.0, "runs_total": 1, "last_success_unix": now}
        control = {"duties": {"heartbeat": duty}, **control}
        status = {"state": "running", "written_at_unix": now, "control": control}
        (self.settings.state_path / "status.json").write_bytes(msgspec.json.encode(status))

    def doctor(self, *names, clock=None, **changes):
        """Run checks, on settings that nobody wrote down but for `changes`, and return the last finding."""
        settings = AgentSettings(**({"state_path": self.settings.state_path} | changes))
        nowhere = ServerSettings(server_state_path=self.settings.state_path / "none")
        return run_checks(Examination(settings, nowhere, clock=clock), names)[-1]


@pytest.fixture
def machine(place, tmp_path, request, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = Machine(place, tmp_path, re.sub(r"\W|_", "-", request.node.name)[5:35].strip("-") + f"-{next(NUMBERS)}")
    made.fetch_policy()
    made.learn()
    made.work()
    return made


@pytest.fixture
def follow(machine, admin):
    """Give the machine a policy of its own; it takes it at once unless told otherwise."""

    def run(is_taken=True, **document):
        policy_id = f"p-{machine.name}"[:64]
        body = {"policy_id": policy_id, "policy_version": "v1", "policy_json": document}
        assert admin.post("/endpoint/policy", json=body).status_code in {200, 201}
        given = {"agent_id": machine.name, "policy_id": policy_id}
        assert admin.post("/endpoint/policy/assign", json=given).status_code in {200, 201}
        if is_taken:
            machine.fetch_policy()
        return policy_id

    return run


@pytest.fixture
def publish(place, admin):
    """Have three agents upload a key, aggregate, and return the generation."""

    def run(prefix):
        for number in range(3):
            name = f"{prefix}-{number}"
            row = BaselineRow(
                process_key="sh:cron", event_distribution={"process_exec": 1.0}, sample_count=50,
                entropy_threshold=2.7, learned_at_unix=1_772_000_000.0, seq=1,
            )  # fmt: skip
            body = encode_baseline_batch(BaselineBatch(agent_id=name, batch_id="b", baselines=[row]))
            answer = place.agent(name).post("/endpoint/baseline/batch", content=body)
            assert answer.status_code == 200, answer.text
        return admin.post("/endpoint/baseline/aggregate", json={"min_agents": 3}).json()["generation"]

    return run


def test_a_machine_that_nothing_is_wrong_with(machine):
    names = ("enrolment", "transport", "tls_files", "tls_certificate", "tls_authority", *WAY, "policy", "heartbeat")
    for length in range(1, len(names) + 1):
        found = machine.doctor(*names[:length])
        assert found.state == "ok", found
    found = machine.doctor(*names, "control_plane")
    assert found.state == "ok", found
    found = machine.doctor(*names, "baseline_upload")
    assert (found.state, found.cause.startswith("2 changed keys wait")) == ("ok", True), found


def test_the_kill_switch_is_told_before_and_after_it_arrived(machine, follow):
    policy_id = follow(is_taken=False, baseline_upload_enabled=False, fleet_seed_enabled=False)
    behind = machine.doctor(*WAY, "policy")
    assert (behind.state, f"the server has policy {policy_id!r} version 'v1' revision" in behind.cause) == (
        "warning",
        True,
    ), behind
    for _ in ("before", "after"):
        for name, field in (("baseline_upload", "baseline_upload"), ("fleet_seed", "fleet_seed")):
            found = machine.doctor(*WAY, "policy", name)
            assert (found.state, f"says {field}_enabled=false (kill switch)" in found.cause) == ("warning", True), found
            assert policy_id in found.cause
            assert f"eguard policy show --agent {machine.name}" in found.remedy
        machine.fetch_policy()
    assert machine.doctor(*WAY, "policy").state == "ok"


def test_a_canary_of_0_percent_is_told_with_the_bucket(machine, follow):
    policy_id = follow(baseline_upload_canary_percent=0, fleet_seed_canary_percent=0)
    for name in ("baseline_upload", "fleet_seed"):
        found = machine.doctor(*WAY, name)
        assert (found.state, "0 % are the buckets below 0 of 10000" in found.cause) == ("warning", True), found
        assert f"eguard policy advance {policy_id}" in found.remedy


def test_nothing_dirty_is_told(machine):
    with BaselineStore.open(machine.settings.baseline_folder) as store:
        store.acknowledge(KEYS, store.table.seq[store.table.index.lookup(KEYS)].tolist())
    found = machine.doctor(*WAY, "baseline_upload")
    assert (found.state, "no dirty keys" in found.cause) == ("ok", True), found


def test_a_body_over_the_cap_is_told(machine):
    found = machine.doctor(*WAY, "baseline_upload", baseline_upload_max_bytes=600)
    assert (found.state, "EGUARD_BASELINE_UPLOAD_MAX_BYTES=600" in found.cause) == ("warning", True), found


def test_a_server_without_rows_one_with_rows_and_an_active_baseline(tmp_path, monkeypatch, machine, publish, place):
    with server_place(tmp_path / "empty") as empty:
        other = Machine(empty, tmp_path / "elsewhere", "lonely")
        other.fetch_policy()
        other.learn()
        other.work()
        found = other.doctor(*WAY, "fleet_seed")
        assert (found.state, "the server publishes no rows (fleet_baseline is empty)" in found.cause) == (
            "warning", True,
        ), found  # fmt: skip
        assert "eguard fleet aggregate" in found.remedy
    generation = publish("voter")
    found = machine.doctor(*WAY, "fleet_seed")
    assert f"none was ever applied; status learning; the server has rows of generation {generation}" in found.cause
    with BaselineStore.open(machine.settings.baseline_folder) as store:
        store.set_status(BaselineStatus.ACTIVE, learning_completed=200.0)
    found = machine.doctor(*WAY, "fleet_seed")
    assert (found.state, "the baseline is active" in found.cause) == ("ok", True), found


def test_a_revoked_and_a_decommissioned_agent_are_told_apart(machine, place, admin):
    place.context.certificates.revoke(CONSOLE, agent_id=machine.name, reason="stolen")
    found = machine.doctor(*WAY)
    assert (found.state, "403 certificate_revoked" in found.cause) == ("failed", True), found
    assert f"eguard server agent decommission {machine.name}" in found.remedy
    assert machine.doctor(*WAY, "baseline_upload").state in {"ok", "warning"}  # it does not stumble over the refusal
    place.context.endpoints.decommission(CONSOLE, machine.name, "sold")
    found = machine.doctor(*WAY)
    assert (found.state, "403 certificate_decommissioned" in found.cause) == ("failed", True), found


def reissued(machine, authority, name=None, **when):
    """Put a certificate in place that another hand signed."""
    key_pem, csr_pem = make_key_and_request(name or machine.name)
    issued = authority.issue_agent(read_request(csr_pem, name or machine.name), name or machine.name, **when)
    (machine.settings.tls_folder / "agent.pem").write_bytes(key_pem + issued.pem.encode())


def test_a_certificate_that_the_database_does_not_know_is_told(machine, place):
    reissued(machine, pki_folder(place.settings).authority(), now=time.time())
    found = machine.doctor(*WAY)
    assert (found.state, "403 certificate_unknown" in found.cause) == ("failed", True), found


def test_a_certificate_of_another_authority_is_told(machine):
    reissued(machine, Authority.create(time.time())[0], now=time.time())
    found = machine.doctor(*WAY[:3])
    assert (found.state, "the server refuses this agent's certificate" in found.cause) == ("failed", True), found
    assert "another authority" in found.remedy
    assert machine.doctor(*WAY).state == "skipped"


def test_a_certificate_that_has_expired_is_told(machine, place):
    reissued(machine, pki_folder(place.settings).authority(), now=time.time() - 100 * 86_400.0)
    found = machine.doctor("tls_certificate")
    assert (found.state, "expired 10.0 days ago" in found.cause) == ("failed", True), found
    assert "eguard agent enroll --force" in found.remedy
    found = machine.doctor(*WAY[:3])
    assert (found.state, "expired" in found.cause) == ("failed", True), found


def test_a_certificate_whose_renewal_is_due_is_told_with_what_keeps_it(machine):
    later = SimpleNamespace(now=lambda: time.time() + 70 * 86_400.0)
    found = machine.doctor("tls_certificate", clock=later)
    assert (found.state, "its renewal has been due for" in found.cause) == ("warning", True), found
    assert "no agent runs here" in found.cause
    machine.work(duties={"certificate renewal": {"last_error": "403: revoked"}})
    assert "it fails: 403: revoked" in machine.doctor("tls_certificate", clock=later).cause


def test_a_wrong_authority_here_is_told(machine, tmp_path):
    other = Authority.create(time.time())[0].certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "other.pem").write_bytes(other)
    found = machine.doctor(*WAY[:3], tls_ca=tmp_path / "other.pem")
    assert (found.state, "the server's certificate does not verify" in found.cause) == ("failed", True), found
    assert "EGUARD_TLS_CA" in found.remedy


def test_a_name_that_the_servers_certificate_does_not_have_is_told(machine, place):
    found = machine.doctor(*WAY[:3], server=f"https://127.1:{place.running.agent_port}")
    assert (found.state, "not valid for '127.1'" in found.cause) == ("failed", True), found
    assert "Write into EGUARD_SERVER a name that the server's certificate has" in found.remedy


def test_the_port_of_the_administration_is_told(machine, place):
    found = machine.doctor(*WAY, server=f"https://localhost:{place.running.admin_port}")
    assert (found.state, "this port does not serve agents" in found.cause) == ("failed", True), found


def test_plain_http_is_told(machine, place):
    url = f"http://localhost:{place.running.agent_port}"
    found = machine.doctor("transport", server=url)
    assert (found.state, "non-mTLS transport" in found.cause) == ("failed", True), found
    assert "eguard agent enroll" in found.remedy
    assert machine.doctor("transport", *WAY, server=url).state == "skipped"


def test_a_server_that_is_down_is_told_quickly(machine):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    began = time.monotonic()
    names = ("transport", *WAY, "policy", "heartbeat", "control_plane", "baseline_upload", "fleet_seed")
    settings = {"server": f"https://localhost:{port}"}
    assert machine.doctor(*names[:3], **settings).cause.startswith("nothing listens at localhost")
    assert machine.doctor(*names, **settings).state == "warning"
    assert time.monotonic() - began < 3.0


def test_a_machine_that_is_not_enrolled_is_told(place, tmp_path):
    here = AgentSettings(state_path=tmp_path, agent_id="nobody", server=f"https://localhost:{place.running.agent_port}")
    enrolment, transport = run_checks(Examination(here), ("enrolment", "transport"))
    assert (enrolment.state, "this machine is not enrolled" in enrolment.cause) == ("failed", True)
    assert "EGUARD_TLS_CERT, EGUARD_TLS_KEY, EGUARD_TLS_CA are not set" in transport.cause
    assert "eguard agent enroll" in enrolment.remedy


def test_an_enrolment_under_another_name_is_told(machine):
    found = machine.doctor("enrolment", agent_id="somebody-else")
    assert (found.state, "EGUARD_AGENT_ID says 'somebody-else'" in found.cause) == ("failed", True), found


def test_a_restored_server_whose_revisions_are_lower_is_told(machine, place):
    path = machine.settings.state_path / FOLDER_NAME / FILE_NAME
    kept = msgspec.json.decode(path.read_bytes(), type=KeptPolicy)
    (key_file,) = (place.settings.server_state_path / "keys").glob(f"policy-{kept.signed.key_id}.pem")
    key = serialization.load_pem_private_key(key_file.read_bytes(), None)
    payload = msgspec.json.decode(kept.signed.payload, type=PolicyPayload)
    later = sign_policy(structs.replace(payload, revision=payload.revision + 1000), key)
    path.write_bytes(msgspec.json.encode(structs.replace(kept, signed=later)))
    found = machine.doctor(*WAY, "policy")
    assert (found.state, "the server's database was restored" in found.cause) == ("failed", True), found
    assert "eguard policy reissue" in found.remedy


def test_a_kept_policy_that_somebody_changed_does_not_count(machine):
    path = machine.settings.state_path / FOLDER_NAME / FILE_NAME
    path.write_bytes(path.read_bytes().replace(rb"\"revision\":", rb"\"revision\":9"))
    found = machine.doctor(*WAY, "policy")
    assert (found.state, "the policy's signature does not hold" in found.cause) == ("failed", True), found


@pytest.mark.parametrize("keys", ["none", "others"])
def test_signing_keys_that_this_machine_does_not_know_are_told_but_not_where_it_has_none(machine, keys):
    folder = machine.settings.tls_folder
    (machine.settings.state_path / FOLDER_NAME / FILE_NAME).unlink()
    others = (PolicyKey(key_id="66687aadf862bd776c8fc18b8e9f8e20", public_key="00" * 32),)
    strangers = structs.replace(read_enrolment(folder), policy_keys=others if keys == "others" else ())
    (folder / "enrolment.json").write_bytes(msgspec.json.encode(strangers))
    found = machine.doctor(*WAY, "policy")
    if keys == "none":  # the agent asks for them, and so does the doctor
        assert (found.state, "has no policy yet" in found.cause) == ("warning", True), found
    else:
        assert (found.state, "refuses what the server sends (unknown_key)" in found.cause) == ("failed", True), found
