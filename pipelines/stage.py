"""How a stage runs: parameters in, progress to standard error, errors as one message, a verdict as exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from eguard.cli.app import exit_code, report_error
from eguard.cli.output import progress_bar
from eguard.errors import EguardError
from eguard.mlops.headline import write_headlines
from eguard.mlops.section import load_section
from eguard.mlops.workspace import Workspace
from eguard.settings import load_mlops_settings

Stage = Callable[..., dict[str, Any]]


def run_stage(name: str, model: type[BaseModel], stage: Stage) -> None:
    """Run one stage in the current folder and end the process with its exit code.

    Parameters
    ----------
    name : str
        The stage's section of `params.yaml`.
    model : type
        What that section has to be.
    stage : callable
        ``stage(params, seed=..., workspace=..., progress=...)`` of a module of `eguard.mlops`.
    """
    try:
        base, section = load_section(Path("params.yaml"), name, model, load_mlops_settings())
        workspace = Workspace()
        with progress_bar() as progress:
            report = stage(section, seed=base.seed, workspace=workspace, progress=progress)
        write_headlines(name, report, workspace)
    except EguardError as error:
        report_error(error)
        sys.exit(exit_code(error))
