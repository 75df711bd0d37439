"""Compiles and attaches the probes in a process of its own, and hands their file descriptors to the parent.

Compiler and headers would stay mapped for ever in whoever loads them, some 100 MiB; here they go with the process. The
probes stay, because the kernel keeps them for as long as somebody holds their descriptors.

This file is run by its path. It imports the standard library and bcc, so that nothing else has to be loaded first.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import socket
import sys
import warnings
from pathlib import Path
from typing import Any


def main() -> None:
    """Read the request from standard input, answer on standard output, send the descriptors through the socket."""
    request = json.load(sys.stdin)
    try:
        bcc = load_bcc(request["folder"])
    except (ImportError, OSError) as error:
        _answer({"refused": f"bcc cannot be loaded: {error}"})
        return
    if not hasattr(bcc, "BPF"):
        # PyPI has a package of that name which has nothing to do with the kernel.
        _answer({"refused": "the package named bcc is not the BPF compiler collection"})
        return
    program = bcc.BPF(text=Path(request["source"]).read_bytes(), cflags=request["flags"])
    maps = [program[name.encode()].map_fd for name in request["maps"]]
    attached = program.tracepoint_fds
    with socket.socket(fileno=request["socket"]) as parent:
        socket.send_fds(parent, [b"\x00"], [*maps, *attached.values()])
    _answer({"functions": len(program.funcs), "attached": sorted(name.decode() for name in attached)})
    # bcc would detach everything on a regular exit.
    os._exit(0)


def load_bcc(folder: str) -> Any:
    """Import bcc from one folder, and nothing else from there.

    Raises
    ------
    ImportError, OSError
        The package or a library that it needs is missing.
    """
    spec = importlib.machinery.PathFinder.find_spec("bcc", [folder])
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError("no module named bcc", name="bcc")
    bcc = importlib.util.module_from_spec(spec)
    sys.modules["bcc"] = bcc
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(bcc)
    return bcc


def _answer(document: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(document))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
