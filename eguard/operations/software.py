"""Checks of what is installed and how it is set: settings, interpreter, packages, nft."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from eguard.errors import IsolationUnavailableError
from eguard.operations.check import Finding, failed, ok, warning
from eguard.operations.examination import Examination
from eguard.settings import explain_settings, unknown_variables

#: What the agent needs: the name to install it by, and the module that it brings.
PACKAGES: Final = {
    "httpcore2": "httpcore2",
    "msgspec": "msgspec",
    "numpy": "numpy",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "pydantic-settings": "pydantic_settings",
    "rich": "rich",
    "scipy": "scipy.special",
    "securesystemslib": "securesystemslib.signer",
    "structlog": "structlog",
    "tuf": "tuf.ngclient",
    "typer": "typer",
    "cryptography": "cryptography.x509",
}
SUPPORTED: Final = ((3, 11), (3, 13))


def check_settings(examination: Examination) -> Finding:
    """Check that settings can be read, and no variable is misspelt."""
    if examination.settings_error is not None:
        return failed(examination.settings_error.message, examination.settings_error.remedy)
    unknown = unknown_variables()
    if unknown:
        return warning(
            f"no such settings: {', '.join(unknown)}",
            "Correct or unset them; `eguard config show` lists the settings.",
        )
    changed = [
        f"{each.variable} ({each.origin})" for each in explain_settings(examination.config) if each.origin != "default"
    ]
    return ok(f"set here: {', '.join(changed)}" if changed else "all settings have their defaults")


def check_python(_: Examination) -> Finding:
    """Check that the interpreter is of a version that eGuard supports."""
    here = f"Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro} ({sys.executable})"
    if SUPPORTED[0] <= sys.version_info[:2] <= SUPPORTED[1]:
        return ok(here)
    return failed(
        f"{here} is not supported", "Install eGuard for Python 3.11, 3.12 or 3.13: python3.11 -m venv /opt/eguard"
    )


def check_packages(_: Examination) -> Finding:
    """Check that every package that the agent needs is there and can be loaded."""
    versions, broken = [], []
    for name, module in PACKAGES.items():
        try:
            importlib.import_module(module)
            versions.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            versions.append(name)
        # A compiled package for another interpreter fails with ImportError too.
        except ImportError as error:
            broken.append(f"{name} ({error})")
    if broken:
        return failed(
            f"cannot be loaded: {'; '.join(broken)}", "Install the agent's extra: pip install 'eguard[agent]'"
        )
    return ok(", ".join(versions))


def check_nft(_: Examination) -> Finding:
    """Check that the host could be isolated: nft is there and the kernel lets this process list packet filters."""
    from eguard.agent.isolation import Nft  # noqa: PLC0415 - only this check needs it

    try:
        table = Nft().read()
    except IsolationUnavailableError as error:
        return warning(f"this host cannot be isolated: {error.message}", error.remedy)
    return ok("nft answers; this host is not isolated" if table is None else "nft answers; this host is isolated")
