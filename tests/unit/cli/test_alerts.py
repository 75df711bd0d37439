"""`eguard alerts list` shows what waits, hostile names and all."""

import json

import pytest
from typer.testing import CliRunner

from eguard.agent.buffer import AlertBuffer
from eguard.cli import alerts
from eguard.detection.alert import Alert
from eguard.errors import AlertBufferError


@pytest.fixture
def state(tmp_path):
    buffer = AlertBuffer(tmp_path / "alerts.db")
    facts = {"host_id": "h", "event_class": "process_exec", "response": "alert_only"}
    buffer.append(
        [
            Alert(
                alert_id=f"id{number}",
                observed_at_unix=1_790_000_000.0 + number,
                process_key=f"evil\x1b[2J\udcff{number}:sh",
                confidence="high",
                reasons=("rule", "[red]x"),
                **facts,
            )
            for number in range(3)
        ]
    )
    yield tmp_path
    buffer.close()


def run(*arguments):
    return CliRunner().invoke(alerts.app, ["list", *map(str, arguments)], env={"COLUMNS": "200"})


def test_the_table_has_time_confidence_key_and_reasons_newest_first(state):
    answer = run("--state", state)
    assert answer.exit_code == 0, answer.output
    rows = [line for line in answer.stdout.split("\n") if "evil" in line]
    assert [row.split(":sh")[0][-1] for row in rows] == ["2", "1", "0"]
    for expected in ("2026-09-21 14:13:22", "high", "evil\ufffd[2J\\udcff2:sh", "rule, [red]x"):
        assert expected in rows[0]
    assert "\x1b" not in answer.stdout
    assert "3 of 3 alerts" in answer.stdout


def test_json_has_the_alerts_whole(state):
    answer = json.loads(run("--state", state / "alerts.db", "--json", "--limit", 2).stdout)
    assert (answer["waiting"], answer["appended"], answer["dropped"]) == (3, 3, 0)
    assert [alert["alert_id"] for alert in answer["alerts"]] == ["id2", "id1"]
    assert answer["alerts"][0]["reasons"] == ["rule", "[red]x"]


def test_a_folder_without_a_buffer_is_told(tmp_path):
    answer = run("--state", tmp_path)
    assert isinstance(answer.exception, AlertBufferError)
    assert "--state" in answer.exception.remedy
