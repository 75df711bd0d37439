"""A shard as its agent sees it: a process that is started, asked, waited for with a limit, and ended."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from typing import Final

import msgspec

from eguard.agent.shards.messages import AnyAnswer, decode_answer, receive_frame, send_frame
from eguard.errors import ShardLostError

#: How long a process that was told to end may take before it is killed.
END_SECONDS: Final = 2.0
#: How long a process whose socket is closed may take until it is gone.
EXIT_CODE_SECONDS: Final = 1.0


class ShardProcess:
    """One running shard.

    It is a new interpreter, not a fork: the agent has threads, and a fork would copy their locks as they are.

    Parameters
    ----------
    memory : int
        Descriptor of the shared profiles.
    answer_seconds : float
        How long the shard may take to read a request, and to answer it.

    Raises
    ------
    OSError
        No process can be started.
    """

    def __init__(self, memory: int, answer_seconds: float) -> None:
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(answer_seconds)
        self._trouble = ""
        self._has_ended = False
        descriptors = (theirs.fileno(), memory)
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter and this package
                # -P: a file in the working directory must not be taken for a module.
                [sys.executable, "-P", "-m", "eguard.agent.shards.worker", *map(str, descriptors)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,  # standard output belongs to the agent's alerts
                pass_fds=descriptors,
            )
        except OSError:
            self._connection.close()
            raise
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def send(self, request: bytes) -> None:
        """Send a request. If the shard does not take it, `receive` says so."""
        try:
            send_frame(self._connection, request)
        except OSError as error:
            self._trouble = self._reason(error)

    def receive(self) -> AnyAnswer:
        """Return the answer to the earliest request that was not answered yet.

        Raises
        ------
        ShardLostError
            The shard is gone, answers nonsense, or does not answer in time.
        """
        if self._trouble:
            raise ShardLostError(f"a detection shard {self._trouble}", reason=self._trouble)
        try:
            return decode_answer(receive_frame(self._connection))
        except (EOFError, OSError, msgspec.DecodeError) as error:
            reason = self._reason(error)
            raise ShardLostError(f"a detection shard {reason}", reason=reason) from error

    def hang_up(self) -> None:
        """Tell the process to end."""
        self._connection.close()

    def end(self, until: float) -> int:
        """Hang up, wait until `until` on the monotonic clock, kill what is left; return the exit code."""
        self.hang_up()
        try:
            return self._process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def kill(self) -> int:
        """End the process, if it has not just ended by itself; return its exit code, minus the number of a signal."""
        try:
            # Its socket is closed a moment before its exit code is known.
            code = self._process.wait(EXIT_CODE_SECONDS if self._has_ended else 0.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self.hang_up()
        return code

    def _reason(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return "did not answer in time"
        if isinstance(error, msgspec.DecodeError):
            return "answered nonsense"
        self._has_ended = True
        return "ended"
