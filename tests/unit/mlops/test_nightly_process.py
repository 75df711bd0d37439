"""`dvc repro` as a child, with a stand-in for DVC that does what a test tells it."""

import os
import signal
import subprocess
import time

import pytest

from eguard.mlops.nightly_process import reproduce

STAGES = ["corpus", "label_gate", "train"]


@pytest.fixture
def run(tmp_path):
    """Run a script in place of `dvc repro` and return how it ended."""

    def start(script, progress=None):
        package = tmp_path / "code" / "dvc"
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "__main__.py").write_text(script)
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "code"), "PYTHONUNBUFFERED": "1"}
        return reproduce(tmp_path, STAGES, environment, tmp_path / "pipeline.log", progress=progress)

    return start


def test_stages_are_told_as_they_begin_and_the_log_has_every_word(run, tmp_path):
    told = []
    outcome = run(
        "print(\"Running stage 'corpus':\")\nprint('hello')\nprint(\"Running stage 'train':\")",
        lambda *step: told.append(step),
    )
    assert outcome.returncode == 0
    assert told == [("corpus", 0, 3), ("train", 2, 3), ("train", 3, 3)]
    assert list(outcome.seconds) == ["corpus", "train"]
    assert "hello\n" in (tmp_path / "pipeline.log").read_text()


FAILURE = """
import sys
print("error: {message}")
print("remedy: {remedy}")
print("ERROR: failed to reproduce '{stage}': failed to run: python -m pipelines.{stage}, exited with {code}")
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("stage", "code", "is_gate"),
    [("label_gate", 1, True), ("offline_eval", 1, True), ("label_gate", 2, False), ("train", 1, False)],
)
def test_a_gates_no_is_told_from_a_failure(run, stage, code, is_gate):
    outcome = run(FAILURE.format(message="so it is", remedy="Do that.", stage=stage, code=code))
    assert (outcome.failed_stage, outcome.stage_exit, outcome.is_gate) == (stage, code, is_gate)
    assert (outcome.message, outcome.remedy) == ("so it is", "Do that.")


@pytest.mark.parametrize("words", ["[Errno 28] No space left on device: 'x'", "OSError: [Errno 27] File too large"])
def test_a_full_disk_is_no_gates_no(run, words):
    outcome = run(FAILURE.format(message=words, remedy="", stage="label_gate", code=1))
    assert outcome.is_out_of_space
    assert not outcome.is_gate


def test_without_words_of_eguard_the_last_line_is_the_cause(run):
    outcome = run("raise MemoryError('all of it')")
    assert (outcome.failed_stage, outcome.message) == ("", "MemoryError: all of it")


def test_what_is_begun_ends_when_the_progress_raises(run, tmp_path):
    """The stand-in begins a grandchild that would sleep for a minute; both are gone when the call returns."""
    script = f"""
import subprocess, time
child = subprocess.Popen(["sleep", "61.5"])
open({str(tmp_path / "pid")!r}, "w").write(str(child.pid))
print("Running stage 'corpus':")
time.sleep(60)
"""

    def stop(_label, _done, _total):
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run(script, stop)
    assert time.monotonic() - began < 20.0
    pid = int((tmp_path / "pid").read_text())
    for _ in range(100):
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        if state.stdout.strip()[:1] in {"", "Z"}:
            break
        time.sleep(0.05)
    else:
        os.kill(pid, signal.SIGKILL)
        pytest.fail("the grandchild outlived its run")
