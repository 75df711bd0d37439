import os

import pytest


@pytest.fixture(autouse=True)
def _no_settings_of_this_machine(monkeypatch):
    for name in list(os.environ):
        if name.upper().startswith("EGUARD_"):
            monkeypatch.delenv(name)
