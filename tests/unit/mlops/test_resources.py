import os

import pytest

from eguard.errors import ConfigError
from eguard.mlops.resources import GIBIBYTE, PROFILES, Machine, detect_machine, resolve_profile


def write(root, path, text):
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


@pytest.fixture
def machine_root(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)), raising=False)
    write(tmp_path, "proc/meminfo", "MemTotal:       33554432 kB\nMemFree:        1 kB\n")
    return tmp_path


def test_without_limits_the_machine_counts(machine_root):
    assert detect_machine(machine_root) == Machine(16, 32 * GIBIBYTE)


def test_a_cgroup_v2_limit_comes_first(machine_root):
    write(machine_root, "sys/fs/cgroup/cpu.max", "350000 100000\n")
    write(machine_root, "sys/fs/cgroup/memory.max", f"{6 * GIBIBYTE}\n")
    assert detect_machine(machine_root) == Machine(3, 6 * GIBIBYTE)


def test_an_unlimited_cgroup_limits_nothing(machine_root):
    write(machine_root, "sys/fs/cgroup/cpu.max", "max 100000\n")
    write(machine_root, "sys/fs/cgroup/memory.max", "max\n")
    assert detect_machine(machine_root) == Machine(16, 32 * GIBIBYTE)


def test_a_cgroup_v1_limit_counts_too(machine_root):
    write(machine_root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n")
    write(machine_root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    write(machine_root, "sys/fs/cgroup/memory/memory.limit_in_bytes", f"{3 * GIBIBYTE}\n")
    assert detect_machine(machine_root) == Machine(2, 3 * GIBIBYTE)


def test_cgroup_v1_without_limits(machine_root):
    write(machine_root, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "-1\n")
    write(machine_root, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n")
    write(machine_root, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    assert detect_machine(machine_root) == Machine(16, 32 * GIBIBYTE)


def test_half_a_processor_is_one(machine_root):
    write(machine_root, "sys/fs/cgroup/cpu.max", "50000 100000\n")
    assert detect_machine(machine_root).cpu_count == 1


def test_without_meminfo_sysconf_answers(tmp_path):
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert detect_machine(tmp_path).memory_bytes == pages


@pytest.mark.parametrize(
    ("cpus", "gib", "name"),
    [
        (2, 64, "tiny"),
        (64, 4, "tiny"),
        (4, 64, "modest"),
        (64, 8, "modest"),
        (8, 64, "balanced"),
        (64, 16, "balanced"),
        (9, 16.5, "high"),
    ],
)
def test_auto_takes_the_first_profile_that_fits(cpus, gib, name):
    assert resolve_profile("auto", Machine(cpus, int(gib * GIBIBYTE))).name == name


def test_the_table_is_the_published_one():
    rows = [(p.name, p.max_iterations, p.holdout_fraction, p.max_samples, p.l2_grid_points) for p in PROFILES]
    assert rows == [
        ("tiny", 40, 0.18, 30_000, 4),
        ("modest", 52, 0.20, 90_000, 5),
        ("balanced", 60, 0.20, 180_000, 6),
        ("high", 72, 0.22, 320_000, 7),
    ]


def test_an_unknown_profile_is_named():
    with pytest.raises(ConfigError, match="gigantic"):
        resolve_profile("gigantic", Machine(1, GIBIBYTE))
