"""Secrets planted in every source of an evidence pack, known ones and ones that only their shape gives away."""

import base64
import json
import os
import struct
import urllib.parse
import zlib
from contextlib import suppress

import pytest
import sqlalchemy as sa
import structlog
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from server_place import server_place
from typer.testing import CliRunner

from eguard.cli.app import app
from eguard.clock import SystemClock
from eguard.evidence.readiness import RecordFolder
from eguard.evidence.readiness.course import Course
from eguard.evidence.redaction import Redactor
from eguard.evidence.signing import Custody
from eguard.evidence.surroundings import redactor_here
from eguard.fleet.tables import audit_log, endpoint_agent, endpoint_inventory, policy

#: Known here, by the environment; some with characters that are quoted somewhere.
ENVIRONMENT = {
    "EGUARD_NOTIFY_WEBHOOK_URL": "https://hooks.example/services/T0CANARY/B0CANARY/canaryWebhookPath01",
    "EGUARD_NOTIFY_WEBHOOK_SECRET": 'canary "webhook" <secret>/02',
    "EGUARD_PKI_PASSPHRASE": "canary&passphrase+03",
    "MYSQL_PWD": "canary-mysql-pwd-04",
    "AWS_SECRET_ACCESS_KEY": "canary/aws/secret+access/05",
    "HTTPS_PROXY": "http://proxy-user:canary%40proxy-06@proxy.example:3128",
}
KNOWN = [
    "canaryWebhookPath01",
    'canary "webhook" <secret>/02',
    "canary&passphrase+03",
    "canary-mysql-pwd-04",
    "canary/aws/secret+access/05",
    "canary%40proxy-06",
    "canary@proxy-06",
]
#: Nobody here knows these; they stand as secrets stand.
SHAPED = {
    "a password in an address": ("mysql://eguard:{}@db.example/fleet", "canaryUrlPassword11"),
    "an option": ("vault login --password {} now", "canaryOption12"),
    "a variable": ("export SERVICE_TOKEN={}", "canaryVariable13"),
    "a header": ("Authorization: Bearer {}", "canaryBearerHeader14"),
    "a field": ('{{"client_secret": "{}"}}', "canaryField15"),
    "a token of a server": ("{}", "eguard-access-0123456789abcdef-" + "canaryTokenOfAnotherServer16" + "x" * 15),
    "a token of GitHub": ("pushed with {}", "ghp_" + "canary17" * 5),
    "a key of AWS": ("{}", "AKIA" + "CANARY18CANARY18"),
}
IDAT = zlib.compress(b"\x00" + b"\x00\x00\x00")


def foreign_key():
    """Return the PEM of a key that this machine does not have."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def forms(secret):
    """Return what of a secret must nowhere be found, computed without what is tested."""
    raw = secret if isinstance(secret, bytes) else secret.encode()
    found = {raw, raw.hex().encode(), base64.b64encode(raw).rstrip(b"=")[:-1], base64.urlsafe_b64encode(raw)[:-4]}
    if isinstance(secret, str):
        found |= {urllib.parse.quote(secret, safe="").encode(), json.dumps(secret)[1:-1].encode()}
    return found


def png(*chunks):
    """Return a picture of one pixel with further chunks in it."""
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)), *chunks, (b"IDAT", IDAT), (b"IEND", b"")]
    data = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in parts
    )
    return b"\x89PNG\r\n\x1a\n" + data


@pytest.fixture
def place(tmp_path, monkeypatch):
    for name in [name for name in os.environ if name.startswith("EGUARD_")]:
        monkeypatch.delenv(name)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    with server_place(tmp_path, pki_passphrase=ENVIRONMENT["EGUARD_PKI_PASSPHRASE"]) as running:
        token = running.token()
        monkeypatch.setenv("EGUARD_API_TOKEN", token)
        monkeypatch.setenv("EGUARD_API", f"https://127.0.0.1:{running.running.admin_port}")
        monkeypatch.setenv("EGUARD_TLS_CA", str(running.authority_file))
        monkeypatch.setenv("EGUARD_SERVER_STATE_PATH", str(running.settings.server_state_path))
        monkeypatch.setenv("EGUARD_EVIDENCE_PATH", str(tmp_path / "evidence"))
        monkeypatch.setenv("EGUARD_ML_OUTPUT_ROOT", str(tmp_path / "ml"))
        monkeypatch.chdir(tmp_path)
        running.secret_token = token
        yield running


def collect(*arguments):
    """Run the command; the server of the test logs on where it did."""
    before = structlog.get_config()
    try:
        return CliRunner().invoke(app, ["-v", "evidence", "collect", "--out", "pack", "--journal-since=", *arguments])
    finally:
        structlog.configure(**before)


def keys_of(place):
    """Return what is secret in the keys of this machine: lines of their text, and their numbers."""
    found = []
    state = place.settings.server_state_path
    for path in (*state.glob("keys/*.pem"), *state.glob("pki/*.pem"), *place.folder.glob("evidence/evidence.pem")):
        text = path.read_text()
        block = text.partition("PRIVATE KEY-----\n")[2].partition("\n-----END")[0]
        found += [line for line in block.splitlines() if len(line) >= 32]
        with suppress(ValueError, TypeError, AttributeError):
            found.append(load_pem_private_key(text.encode(), None).private_bytes_raw())
    assert len(found) >= 4
    return found


def plant(place, texts):
    """Write every text into every source."""
    folder, lot = place.folder, "\n".join(texts)
    one_line = " ".join(texts)
    with place.context.database.write() as connection:
        connection.execute(
            sa.insert(endpoint_agent).values(
                agent_id="a", incarnation="i", incarnation_ordinal=1, group="default", status="active", enrolled_at=1.0
            )
        )
        connection.execute(
            sa.insert(endpoint_inventory).values(
                agent_id="a",
                **dict.fromkeys(("hostname", "os_version"), texts[0][:100]),
                **dict.fromkeys(("os_type", "architecture", "ip_address", "mac_address", "agent_version"), "x"),
                kernel_version=texts[1][:100],
                cpu_count=1,
                memory_bytes=1,
                sensor="ebpf",
                facts={"uptime": lot},
                collected_at=1.0,
            )
        )
        connection.execute(
            sa.insert(policy).values(
                revision=900,
                policy_id="p",
                policy_version="v1",
                rollout_id="p",
                mode_revision=0,
                document={"baseline_upload_enabled": True},
                reason=texts[2][:200],
                created_by=texts[3][:100],
                created_at=1.0,
            )
        )
        connection.execute(
            sa.insert(audit_log).values(
                sequence=10_000,
                at=1.0,
                principal="x",
                role="admin",
                action="policy.create",
                object_type="policy",
                object_id="p",
                detail={"reason": lot, "nested": [{"value": text} for text in texts]},
                credential="console",
                address="",
                previous_hash="0" * 64,
                record_hash="1" * 64,
            )
        )
    (folder / "shots").mkdir()
    (folder / "shots" / "endpoint-nac.png").write_bytes(png((b"tEXt", b"Comment\0" + lot.encode())))
    (folder / "shots" / "endpoint-audit.png").write_bytes(png() + lot.encode())
    (folder / "logs").mkdir()
    lines = [json.dumps({"event": text, "password": text, "list": [text]}) for text in texts]
    (folder / "logs" / "agent.log").write_text("\n".join((*lines, *texts, one_line)))
    runs = folder / "ml" / "runs" / "1"
    runs.mkdir(parents=True)
    (folder / "ml" / "latest").symlink_to(runs)
    (folder / "ml" / "latest-report.json").write_text(json.dumps({"cause": lot, "api_key": "canaryReportKey21"}))
    (runs / "pipeline.log").write_text(lot)
    (runs / "signature-ml-model.json").write_text(one_line)
    (folder / "reports").mkdir()
    output = {"output_type": "stream", "text": texts}
    (folder / "reports" / "a.ipynb").write_text(json.dumps({"cells": [{"source": lot, "outputs": [output]}]}))
    (folder / "reports" / "a.html").write_text(f"<pre>{lot}</pre>")
    (folder / "reports" / "b.json").write_bytes(b'{"escaped": "\\u0063' + texts[0][1:].encode() + b'"}')
    custody = Custody(folder / "evidence")
    course = Course("loop", redactor_here(custody), SystemClock(), target={"database": texts[0]})
    course.check("planted", texts, lot[:10], passed=False)
    RecordFolder(custody).write("loop", course.record(lot))
    leaking = Course("runbook", Redactor(), SystemClock())
    leaking.check("planted", "canary-mysql-pwd-04", "nothing", passed=False)
    RecordFolder(custody).write("runbook", leaking.record())


def test_no_planted_secret_is_in_the_pack_or_in_what_the_command_prints(place, tmp_path):
    Custody(tmp_path / "evidence").signer()
    known = [*KNOWN, place.secret_token, *keys_of(place)]
    pem = foreign_key()
    foreign = [line for line in pem.splitlines()[1:-1] if len(line) > 24]
    secrets = [*known, *foreign, "canaryReportKey21", *(secret for _, secret in SHAPED.values())]
    texts = [secret if isinstance(secret, str) else secret.hex() for secret in known]
    texts += [shape.format(secret) for shape, secret in SHAPED.values()]
    texts += [pem, base64.b64encode(f"x{KNOWN[3]}".encode()).decode(), urllib.parse.quote(KNOWN[1], safe="")]
    plant(place, texts)
    named = tmp_path / "logs" / f"{place.secret_token}.log"
    named.write_text("nothing")
    done = collect("--screenshots", "shots", "--log", "logs/agent.log", "--log", str(named))
    assert done.exit_code == 0, done.output
    pack = tmp_path / "pack"
    files = [path for path in pack.rglob("*") if path.is_file()]
    held = {path: path.read_bytes() + str(path.relative_to(pack)).encode() for path in files}
    held["what was printed"] = done.output.encode()
    envelopes = [path for path in files if path.name.endswith(".dsse.json")]
    held |= {f"{path} inside": base64.b64decode(json.loads(path.read_bytes())["payload"]) for path in envelopes}
    for secret in secrets:
        for form in forms(secret):
            assert [where for where, data in held.items() if form in data] == [], secret
    sections = json.loads((pack / "manifest.json").read_text())["predicate"]["sections"]
    # Everything was read, and nothing was kept out of the pack by keeping the whole source out of it.
    assert {name: each["state"] for name, each in sections.items()} == {
        **dict.fromkeys(("api", "logs", "notebooks", "policy", "settings", "sql", "versions"), "present"),
        **dict.fromkeys(("drills", "runs", "screenshots"), "partial"),
    }
    assert "runbook: runbook.dsse.json holds the secret of MYSQL_PWD" in sections["drills"]["missing"][0]
    assert (pack / "drills" / "loop.dsse.json").exists()
    assert b"canary" not in (pack / "screenshots" / "endpoint-nac.png").read_bytes()
