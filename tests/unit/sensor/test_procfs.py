import os
import subprocess
import sys

import pytest

from eguard.sensor.procfs import list_processes, parse_stat, read_process, user_name

_STAT = b"31 (x) R 1\n(y)) S 17 31 31 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 5120 0"

linux_only = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")


def test_a_name_with_parentheses_and_newlines_does_not_shift_the_fields():
    assert parse_stat(_STAT) == ("x) R 1\n(y)", "S", 17, 5120)


@pytest.mark.parametrize("raw", [b"", b"31 name S 1", _STAT[:-8], b")("], ids=["empty", "bare", "short", "reversed"])
def test_a_damaged_line_is_refused(raw):
    with pytest.raises(ValueError, match="no line"):
        parse_stat(raw)


@linux_only
def test_a_running_process_is_described_and_a_reaped_one_is_not():
    child = subprocess.Popen(["/bin/sleep", "30"])
    try:
        facts = next(each for each in list_processes() if each.pid == child.pid)
        while facts.command_line != "/bin/sleep 30":  # it may still be about to execute
            facts = read_process(child.pid)
        assert facts.parent_pid == os.getpid()
        assert facts.uid == os.geteuid()
        assert facts.comm == "sleep"
        assert facts.image_path.endswith("sleep")
    finally:
        child.kill()
        child.wait()
    assert read_process(child.pid) is None


def test_an_account_without_a_name_is_its_number():
    assert user_name(4_000_000_123) == "4000000123"
