"""`eguard simulate poison` as a user runs it, on the shipped hosts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).parents[2]


def poison(*arguments, cwd=ROOT):
    return subprocess.run(
        [sys.executable, "-c", "from eguard.cli.app import main; main()", "simulate", "poison", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_documented_command_answers_in_json():
    answer = poison("--share", "0.2", "--attack", "lie", "--json")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    result = json.loads(answer.stdout)
    (attack,) = result["attacks"]
    assert (result["agents"], result["liars"], result["process_key"]) == (50, 10, "svchost.exe:unknown")
    assert attack["attack"] == "lie"
    assert 0.0 < attack["total_variation"] <= attack["bound_total_variation"]
    assert attack["poisoned"]["tolerated_faults"] == 24
    assert set(attack["verdict"]) >= {"within_bound", "moved_more_than_mean", "sentence"}


def test_people_get_a_table_a_plot_and_a_verdict():
    answer = poison(
        "--share", "0.3", "--agents", "20", "--key", "svchost.exe:services.exe", "--attack", "min-sum", "--cycles", "5"
    )
    assert answer.returncode == 0, answer.stderr
    for words in ("svchost.exe:services.exe", "6 of them liars", "min-sum", "█", "JS to previous", "Bounded"):
        assert words in answer.stdout


def test_help_teaches():
    answer = poison("--help")
    assert answer.returncode == 0
    for words in ("--share", "--attack", "--cycles", "--aggregator", "--profiles", "--seed", "Examples"):
        assert words in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--share", "0.5"), "majority"),
        (("--share", "0.2", "--attack", "nope"), "one-hot, lie, fang, min-max, min-sum"),
        (("--share", "0.2", "--aggregator", "mode"), "geometric_median"),
        (("--share", "0.2", "--agents", "3"), "Raise --agents"),
        (("--share", "0.2", "--profiles", "nowhere.csv"), "no host profiles at nowhere.csv"),
        (("--share", "0.2", "--profiles", "README.md"), "no parser claims"),
    ],
)
def test_mistakes_are_answered_with_a_remedy(arguments, words):
    answer = poison(*arguments)
    assert answer.returncode == 2
    assert words in answer.stderr
    assert "remedy" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_over_http_a_server_program_is_attacked_and_the_table_says_so(tmp_path):
    picture = tmp_path / "shift.png"
    arguments = ("--over-http", "--dirichlet", "--agents", "20", "--share", "0.1", "--share", "0.3", "--plot", picture)
    answer = poison(*arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    result = json.loads(answer.stdout)
    assert [(row["share"], row["liars"]) for row in result["rows"]] == [(0.1, 2)] * 5 + [(0.3, 6)] * 5
    assert result["within_bound"] is True
    assert all(row["agent_count"] == 20 for row in result["rows"])
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--share 0.2"),
        (("--share", "0.1", "--share", "0.2"), "one share"),
        (("--share", "0.1", "--plot", "x.png"), "go with --over-http"),
        (("--over-http", "--cycles", "5"), "--cycles and --aggregator"),
        (("--over-http", "--share", "0.5"), "majority"),
        (("--over-http", "--agents", "5"), "Raise --agents"),
    ],
)
def test_options_that_do_not_fit_are_explained(arguments, words):
    answer = poison(*arguments)
    assert answer.returncode == 2, answer.stdout
    assert words in " ".join(answer.stderr.split())
