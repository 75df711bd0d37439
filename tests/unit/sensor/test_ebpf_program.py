import sys
import types

import pytest

from eguard.errors import ConfigError, SensorUnavailableError
from eguard.sensor import ebpf_program, open_sensor
from eguard.sensor.ebpf_program import check_requirements, load_bcc, tcp_byte_offsets


def test_every_missing_requirement_is_named_with_its_remedy(tmp_path):
    tracing = tmp_path / "tracing"
    (tracing / "events" / "sched").mkdir(parents=True)
    check_requirements(tmp_path, (tracing,), user=0)
    cases = [
        ({"headers": tmp_path, "tracing_folders": (tracing,), "user": 1000}, "root", "sudo"),
        ({"headers": tmp_path / "no", "tracing_folders": (tracing,), "user": 0}, "headers", "linux-headers"),
        ({"headers": tmp_path, "tracing_folders": (tmp_path,), "user": 0}, "tracefs", "mount -t tracefs"),
    ]
    for arguments, cause, remedy in cases:
        with pytest.raises(SensorUnavailableError, match=cause) as refused:
            check_requirements(**arguments)
        assert remedy in refused.value.remedy


def test_without_the_package_the_remedy_installs_it(monkeypatch, tmp_path):
    monkeypatch.setattr(ebpf_program, "BCC_FOLDER", str(tmp_path))
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    with pytest.raises(SensorUnavailableError, match="python3-bpfcc") as refused:
        load_bcc()
    assert "python3-bpfcc" in refused.value.remedy


def test_the_lattice_package_of_the_same_name_is_told_apart(monkeypatch):
    monkeypatch.setitem(sys.modules, "bcc", types.ModuleType("bcc"))
    with pytest.raises(SensorUnavailableError, match="not the BPF"):
        load_bcc()


def test_a_broken_package_is_no_crash_and_leaves_nothing_behind(monkeypatch, tmp_path):
    (tmp_path / "bcc.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.setattr(ebpf_program, "BCC_FOLDER", str(tmp_path))
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    with pytest.raises(SensorUnavailableError, match="cannot be loaded"):
        load_bcc()
    assert "bcc" not in sys.modules


def test_a_kernel_that_does_not_describe_itself_costs_the_byte_counts_alone(tmp_path):
    assert tcp_byte_offsets(tmp_path / "none") == {}


def test_a_requirement_is_not_met_by_a_lesser_sensor(monkeypatch, tmp_path):
    monkeypatch.setattr(ebpf_program, "BCC_FOLDER", str(tmp_path))
    monkeypatch.delitem(sys.modules, "bcc", raising=False)
    with pytest.raises(SensorUnavailableError, match="python3-bpfcc"):
        open_sensor("auto", require_ebpf=True)
    with pytest.raises(ConfigError, match="psutil was asked for"):
        open_sensor("psutil", require_ebpf=True)
