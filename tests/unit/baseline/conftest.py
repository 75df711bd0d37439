"""Locks of Windows, made from those of this machine."""

import importlib.util
import sys
from pathlib import Path

import pytest

WINDOWS_LIKE = Path(__file__).parents[2] / "integration" / "windows_like" / "sitecustomize.py"


@pytest.fixture
def msvcrt(monkeypatch):
    """Return a module `msvcrt`, which can be imported for the length of a test."""
    spec = importlib.util.spec_from_file_location("eguard_windows_like", WINDOWS_LIKE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    locks = module.windows_locks()
    monkeypatch.setitem(sys.modules, "msvcrt", locks)
    return locks
