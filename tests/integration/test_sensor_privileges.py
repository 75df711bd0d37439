"""The sensors as a user who may nothing: those that need more say so, and the portable one works."""

import json
import os
import subprocess
import sys

import pytest

PROGRAM = """
import json, os, psutil, structlog, sys
structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
from eguard.sensor import ebpf_program, survey
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(json.dumps([each.to_dict() for each in survey()]))
"""


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root can give up being root")
def test_without_privileges_each_sensor_says_what_it_lacks_and_the_portable_one_works():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    ebpf, connector, portable = json.loads(done.stdout)
    assert (ebpf["works"], ebpf["reason"]) == (False, "eBPF needs root")
    # Since Linux 6.6 anybody may listen to the connector; what it adds to that still needs privileges.
    assert connector["works"] or (connector["reason"].startswith("the process ") and "root" in connector["remedy"])
    assert "dns_query" not in connector["classes"]
    assert portable["works"]
    assert "cannot be joined" in done.stderr or not connector["works"]
