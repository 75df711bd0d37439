"""`eguard server task`: what people and programs see of maintenance tasks."""

import json

import pytest
from typer.testing import CliRunner

from eguard.cli import server_tasks

RUN = {
    "run_id": "r1",
    "task_id": "retention",
    "started_by": "ada",
    "server_id": "host-1\x1b[31m",
    "status": "success",
    "started_at_unix": 1_772_000_000.0,
    "finished_at_unix": 1_772_000_002.5,
    "detail": {"removed": 7, "name": "<script>\x1b[31m"},
}


class Server:
    """Answers as the server does: the run ends at the third look."""

    def __init__(self):
        self.asked = []
        self.status = "success"
        self.looks = 0

    def get(self, path, **query):
        self.asked.append(("GET", path, query))
        if path.endswith("maintenance_tasks"):
            task = {"task_id": "retention", "description": "Removes.", "schedule": "30 3 * * *", "enabled": True}
            due = {"next_due_unix": 1_772_000_000.0, "running_on": None}
            return {"tasks": [{**task, **due, "last_run": RUN}, {**task, **due, "last_run": None, "enabled": False}]}
        self.looks += 1
        status = "running" if self.looks < 3 else self.status
        return {"runs": [{**RUN, "run_id": "r0"}, {**RUN, "status": status}]}

    def post(self, path, **body):
        self.asked.append(("POST", path, body))
        return {"task_id": "retention", "run_id": "r1", "status": "running"}


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setattr(server_tasks, "get", server.get)
    monkeypatch.setattr(server_tasks, "post", server.post)
    monkeypatch.setattr(server_tasks, "_POLL_SECONDS", 0.0)
    monkeypatch.setenv("COLUMNS", "200")
    return server


def call(*arguments):
    return CliRunner().invoke(server_tasks.app, list(arguments))


def test_tasks_are_listed_with_their_last_run(server):
    shown = call("list")
    assert shown.exit_code == 0
    assert "retention" in shown.output
    assert "success, 2026-02-2" in shown.output
    assert "disabled" in shown.output
    assert "never" in shown.output
    assert json.loads(call("list", "--json").output)["tasks"][0]["last_run"] == RUN


def test_a_run_is_waited_for(server):
    shown = call("run", "retention")
    assert shown.exit_code == 0
    assert server.looks == 3
    assert server.asked[0] == ("POST", "/config/maintenance_task/retention/run", {})
    assert "2.5" in shown.output


@pytest.mark.parametrize("status", ["failed", "lost"])
def test_a_run_that_did_not_do_its_work_is_an_exit_code(server, status):
    server.status = status
    shown = call("run", "retention", "--json")
    assert shown.exit_code == 1
    assert json.loads(shown.output)["status"] == status


def test_a_run_need_not_be_waited_for(server):
    shown = call("run", "retention", "--no-wait", "--json")
    assert (shown.exit_code, server.looks) == (0, 0)
    assert json.loads(shown.output)["run_id"] == "r1"


def test_history_steers_no_terminal(server):
    shown = call("history", "retention", "--limit", "5")
    assert shown.exit_code == 0
    assert "\x1b" not in shown.output
    assert server.asked == [("GET", "/config/maintenance_task/retention/runs", {"limit": "5"})]
    assert len(json.loads(call("history", "retention", "--json").output)["runs"]) == 2


def test_a_task_is_one_part_of_the_path(server):
    call("history", "../../endpoint/policy")
    assert server.asked[0][1] == "/config/maintenance_task/..%2F..%2Fendpoint%2Fpolicy/runs"
