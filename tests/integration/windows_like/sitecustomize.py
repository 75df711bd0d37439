"""A system like Windows, as far as Python shows a system, for a process and for those that it starts.

With the folder of this file on PYTHONPATH an interpreter runs it before anything else. It is this machine from which is
taken away what Windows does not have, and to which is added what Windows does that others do not:

* no modules of Unix, no netlink, packet or Unix sockets, no users, process groups and limits, no /proc for eGuard;
* no folder can be opened or synced, no call takes a folder's descriptor, no flag keeps from following links;
* a file opened without O_BINARY gets a carriage return before each line end that is written;
* a file that is open in this process can be neither renamed, replaced nor removed;
* `msvcrt.locking`, made from this machine's locks.

Libraries that have to know the real machine are imported first. What stays of this machine: the paths' form, the
calls inside of SQLite and psutil, and the scheduling of processes and threads.
"""

import errno
import importlib
import os
import sys
import types
from pathlib import Path

MODULES = {"fcntl", "resource", "termios", "pwd", "grp", "spwd", "syslog", "tty", "pty", "readline", "bcc", "pyroute2"}
KEPT = (
    "asyncio", "ctypes", "http.client", "logging", "multiprocessing", "platform", "secrets", "shutil", "signal",
    "socket", "sqlite3", "ssl", "subprocess", "tempfile", "urllib.request", "uuid", "numpy", "scipy.special", "psutil",
    "msgspec", "structlog", "pydantic", "pydantic_settings", "tuf.ngclient", "tuf.api.metadata",
    "securesystemslib.signer",
    "cryptography.hazmat.primitives.asymmetric.ed25519", "click", "typer", "rich.console", "rich.table",
)  # fmt: skip
MISSING = {
    "os": (
        "O_CLOEXEC", "O_DIRECTORY", "O_NOATIME", "O_NOFOLLOW", "O_NONBLOCK", "O_SYNC", "O_DSYNC", "O_TMPFILE", "O_PATH",
        "chown", "fchdir", "fchmod", "fchown", "fdatasync", "fork", "forkpty", "fwalk", "getegid", "geteuid", "getgid",
        "getgroups", "getloadavg", "getpgid", "getpgrp", "getpriority", "getsid", "getuid", "killpg", "lchown",
        "memfd_create", "mkfifo", "mknod", "nice", "pidfd_open", "posix_fallocate", "posix_spawn", "posix_spawnp",
        "pread", "pwrite", "readv", "writev", "sched_getaffinity", "sched_setaffinity", "sendfile", "setpgid",
        "setpriority", "setsid", "setuid", "statvfs", "fstatvfs", "sync", "sysconf", "uname", "wait", "wait3", "wait4",
    ),
    "signal": (
        "SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGPROF", "SIGQUIT", "SIGSTOP", "SIGUSR1", "SIGUSR2",
        "SIGXCPU", "setitimer", "getitimer", "alarm", "pause", "pthread_kill", "pthread_sigmask", "sigwait",
    ),
    "socket": ("AF_NETLINK", "AF_PACKET", "AF_UNIX", "CMSG_LEN", "SOCK_CLOEXEC", "SOCK_NONBLOCK", "recv_fds",
               "send_fds"),
}  # fmt: skip
O_BINARY = 0x8000  # Windows' number; means nothing here


class Refuse:
    """No module of that name is found."""

    def find_spec(self, name, *_):
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


class Files:
    """The calls of `os` on files as Windows answers them, made from those of this machine."""

    def __init__(self):
        self.real = types.SimpleNamespace(**{name: getattr(os, name) for name in (
            "open", "close", "read", "write", "replace", "rename", "unlink", "readlink", "listdir", "stat", "scandir",
            "dup2",
        )})  # fmt: skip
        self.text = set()  # descriptors whose line ends are translated

    def open(self, path, flags, mode=0o777, *, dir_fd=None):
        if dir_fd is not None:
            raise NotImplementedError("dir_fd unavailable on this platform")
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        refuse_proc(path)
        descriptor = self.real.open(path, flags & ~O_BINARY, mode)
        (self.text.discard if flags & O_BINARY else self.text.add)(descriptor)
        return descriptor

    def close(self, descriptor):
        self.text.discard(descriptor)
        self.real.close(descriptor)

    def read(self, descriptor, length):
        data = self.real.read(descriptor, length)
        return data.replace(b"\r\n", b"\n") if descriptor in self.text else data

    def write(self, descriptor, data):
        if descriptor not in self.text:
            return self.real.write(descriptor, data)
        self.real.write(descriptor, bytes(data).replace(b"\n", b"\r\n"))
        return len(data)

    def replace(self, source, target):
        self.refuse_held(source, target)
        self.real.replace(source, target)

    def rename(self, source, target):
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, "File exists", str(target))
        self.replace(source, target)

    def unlink(self, path):
        # This machine's temporary files lose their name while they are open; those of Windows go when they are closed.
        if calling_module() != "tempfile":
            self.refuse_held(path)
        self.real.unlink(path)

    def listdir(self, path="."):
        refuse_proc(path)
        return self.real.listdir(path)

    def stat(self, path, *, follow_symlinks=True):
        refuse_proc(path)
        return self.real.stat(path, follow_symlinks=follow_symlinks)

    def scandir(self, path="."):
        if isinstance(path, int):
            raise TypeError("scandir: path should be string, bytes, os.PathLike or None, not int")
        return self.real.scandir(path)

    def refuse_held(self, *paths):
        wanted = [str(Path(path).parent.resolve() / Path(path).name) for path in paths]
        for number in self.real.listdir("/proc/self/fd"):
            try:
                name = self.real.readlink(f"/proc/self/fd/{number}")
            except FileNotFoundError:
                continue
            if any(name == path or name.startswith(path + "/") for path in wanted):
                raise PermissionError(errno.EACCES, "The process cannot access the file because it is in use", name)


def calling_module():
    """Return the name of the module that called, beyond this one and those that only pass paths on."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__") in (__name__, "pathlib", "pathlib._local", "io", "os"):
        frame = frame.f_back
    return "" if frame is None else frame.f_globals.get("__name__", "")


def refuse_proc(path):
    if str(path).startswith(("/proc", "/sys")) and calling_module().startswith("eguard"):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))


def windows_locks():
    """Return a module `msvcrt` that can lock files."""
    fcntl = importlib.import_module("fcntl")
    module = types.ModuleType("msvcrt")
    module.LK_UNLCK, module.LK_LOCK, module.LK_NBLCK = 0, 1, 2

    def locking(descriptor, mode, length):
        assert length > 0
        try:
            fcntl.flock(descriptor, fcntl.LOCK_UN if mode == module.LK_UNLCK else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PermissionError(errno.EACCES, "Permission denied") from error

    module.locking = locking
    return module


def guarded_opening(real):
    def opening(path, *arguments, **named):
        refuse_proc(path)
        return real(path, *arguments, **named)

    return opening


def become_windows():
    """Change this process."""
    for name in KEPT:
        importlib.import_module(name)
    sys.modules["platform"].uname()  # remembered from here on
    sys.modules["shutil"]._use_fd_functions = False
    sys.modules["tempfile"]._O_TMPFILE_WORKS = False
    msvcrt = windows_locks()
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, Refuse())
    sys.modules["msvcrt"] = msvcrt
    for module, names in MISSING.items():
        for name in names:
            if hasattr(sys.modules[module], name):
                delattr(sys.modules[module], name)
    os.O_BINARY = O_BINARY
    for calls in (os.supports_dir_fd, os.supports_fd):
        calls.clear()
    files = Files()
    for name in ("open", "close", "read", "write", "replace", "rename", "unlink", "listdir", "stat", "scandir"):
        setattr(os, name, getattr(files, name))
    os.remove = files.unlink
    io, builtins = sys.modules["io"], sys.modules["builtins"]
    io.open = builtins.open = guarded_opening(io.open)
    sys.platform = "win32"


if __name__ == "sitecustomize":
    try:
        become_windows()
    except BaseException:  # noqa: BLE001 - an error here would be printed and passed over
        sys.excepthook(*sys.exc_info())
        os._exit(97)
