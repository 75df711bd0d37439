"""The sensors on a system that is not Linux: simulated in a process of its own, from which Linux has been taken away.

What is simulated is what Python shows of a system: no modules of Unix, no netlink or packet sockets, no user numbers,
no /proc. psutil itself stays that of this machine.
"""

import json
import subprocess
import sys

PROGRAM = """
import builtins, json, os, pathlib, socket, sys, time
import psutil, numpy, msgspec, structlog, logging, ctypes, tempfile, asyncio, subprocess  # of any system

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
FORBIDDEN = {"pwd", "grp", "fcntl", "resource", "termios", "posix_ipc", "spwd", "bcc", "pyroute2"}


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name in FORBIDDEN:
            raise ModuleNotFoundError(f"no module named {name!r} on this system", name=name)


for name in FORBIDDEN & set(sys.modules):
    del sys.modules[name]
sys.meta_path.insert(0, Refuse())
for name in ("AF_NETLINK", "AF_PACKET", "AF_UNIX", "CMSG_LEN", "recv_fds", "send_fds", "SOCK_CLOEXEC"):
    if hasattr(socket, name):
        delattr(socket, name)
for name in ("geteuid", "getuid", "getpwuid", "O_CLOEXEC", "O_NOFOLLOW", "uname"):
    if hasattr(os, name):
        delattr(os, name)
sys.platform = "win32"


def without_proc(call):
    def guarded(path, *arguments, **named):
        if str(path).startswith(("/proc", "/sys")) and "eguard" in sys._getframe(1).f_globals.get("__name__", ""):
            raise FileNotFoundError(path)
        return call(path, *arguments, **named)
    return guarded


for module, name in ((os, "listdir"), (os, "open"), (os, "stat"), (os, "readlink"), (builtins, "open")):
    setattr(module, name, without_proc(getattr(module, name)))

from eguard.sensor import open_sensor, survey

found = [each.to_dict() for each in survey()]
sensor = open_sensor("auto", host_id="lab")
sensor.interval_seconds = 0.1
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(20)"], close_fds=False)
events = []
until = time.monotonic() + 10
while time.monotonic() < until and not any(each.pid == child.pid for each in events):
    events += sensor.poll(0.2).rows()
child.kill(); child.wait()
sensor.close()
seen = [each for each in events if each.pid == child.pid]
print(json.dumps({"survey": found, "sensor": sensor.name, "comm": [each.comm for each in seen],
                  "user": [each.user for each in seen]}))
"""


def test_elsewhere_the_portable_sensor_works_and_the_others_say_why_they_do_not():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    ebpf, connector, portable = answer["survey"]
    assert (ebpf["works"], ebpf["reason"]) == (False, "eBPF exists on Linux only")
    assert "psutil" in ebpf["remedy"]
    assert (connector["works"], connector["reason"]) == (False, "the process connector exists on Linux only")
    assert "psutil" in connector["remedy"]
    assert (portable["name"], portable["works"]) == ("psutil", True)
    assert answer["sensor"] == "psutil"
    assert [comm.startswith("python") for comm in answer["comm"]] == [True]
    assert "sensor unavailable" in done.stderr


def test_importing_the_sensors_takes_in_no_module_that_other_systems_lack():
    forbidden = ["pwd", "grp", "fcntl", "resource", "termios", "bcc", "pyroute2", "psutil"]
    program = (
        "import sys, numpy, msgspec, structlog\n"
        "before = set(sys.modules)\n"
        "import eguard.sensor\n"
        f"print(sorted(set({forbidden!r}) & (set(sys.modules) - before)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
