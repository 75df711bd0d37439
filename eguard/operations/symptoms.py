"""The symptoms of the operations manual's troubleshooting guide (section 10), and the checks that explain each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Symptom:
    """A symptom in the manual's words, and the checks to look at, in order."""

    heading: str
    checks: tuple[str, ...]


SYMPTOMS: Final = (
    Symptom(
        "feature 'ebpf-libbpf' is disabled in this build",
        ("ebpf", "privileges", "kernel", "bcc", "kernel_headers", "tracefs", "tracepoints", "btf", "sensor"),
    ),
    Symptom(
        "baseline upload does not run",
        (
            "baseline_upload",
            "policy",
            "baseline_store",
            "transport",
            "server_tls",
            "server_identity",
            "heartbeat",
            "control_plane",
        ),
    ),
    Symptom(
        "fleet seed never applies",
        ("fleet_seed", "policy", "baseline_store", "server_tls", "server_identity", "control_plane", "database"),
    ),
    Symptom(
        "signature/count warnings from threat-intel bundle",
        ("bundle_signature", "bundle_content", "bundle_expiry", "clock"),
    ),
    Symptom(
        "non-mTLS transport in production",
        (
            "enrolment",
            "transport",
            "tls_files",
            "tls_certificate",
            "tls_authority",
            "server_tls",
            "server_identity",
            "server_certificate",
        ),
    ),
)
