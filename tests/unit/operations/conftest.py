"""Real files for the doctor: certificates, a TLS server, a signed repository; and a made-up /proc and /sys."""

import os
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from email.utils import formatdate
from functools import cache
from itertools import count

import msgspec
import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from eguard.agent.control.kept_policy import KeptPolicy
from eguard.bundle import PROVENANCE_NAME, Repository, generate_keys
from eguard.bundle.manifest import MANIFEST_FORMAT, MANIFEST_NAME, Manifest, describe_file
from eguard.detection.content import load_content
from eguard.detection.features import N_FEATURES, contract, contract_sha256
from eguard.detection.fleet_context import FleetContext
from eguard.detection.gate import CalibrationGroup, calibration_to_json
from eguard.detection.model import load_model
from eguard.operations import Examination, run_checks
from eguard.operations.kernel import required_tracepoints
from eguard.policy import policy_key_id, public_key_text, sign_policy
from eguard.settings import AgentSettings, ServerSettings
from eguard.wire.canonical import canonical_json
from eguard.wire.policy import PolicyPayload

RELEASE = "6.1.0-21-amd64"
AGENT = "agent-7"
SERVER = "https://localhost:8443"


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.upper().startswith("EGUARD_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # a checkout has a bundle repository of its own


@pytest.fixture
def settings(tmp_path):
    def make(**changes):
        return AgentSettings(**({"agent_id": AGENT, "state_path": tmp_path / "state"} | changes))

    return make


@pytest.fixture
def examine(settings, tmp_path):
    """Run checks in order and return what the last one found."""

    def run(*names, with_settings=None, database_url="", **options):
        examination = Examination(
            with_settings or settings(),
            ServerSettings(database_url=database_url, server_state_path=tmp_path / "server"),
            **options,
        )
        return run_checks(examination, names)[-1]

    return run


@pytest.fixture
def keep_policy(settings):
    """Leave the policy behind that an agent of `SERVER` has in force."""

    def run(document=None, *, revision=3, policy_id="mlops-rollout", agent_id=AGENT, damage=lambda signed: signed):
        key = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
        public = public_key_text(key)
        payload = PolicyPayload(
            revision=revision, mode_revision=0, policy_id=policy_id, policy_version="v1", rollout_id=policy_id,
            agent_id=agent_id, group="default", policy=document or {},
        )  # fmt: skip
        kept = KeptPolicy(
            signed=damage(sign_policy(payload, key)), trusted_keys={policy_key_id(public): public}, enrolment=SERVER
        )
        folder = settings().state_path / "control"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "policy.json").write_bytes(msgspec.json.encode(kept))

    return run


@pytest.fixture
def write_status(settings):
    """Leave a status file behind, as an agent that runs writes it."""

    def run(*, duties=None, state="running", age_seconds=1.0, buffer=None, **control):
        duties = {"heartbeat": {}} | (duties or {})
        now = datetime.now(UTC).timestamp()
        good = {"interval_seconds": 30.0, "runs_total": 9, "last_success_unix": now - 5.0, "last_error": ""}
        control = {"server": SERVER, "duties": {name: good | duty for name, duty in duties.items()}, **control}
        status = {"state": state, "written_at_unix": now - age_seconds, "control": control, "buffer": buffer}
        settings().state_path.mkdir(exist_ok=True)
        (settings().state_path / "status.json").write_bytes(msgspec.json.encode(status))

    return run


class Machine:
    """A root folder with what the kernel's checks look at."""

    def __init__(self, root):
        self.root = root
        self.write("proc/sys/kernel/osrelease", f"{RELEASE}\n")
        self.write("proc/self/mounts", "tracefs /sys/kernel/tracing tracefs rw 0 0\n")
        self.write("sys/kernel/btf/vmlinux", b"\x9f\xeb\x01\x00")
        self.write("usr/src/common/include/linux/kconfig.h", "")
        self.write("usr/src/headers/include/config/kernel.release", f"{RELEASE}\n")
        self.modules = root / "lib/modules" / RELEASE
        self.modules.mkdir(parents=True)
        (self.modules / "build").symlink_to(root / "usr/src/headers")
        (self.modules / "source").symlink_to(root / "usr/src/common")
        for point in required_tracepoints():
            self.write(f"sys/kernel/tracing/events/{point}/format", "")

    def write(self, name, content):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path / "root")


class Authority:
    """Issues certificates into PEM files."""

    def __init__(self, folder, name="test authority", **dates):
        self.folder = folder
        self._number = count()
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        built = self._builder(self.name, self.key, **dates).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        usage = dict.fromkeys(("digital_signature", "content_commitment", "key_encipherment"), False)
        usage |= dict.fromkeys(("data_encipherment", "key_agreement", "encipher_only", "decipher_only"), False)
        built = built.add_extension(x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True)
        self.certificate = built.sign(self.key, hashes.SHA256())
        self.file = self._write("ca.pem", self.certificate.public_bytes(Encoding.PEM))

    def _builder(self, subject, key, days=365.0, begins_days=-1.0):
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=begins_days))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )

    def issue(self, *names, usage=x509.ExtendedKeyUsageOID.CLIENT_AUTH, **dates):
        """Return the files of a certificate and of its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
        certificate = (
            self._builder(subject, key, **dates)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .sign(self.key, hashes.SHA256())
        )
        number = next(self._number)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return (
            self._write(f"{names[0]}-{number}.pem", certificate.public_bytes(Encoding.PEM)),
            self._write(f"{names[0]}-{number}.key", private, 0o600),
        )

    def _write(self, name, data, mode=0o644):
        self.folder.mkdir(exist_ok=True)
        path = self.folder / name
        path.write_bytes(data)
        path.chmod(mode)
        return path


@pytest.fixture
def new_authority(tmp_path):
    numbers = count()
    return lambda **options: Authority(tmp_path / f"pki-{next(numbers)}", **options)


@pytest.fixture
def authority(new_authority):
    return new_authority()


@pytest.fixture
def serve():
    """Start servers on this machine's loopback: TLS with a client certificate, or whatever bytes a test wants."""
    stopping = []

    def start(context=None, answer=None, seconds_off=0.0):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.settimeout(0.1)
        stop = threading.Event()
        reply = f"HTTP/1.1 200 OK\r\nDate: {formatdate(datetime.now(UTC).timestamp() + seconds_off)}\r\n\r\n".encode()

        def run():
            while not stop.is_set():
                try:
                    plain, _ = listener.accept()
                except TimeoutError:
                    continue
                plain.settimeout(5)
                try:
                    with plain if context is None else context.wrap_socket(plain, server_side=True) as connection:
                        connection.recv(4096)
                        connection.sendall(reply if answer is None else answer)
                except OSError:
                    plain.close()

        thread = threading.Thread(target=run)
        thread.start()
        stopping.append((stop, thread, listener))
        return listener.getsockname()[1]

    yield start
    for stop, thread, listener in stopping:
        stop.set()
        thread.join()
        listener.close()


@pytest.fixture
def mutual(authority):
    """Return the settings of a server that asks for certificates of the authority."""

    def context(names=("localhost",), **dates):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(*authority.issue(*names, usage=x509.ExtendedKeyUsageOID.SERVER_AUTH, **dates))
        made.load_verify_locations(authority.file)
        made.verify_mode = ssl.CERT_REQUIRED
        return made

    return context


@cache
def _release(*, promoted, miscount):
    model = {
        "format": 1,
        "kind": "logistic",
        "version": "v-test",
        "contract_sha256": contract_sha256(),
        "n_features": N_FEATURES,
        "threshold": 0.5,
        "platt": {"slope": 1.0, "intercept": 0.0},
        "tables": {"class_risk": [0.0] * 8, "rule_precision": {"S-Bad": 1.0}, "rule_precision_default": 0.0},
        "parameters": {
            "coefficients": [0.0] * N_FEATURES,
            "center": [0.0] * N_FEATURES,
            "scale": [1.0] * N_FEATURES,
            "intercept": -4.0,
        },
    }
    calibration = calibration_to_json(
        {"pooled": CalibrationGroup(0.9, "calibrated", np.linspace(0.0, 0.9, 99))},
        alpha=0.01,
        guarantee="marginal",
        model_digest=load_model(model).digest,
        contract_sha256=contract_sha256(),
    )
    indicator = {"kind": "address", "value": "198.51.100.7", "source": "feed"}
    documents = {
        "rules.json": {"format": 1, "rules": [], "prefilter": {"sekurlsa::": 2}},
        "indicators.json": {"format": 1, "indicators": [indicator]},
        "feature-schema.json": contract(),
        "models/fleet-context.json": FleetContext().to_json(),
        "models/signature-ml-model.json": model,
        "models/calibration.json": calibration,
    }
    files = {name: canonical_json(document) for name, document in documents.items()}
    counts = load_content(files).counts
    counts["indicators.json"] += miscount
    manifest = Manifest(
        format=MANIFEST_FORMAT,
        model_version="v-test",
        feature_contract_sha256=contract_sha256(),
        promoted=promoted,
        files={name: describe_file(data, counts[name]) for name, data in files.items()},
    )
    return {**files, MANIFEST_NAME: manifest.to_bytes(), PROVENANCE_NAME: b'{"_type":"statement"}'}


@pytest.fixture
def publish(tmp_path):
    """Sign a whole bundle into a repository and return that."""

    def run(*, age_days=0.0, promoted=True, miscount=0):
        now = datetime.now(UTC) - timedelta(days=age_days)
        repository = Repository(tmp_path / "repository", generate_keys(tmp_path / "keys"), now=now)
        repository.publish(_release(promoted=promoted, miscount=miscount))
        return repository

    return run
