"""A drill's course: what is kept of commands, rows and checks, and that it fails when anything does."""

import json

import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.errors import ConfigError, EvidenceError
from eguard.evidence.known_secrets import KnownSecret
from eguard.evidence.readiness import drills
from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.evidence.redaction import Redactor
from eguard.fleet.database import Database

NOW = 1_772_000_000.0


def course(drill="loop", **named):
    return Course(drill, Redactor([KnownSecret("TOKEN", "s3same-open")]), SimulatedClock(NOW), **named)


def test_a_command_is_kept_with_its_exit_code_and_what_it_printed(monkeypatch):
    monkeypatch.setenv("EGUARD_API_TOKEN", "s3same-open")
    made = course()
    found = made.run("config", "show")
    assert {each["variable"] for each in found["settings"]} >= {"EGUARD_API"}
    (kept,) = made.record()["commands"]
    assert (kept["command"], kept["exit_code"], kept["at"]) == (
        "eguard config show",
        0,
        "2026-02-25T06:13:20.000+00:00",
    )
    assert kept["output"]["settings"]


def test_a_command_that_fails_ends_the_drill_and_is_kept(monkeypatch):
    monkeypatch.setenv("EGUARD_EVIDENCE_PATH", "")
    made = course()
    with pytest.raises(EvidenceError, match="`eguard config show` ended with 2"):
        made.run("config", "show")
    (kept,) = made.record()["commands"]
    assert kept["exit_code"] == 2
    assert "EGUARD_EVIDENCE_PATH" in kept["said"]


def test_what_is_run_apart_sees_none_of_this_machines_settings(monkeypatch):
    monkeypatch.setenv("EGUARD_DATABASE_URL", "sqlite:////nowhere/fleet.db")
    found = course().run("config", "show", is_apart=True)
    (url,) = [each for each in found["settings"] if each["variable"] == "EGUARD_DATABASE_URL"]
    assert (url["value"], url["origin"]) == ("", "default")


def test_rows_are_kept_and_of_a_poll_the_last_answer():
    database = Database("sqlite://")
    made = course(database=database)
    for number in (1, 2):
        rows = made.rows("numbers", sa.select(sa.literal(number).label("n"), sa.literal("s3same-open").label("t")))
    assert rows == [{"n": 2, "t": "s3same-open"}]
    (kept,) = made.record()["observed"]
    assert (kept["title"], kept["rows"]) == ("numbers", [{"n": 2, "t": "[redacted]"}])
    assert kept["query"].startswith("SELECT")
    database.dispose()


def test_a_drill_of_the_fleet_says_where_it_has_to_be_run():
    with pytest.raises(EvidenceError, match="fleet's database"):
        course().rows("x", sa.select(sa.literal(1)))


@pytest.mark.parametrize(
    ("checks", "error", "passed"),
    [([True], "", True), ([True, False], "", False), ([], "", False), ([True], "broke off", False)],
)
def test_a_drill_passes_if_every_check_did_and_there_was_one(checks, error, passed):
    made = course()
    for each in checks:
        made.check("x", 1, "y", passed=each)
    assert made.record(error)["passed"] is passed


def test_no_secret_is_in_a_record():
    made = course(target={"database": "mysql://e:pass-word-1@db/x"})
    made.check("token", {"token": "x", "seen": ["s3same-open"]}, "none", passed=True)
    text = json.dumps(made.record("s3same-open --password hunter2"))
    assert not any(secret in text for secret in ("s3same", "pass-word-1", "hunter2"))


def test_waiting_ends_when_it_is_so_or_time_is_over():
    seen = []
    assert course().wait(lambda: bool(seen) or seen.append(1), 5.0, "x")
    assert not course().wait(lambda: False, 0.0, "x")


def test_whatever_goes_wrong_a_record_comes_of_it(monkeypatch):
    def broken(_course, _options):
        raise ConfigError("no such thing", remedy="Look elsewhere")

    monkeypatch.setattr("eguard.evidence.readiness.drills.loop.run", broken)
    record = drills.run_drill(course(), DrillOptions())
    assert (record["error"], record["passed"]) == ("no such thing. Look elsewhere", False)


def test_an_unknown_drill_is_named_with_those_that_there_are():
    with pytest.raises(ConfigError, match="no drill 'luup'") as refused:
        drills.title_of("luup")
    assert "kill-switch" in refused.value.remedy
