"""Addresses of folders of this machine."""

import importlib
from pathlib import Path, PureWindowsPath

import pytest

from eguard.bundle import addresses


@pytest.mark.parametrize("path", ["/srv/rules", "/srv/rule sets/100%", "/srv/ä?#"])
def test_a_path_comes_back(path):
    assert addresses.path_of_address(Path(path).as_uri()) == Path(path)


@pytest.mark.parametrize("path", [r"C:\rules", r"D:\rule sets\100%", r"C:\ProgramData\eGuard\ä"])
def test_on_windows_a_path_comes_back(path, monkeypatch):
    windows = importlib.import_module("nturl2path")  # what `urllib.request` uses there
    monkeypatch.setattr(addresses, "url2pathname", windows.url2pathname)
    monkeypatch.setattr(addresses, "Path", PureWindowsPath)
    assert addresses.path_of_address(PureWindowsPath(path).as_uri()) == PureWindowsPath(path)
