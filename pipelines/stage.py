"""How a stage runs: parameters in, progress to standard error, errors as one message, a verdict as exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eguard.cli.app import exit_code, report_error
from eguard.cli.output import progress_bar
from eguard.errors import EguardError
from eguard.mlops.params import apply_settings, load_params
from eguard.mlops.workspace import Workspace
from eguard.settings import load_mlops_settings

Stage = Callable[..., dict[str, Any]]


def run_stage(section: str, stage: Stage) -> None:
    """Run one stage in the current folder and end the process with its exit code.

    Parameters
    ----------
    section : str
        The stage's section of `params.yaml`.
    stage : callable
        ``stage(params, seed=..., workspace=..., progress=...)`` of a module of `eguard.mlops`.
    """
    try:
        params = apply_settings(load_params(Path("params.yaml")), load_mlops_settings())
        with progress_bar() as progress:
            stage(getattr(params, section), seed=params.base.seed, workspace=Workspace(), progress=progress)
    except EguardError as error:
        report_error(error)
        sys.exit(exit_code(error))
