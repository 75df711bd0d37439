import time
from pathlib import Path

import numpy as np
import pytest

import eguard
from eguard.baseline import BaselineStore
from eguard.clock import SimulatedClock
from eguard.operations import timekeeping
from eguard.operations.timekeeping import kernel_clock_state

YEAR = 365.25 * 86_400


def test_the_present_is_fine(examine):
    assert examine("clock").state == "ok"


@pytest.mark.parametrize("years", [-10, -1, 40])
def test_a_clock_that_is_years_off_is_told(examine, years):
    found = examine("clock", clock=SimulatedClock(time.time() + years * YEAR))
    assert found.state == "failed"
    assert "the installation of eGuard" in found.cause
    assert "timedatectl" in found.remedy


def test_a_clock_before_the_installation_within_its_tolerance_is_fine(examine):
    installed = Path(eguard.__file__).stat().st_mtime
    assert examine("clock", clock=SimulatedClock(installed - 60)).state == "ok"
    assert examine("clock", clock=SimulatedClock(installed - 3600)).state == "failed"


def test_a_clock_before_the_last_event_is_told(examine, settings):
    here, later = settings(), time.time() + 2 * YEAR
    here.state_path.mkdir()
    with BaselineStore.open(here.baseline_folder) as store:
        store.learn([("sh", "cron")], np.array([0]), np.array([later]), np.array([0]))
    found = examine("clock", with_settings=here)
    assert found.state == "failed"
    assert "730.5 days before the last event in the baseline store" in found.cause


@pytest.mark.parametrize(
    ("state", "expected"),
    [((True, 0.002), "ok"), ((False, 16.0), "warning"), (None, "skipped")],
    ids=["synchronised", "not", "unknown"],
)
def test_the_kernel_says_whether_somebody_keeps_the_clock(examine, machine, monkeypatch, state, expected):
    monkeypatch.setattr(timekeeping, "kernel_clock_state", lambda: state)
    assert examine("clock_sync", root=machine.root).state == expected


def test_timesyncd_leaves_a_mark(examine, machine, monkeypatch):
    monkeypatch.setattr(timekeeping, "kernel_clock_state", lambda: (False, 16.0))
    machine.write("run/systemd/timesync/synchronized", "")
    assert examine("clock_sync", root=machine.root).state == "ok"


def test_this_kernel_answers():
    is_synchronised, error_seconds = kernel_clock_state()
    assert is_synchronised in {True, False}
    assert 0 <= error_seconds < 3600
