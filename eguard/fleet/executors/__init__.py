"""Where blocks of votes are aggregated: in this process, in a pool of processes, or on a Dask cluster.

All run the one function `eguard.fleet.blocks.aggregate_block` on the same blocks and give results back in the order of
the blocks, so that a generation does not tell where it was computed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar

from eguard.errors import ConfigError
from eguard.fleet.blocks import Block, BlockResult, aggregate_block
from eguard.fleet.kernel import AggregationRules

if TYPE_CHECKING:  # processes of a pool take no settings, and the library behind them weighs 8 MiB in each
    from eguard.settings import ServerSettings

Engine = Literal["local", "dask"]
Result = TypeVar("Result")
#: Blocks that are under way for each thread of a cluster: one travels while another is worked on.
BLOCKS_A_WORKER: Final = 2


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """Where to aggregate.

    Parameters
    ----------
    engine : {"local", "dask"}
    workers : int
        Processes of the engine `local`; 1 works in this process.
    address : str
        Of the Dask scheduler: ``tls://HOST:PORT``.
    ca, certificate, key : Path, optional
        PEM files: the authority of the cluster, and what this process shows.

    Raises
    ------
    ConfigError
        The engine is `dask`, and one of the files or an address that begins with ``tls://`` is missing: a scheduler
        runs whatever it is sent, by whomever.
    """

    engine: Engine = "local"
    workers: int = 1
    address: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def of(cls, settings: ServerSettings) -> EngineOptions:
        """Return what the server's settings ask for."""
        return cls(
            engine=settings.aggregation_engine,
            workers=settings.aggregation_workers,
            address=settings.dask_address,
            ca=settings.dask_tls_ca,
            certificate=settings.dask_tls_cert,
            key=settings.dask_tls_key,
        )

    def __post_init__(self) -> None:
        if self.engine not in ("local", "dask"):
            raise ConfigError(f"there is no aggregation engine {self.engine!r}", remedy="Choose local or dask.")
        if self.workers < 1:
            raise ConfigError(f"workers must be at least 1, got {self.workers}", parameter="workers")
        if self.engine == "dask":
            self._check_cluster()

    def _check_cluster(self) -> None:
        if not self.address.startswith("tls://"):
            raise ConfigError(
                "EGUARD_DASK_ADDRESS is no address of a Dask scheduler with TLS",
                remedy="Set it to tls://HOST:PORT of the scheduler; clusters without TLS are not used.",
            )
        for name, path in (("CA", self.ca), ("CERT", self.certificate), ("KEY", self.key)):
            if path is None or not path.is_file():
                raise ConfigError(
                    f"EGUARD_DASK_TLS_{name} names no file" if path is None else f"there is no file {path}",
                    remedy=f"Set EGUARD_DASK_TLS_{name} to a PEM file; docs/how-to/cluster.md shows how to make it.",
                )


class Executor(ABC):
    """Runs functions of arguments that may travel."""

    #: Whether what runs there sees this machine's files.
    sees_files: ClassVar[bool] = False

    @abstractmethod
    def map(self, function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Yield what `function` returns for each tuple of arguments, in their order, taking few ahead.

        Raises
        ------
        FleetStoreError
            ``engine_unavailable``: the work was lost repeatedly.
        """

    def aggregate(self, blocks: Iterable[Block], rules: AggregationRules) -> Iterator[BlockResult]:
        """Yield the results of blocks in their order."""
        return self.map(aggregate_block, ((block, rules) for block in blocks))


class InProcess(Executor):
    """The executor that needs nothing."""

    def map(self, function: Callable[..., Result], calls: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
        """Yield what `function` returns for each tuple of arguments."""
        return (function(*call) for call in calls)


@contextmanager
def open_executor(options: EngineOptions) -> Iterator[Executor]:
    """Start what `options` ask for, and end it afterwards.

    Raises
    ------
    FleetStoreError
        ``engine_unavailable``: the cluster cannot be reached or has no workers, or the work was lost repeatedly.
    """
    if options.engine == "dask":
        from eguard.fleet.executors.dask_cluster import DaskCluster  # noqa: PLC0415 - an optional dependency

        with DaskCluster(options) as cluster:
            yield cluster
    elif options.workers > 1:
        from eguard.fleet.executors.process_pool import ProcessPool  # noqa: PLC0415 - which starts processes

        with ProcessPool(options.workers) as pool:
            yield pool
    else:
        yield InProcess()
