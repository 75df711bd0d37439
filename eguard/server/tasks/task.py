"""A maintenance task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eguard.server.context import ServerContext

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Task:
    """Something that the server does by itself.

    Parameters
    ----------
    task_id : str
        Its name in paths, logs and metrics.
    description : str
        One sentence.
    schedule : str
        ``every 6h``, or five fields of cron in the server's local time.
    function : callable
        Does it. It may raise an `EguardError`; the progress callback raises where the run has to end.
    is_wanted : callable, optional
        Tells whether there is anything to do, cheaply, for it is asked every second once the task is due; until there
        is, the task stays due.
    is_routine : bool
        Whether it runs so often that of runs which went well only the latest is kept, and logs are silent on them.
    """

    task_id: str
    description: str
    schedule: str
    function: Callable[[ServerContext, Progress], dict[str, Any]]
    is_wanted: Callable[[ServerContext], bool] | None = None
    is_routine: bool = False
