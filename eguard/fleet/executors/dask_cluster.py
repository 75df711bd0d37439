"""A Dask cluster: its scheduler is told by TLS who we are, and hands blocks to whichever worker is free.

Workers get votes as arrays and need no database. Work of a worker that is lost is done again by another one.
"""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any, Final, Self

import dask
import distributed
import numpy as np
from distributed.client import FutureCancelledError
from distributed.comm.core import CommClosedError

import eguard
from eguard.errors import FleetStoreError
from eguard.fleet.executors import BLOCKS_A_WORKER, EngineOptions, Executor, Result

#: How long connecting to the scheduler, or waiting for a first worker, may take.
CONNECT_SECONDS: Final = 10.0
#: How long one block may take, with all that is done before it.
BLOCK_SECONDS: Final = 300.0

# Their own types say little of what they take.
_dask: Any = dask
_distributed: Any = distributed

_LOST: Final = (distributed.KilledWorker, FutureCancelledError, CommClosedError, TimeoutError, OSError)


class DaskCluster(Executor):
    """A connection to a scheduler.

    Parameters
    ----------
    options : EngineOptions
        Address and certificates.

    Raises
    ------
    FleetStoreError
        ``engine_unavailable``: the scheduler does not answer, does not accept our certificate or has no workers;
        ``engine_versions``: workers have other versions than this process.
    """

    def __init__(self, options: EngineOptions) -> None:
        self._address = options.address
        security = _distributed.Security(
            tls_ca_file=str(options.ca),
            tls_client_cert=str(options.certificate),
            tls_client_key=str(options.key),
            require_encryption=True,
        )
        # A block of one large key is beyond what Dask takes for an accident.
        self._config = _dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 GiB"})
        try:
            self._client = _distributed.Client(
                options.address, security=security, timeout=CONNECT_SECONDS, set_as_default=False, name="eguard"
            )
        except (OSError, TimeoutError, CommClosedError) as error:
            self._config.__exit__(None, None, None)
            raise self._unavailable("does not answer, or not to our certificate", error) from error
        try:
            self._threads = self._count_threads()
            self._compare_versions()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster; what it still computes for us is dropped."""
        self._client.close()
        self._config.__exit__(None, None, None)

    def map(self, function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Yield what `function` returns for each tuple of arguments.

        Raises
        ------
        FleetStoreError
            ``engine_unavailable``: the scheduler or all workers were lost.
        """
        waiting: deque[Any] = deque()
        for call in calls:
            waiting.append(self._client.submit(function, *call, pure=False))
            if len(waiting) > BLOCKS_A_WORKER * self._threads:
                yield self._result(waiting.popleft())
        while waiting:
            yield self._result(waiting.popleft())

    def _result(self, future: Any) -> Any:
        try:
            return future.result(timeout=BLOCK_SECONDS)
        except _LOST as error:
            raise self._unavailable("lost the work", error) from error

    def _count_threads(self) -> int:
        try:
            self._client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except _LOST as error:
            raise self._unavailable("has no workers", error) from error
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def _compare_versions(self) -> None:
        ours = _own_versions()
        try:
            found: dict[str, Any] = self._client.run(versions)
        except (*_LOST, ImportError, AttributeError) as error:
            raise self._unavailable("has workers without eGuard", error) from error
        for worker, theirs in sorted(found.items()):
            if theirs != ours:
                raise FleetStoreError(
                    f"the Dask worker {worker} has {theirs}, and this process {ours}",
                    remedy="Install the same versions on all workers; another one may compute another generation.",
                    reason="engine_versions",
                )

    def _unavailable(self, what: str, error: BaseException) -> FleetStoreError:
        return FleetStoreError(
            f"the Dask cluster {self._address} (EGUARD_DASK_ADDRESS) {what}: {type(error).__name__}: {error}".rstrip(
                ": "
            ),
            remedy="Check EGUARD_DASK_ADDRESS, the EGUARD_DASK_TLS_ files, and that scheduler and workers run; or set "
            "EGUARD_AGGREGATION_ENGINE to local.",
            reason="engine_unavailable",
        )


def versions() -> dict[str, str]:
    """Return the versions of what computes, here or on a worker."""
    return {"eguard": eguard.__version__, "numpy": np.__version__, "python": platform.python_version()}


_own_versions: Final = versions
