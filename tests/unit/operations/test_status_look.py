"""A status file of this version, of another, and of an agent that is gone."""

import json

from eguard.operations.status_look import look_at_status
from eguard.policy import ServerVerdict


def test_a_status_without_anything_is_read_all_the_same(tmp_path):
    (tmp_path / "status.json").write_text("{}")
    look = look_at_status(tmp_path, 100.0)
    assert (look.exists, look.is_running, look.has_control) == (True, False, False)
    assert look.duty("policy").last_error == ""
    assert look.server_said("upload") is ServerVerdict.ERROR


def test_what_a_later_version_adds_is_passed_over(tmp_path):
    control = {"policy": {"server_said": {"upload": "disabled", "seed": "a later word"}, "mood": 1}, "mood": {}}
    (tmp_path / "status.json").write_text(
        json.dumps({"state": "running", "written_at_unix": 99.0, "control": control, "mood": "good"})
    )
    look = look_at_status(tmp_path, 100.0)
    assert (look.is_running, look.age_seconds) == (True, 1.0)
    assert look.server_said("upload") is ServerVerdict.DISABLED
    assert look.server_said("seed") is ServerVerdict.ERROR


def test_a_status_of_40_seconds_ago_is_no_agents_at_work(tmp_path):
    (tmp_path / "status.json").write_text(json.dumps({"state": "running", "written_at_unix": 100.0}))
    assert look_at_status(tmp_path, 140.0).is_running
    look = look_at_status(tmp_path, 140.5)
    assert (look.is_running, look.idle) == (False, "no agent runs here: the last one wrote its last status 40 s ago")


def test_without_a_status_no_agent_has_run(tmp_path):
    assert look_at_status(tmp_path, 0.0).idle == "no agent has run here yet"
