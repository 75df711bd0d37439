"""The page on the audit log: its hash is the one that a shell computes, its list of actions is whole."""

import ast
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "audit.md").read_text()
ACTION = re.compile(r"[a-z_]+\.[a-z_]+")
#: Strings of that shape that are no actions.
OTHER = re.compile(r".*\.(pem|json|py|sqlite|example|test)|eguard\..*|.*\.root|.*\.server")


def documented():
    table = PAGE.split("## Actions")[1]
    return {
        name
        for line in table.splitlines()
        if line.startswith("| `")
        for name in re.findall(r"`([^`]+)`", line)
        if ACTION.fullmatch(name)
    }


def written():
    """Return every action of the server's code: constants, and the beginnings of those that are put together."""
    whole, beginnings = set(), set()
    for path in sorted((ROOT / "eguard" / "server").rglob("*.py")):
        if "audit" not in (text := path.read_text()):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.JoinedStr) and isinstance(node.values[0], ast.Constant):
                if re.fullmatch(r"[a-z_]+\.", node.values[0].value):
                    beginnings.add(node.values[0].value)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and ACTION.fullmatch(node.value):
                whole.add(node.value)
    return {name for name in whole if not OTHER.fullmatch(name)}, beginnings


def test_the_hash_on_the_page_is_the_shells():
    (block,) = re.findall(r"```sh\n(.+?)```", PAGE, re.DOTALL)
    command, _, comment = block.rpartition("# ")
    told = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True).stdout
    assert told.split()[0] == comment.strip()


def test_every_action_is_on_the_page_and_nothing_else():
    whole, beginnings = written()
    assert {"nac.", "whitelist.", "policy_key."} == beginnings
    listed = documented()
    composed = {name for name in listed if name.startswith(tuple(beginnings))}
    assert {name.partition(".")[0] + "." for name in composed} == beginnings
    assert listed - composed == whole - composed
