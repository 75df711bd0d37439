"""The doctor opens this machine's sensors for real."""

import os
from pathlib import Path

import pytest

from eguard.operations import Examination, run_checks
from eguard.operations.kernel import look_at_bcc
from eguard.sensor.ebpf_program import BCC_FOLDER
from eguard.settings import AgentSettings

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path(BCC_FOLDER, "bcc").is_dir(), reason="eBPF needs root and python3-bpfcc"
)


def test_what_the_checks_say_of_ebpf_agrees_with_what_opening_it_says(tmp_path):
    examination = Examination(AgentSettings(state_path=tmp_path))
    names = ("kernel", "kernel_headers", "tracefs", "bcc", "tracepoints", "privileges", "ebpf", "sensor")
    found = {check.name: check for check in run_checks(examination, names)}
    prerequisites = {found[name].state for name in names[:6]}
    if found["ebpf"].state == "ok":
        assert prerequisites == {"ok"}
        assert found["sensor"].cause.startswith("ebpf (EGUARD_SENSOR=auto) sees process_exec")
    else:
        assert "warning" in prerequisites, found["ebpf"].cause
    assert found["sensor"].state == "ok"


def test_the_systems_bcc_is_the_right_one():
    found = look_at_bcc(BCC_FOLDER)
    assert found["is_bcc"]
    assert found["file"].startswith(BCC_FOLDER)
