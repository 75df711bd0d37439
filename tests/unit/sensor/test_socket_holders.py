import os
import socket
import subprocess
import sys

import pytest

from eguard.sensor import socket_holders
from eguard.sensor.socket_holders import first_holders, oldest_holders, socket_inodes

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="there is no /proc")


@pytest.fixture
def sockets():
    with socket.socket() as one, socket.socket() as other:
        yield one, other


@pytest.fixture
def heir(sockets):
    """A child that inherited the first of the sockets."""
    descriptor = sockets[0].fileno()
    os.set_inheritable(descriptor, True)  # noqa: FBT003 - the function's own signature
    with subprocess.Popen(["/bin/sleep", "60"], pass_fds=[descriptor]) as child:
        yield child
        child.kill()


def _inode(each):
    return os.fstat(each.fileno()).st_ino


@pytest.mark.parametrize("find", [first_holders, oldest_holders])
def test_a_socket_that_a_child_inherited_is_its_parents(sockets, heir, find):
    inodes = [_inode(each) for each in sockets]
    assert inodes[0] in socket_inodes(heir.pid)
    assert find(inodes) == dict.fromkeys(inodes, os.getpid())


@pytest.mark.parametrize("child_ticks", [5_120, 5_121], ids=["same-tick", "later"])
@pytest.mark.parametrize("find", [first_holders, oldest_holders])
def test_numbers_that_began_again_at_the_low_ones_make_no_child_the_elder(monkeypatch, find, child_ticks):
    parents = {30_818: 1, 347: 30_818, 412: 347}
    started = {30_818: 5_120, 347: child_ticks, 412: 5_122}
    monkeypatch.setattr(socket_holders, "process_ids", parents.keys)
    monkeypatch.setattr(socket_holders, "socket_inodes", lambda pid: iter([9] if pid in parents else []))
    monkeypatch.setattr(socket_holders, "read_parent", lambda pid: parents.get(pid, 0))
    monkeypatch.setattr(socket_holders, "read_start_ticks", started.get)
    assert find([9]) == {9: 30_818}


def test_candidates_are_asked_first_and_nobody_else_if_they_know(sockets, monkeypatch):
    asked = []
    real = socket_inodes
    monkeypatch.setattr(socket_holders, "socket_inodes", lambda pid: asked.append(pid) or real(pid))
    inodes = [_inode(each) for each in sockets]
    assert first_holders(inodes, [os.getpid()]) == dict.fromkeys(inodes, os.getpid())
    assert asked == [os.getpid(), os.getppid()]


def test_a_candidate_that_is_gone_is_passed_over(sockets):
    child = subprocess.Popen(["/bin/true"])
    child.wait()
    inode = _inode(sockets[0])
    assert first_holders([inode], [child.pid]) == {inode: os.getpid()}


def test_a_socket_that_nobody_holds_has_no_holder():
    with socket.socket() as each:
        inode = _inode(each)
    assert first_holders([inode]) == {}
    assert first_holders([]) == {}
