import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eguard.sensor import running_processes
from eguard.sensor.running_processes import ProcProcesses, PsutilProcesses

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")

# Says its own name anew for each line that it reads.
RENAMER = """
import sys
from pathlib import Path
for line in sys.stdin:
    Path("/proc/self/comm").write_text(line.strip())
    print("done", flush=True)
"""


@pytest.fixture(params=["held", "opened", "portable"])
def running(request):
    psutil = pytest.importorskip("psutil")
    forms = {"held": ProcProcesses, "opened": lambda: ProcProcesses(0), "portable": lambda: PsutilProcesses(psutil)}
    running = forms[request.param]()
    yield running
    running.close()


@pytest.fixture
def renamer():
    with subprocess.Popen([sys.executable, "-c", RENAMER], stdin=-1, stdout=-1, text=True) as child:
        yield child
        child.stdin.close()


def _call_itself(renamer, name):
    renamer.stdin.write(name + "\n")
    renamer.stdin.flush()
    assert renamer.stdout.readline() == "done\n"


def test_at_first_all_appear_and_then_only_what_is_new(running):
    assert os.getpid() in running.compare().appeared
    child = subprocess.Popen(["/bin/sleep", "60"])
    try:
        changes = running.compare()
        assert child.pid in changes.appeared
        assert os.getpid() not in changes.appeared
        assert child.pid not in running.compare().appeared
    finally:
        child.kill()
        child.wait()
    assert child.pid in running.compare().gone
    assert child.pid not in running.compare().gone


def test_another_name_is_told_once(running, renamer):
    _call_itself(renamer, "one")
    running.compare()
    _call_itself(renamer, "two")
    changes = running.compare()
    assert renamer.pid in changes.renamed
    assert renamer.pid not in changes.appeared + changes.gone
    assert renamer.pid not in running.compare().renamed


def test_a_process_that_nobody_waited_for_is_still_there(running):
    child = subprocess.Popen(["/bin/true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert child.pid in running.compare().appeared
    assert child.pid not in running.compare().gone
    child.wait()
    assert child.pid in running.compare().gone


def test_the_forms_agree():
    forms = [ProcProcesses(), ProcProcesses(0), PsutilProcesses(pytest.importorskip("psutil"))]
    first, last = subprocess.Popen(["/bin/sleep", "60"]), None
    for each in forms:
        each.compare()
    try:
        last = subprocess.Popen(["/bin/sleep", "60"])
        first.kill()
        first.wait()
        changes = [each.compare() for each in forms]
    finally:
        last.kill()
        last.wait()
    ours = {first.pid, last.pid}
    assert [({*each.appeared} & ours, {*each.gone} & ours) for each in changes] == [({last.pid}, {first.pid})] * 3


def test_a_number_that_another_process_took_over_is_gone_and_appears(monkeypatch):
    running = ProcProcesses()
    child = subprocess.Popen(["/bin/sleep", "60"])
    running.compare()
    child.kill()
    child.wait()
    # From now on the number leads to this process.
    monkeypatch.setattr(running_processes, "process_ids", lambda: {child.pid})
    monkeypatch.setattr(running_processes, "_open_name", lambda _: os.open("/proc/self/comm", os.O_RDONLY))
    changes = running.compare()
    assert child.pid in changes.gone
    assert changes.appeared == [child.pid]
    running.close()


def test_a_process_that_ended_before_its_name_was_read_never_appeared(monkeypatch):
    running = ProcProcesses()
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    monkeypatch.setattr(running_processes, "process_ids", lambda: {child.pid})
    assert running.compare() == ([], [], [])
    assert running.compare() == ([], [], [])


def test_a_process_that_ends_while_its_name_is_read_leaves_nothing_open(monkeypatch):
    child = subprocess.Popen(["/bin/sleep", "60"])
    descriptor = os.open(f"/proc/{child.pid}/comm", os.O_RDONLY)
    child.kill()
    child.wait()
    monkeypatch.setattr(running_processes, "process_ids", lambda: {child.pid})
    monkeypatch.setattr(running_processes, "_open_name", lambda _: descriptor)
    assert ProcProcesses().compare() == ([], [], [])
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_no_more_names_are_held_open_than_agreed():
    before = len([*Path("/proc/self/fd").iterdir()])
    running = ProcProcesses(2)
    assert len(running.compare().appeared) > 2
    assert len([*Path("/proc/self/fd").iterdir()]) == before + 2
    running.close()
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_look_at_what_is_known_takes_microseconds_of_a_processor():
    running = ProcProcesses()
    n_processes = len(running.compare().appeared)
    used = []
    for _ in range(5):
        started = time.thread_time()
        running.compare()
        used.append(time.thread_time() - started)
    running.close()
    # Measured: 3 us for each process. Asking psutil takes 80.
    assert min(used) < n_processes * 20e-6 + 0.001
