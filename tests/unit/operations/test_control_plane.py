"""How the agent's duties went, read from the status that it wrote."""

import pytest

SERVER = "https://localhost:8443"


@pytest.mark.parametrize("name", ["policy", "heartbeat", "control_plane"])
def test_an_agent_that_works_alone_has_no_duties(examine, name):
    assert examine(name).state == "skipped"


@pytest.mark.parametrize("name", ["heartbeat", "control_plane"])
def test_before_the_first_start_there_is_nothing_to_judge(examine, settings, name):
    assert examine(name, with_settings=settings(server=SERVER)).state == "skipped"


def test_an_answered_heartbeat_is_fine(examine, settings, write_status):
    write_status(heartbeat={"server_ahead_seconds": 0.25})
    found = examine("heartbeat", with_settings=settings(server=SERVER))
    assert found.state == "ok"
    assert found.cause.startswith("answered ")
    assert "differs by 0.2 s" in found.cause


@pytest.mark.parametrize(
    ("status", "state", "says", "helps"),
    [
        ({"state": "stopped"}, "warning", "the last one ended 1 s ago", "eguard agent run"),
        ({"age_seconds": 50.0}, "warning", "wrote its last status 50 s ago", "eguard agent run"),
        (
            {"duties": {"heartbeat": {"last_error": "no", "last_error_code": "certificate_revoked"}}},
            "failed",
            "the latest heartbeat failed, the last answer came 5 s ago: no",
            "eguard server agent decommission agent-7",
        ),
        (
            {"duties": {"heartbeat": {"last_success_unix": None}}},
            "warning",
            "no heartbeat was answered yet",
            "Wait",
        ),
        (
            {"duties": {"heartbeat": {"interval_seconds": 1.0}}},
            "warning",
            "one is due every 1 s",
            "eguard agent status",
        ),
        ({"heartbeat": {"server_ahead_seconds": -600.0}}, "warning", "600 s ahead of the server's", "clock_sync"),
        ({"heartbeat": {"server_ahead_seconds": 600.0}}, "warning", "600 s behind the server's", "clock_sync"),
    ],
    ids=["stopped", "lost", "revoked", "none yet", "late", "ahead", "behind"],
)
def test_each_reason_for_a_missing_heartbeat_is_told(examine, settings, write_status, status, state, says, helps):
    write_status(**status)
    found = examine("heartbeat", with_settings=settings(server=SERVER))
    assert (found.state, says in found.cause, helps in found.remedy) == (state, True, True), found


def test_all_duties_are_listed_with_their_last_success(examine, settings, write_status):
    write_status(duties={"telemetry": {}, "policy": {"last_success_unix": None}}, buffer={"waiting": 3})
    found = examine("control_plane", with_settings=settings(server=SERVER))
    assert found.state == "ok"
    assert "heartbeat 5 s ago, policy never, telemetry 5 s ago; 3 alerts wait" in found.cause.replace("6 s", "5 s")


@pytest.mark.parametrize(
    ("status", "state", "says"),
    [
        ({"duties": {"telemetry": {"last_error": "broke off"}}}, "failed", "telemetry (last success 5 s ago): broke"),
        ({"policy": {"refusals_total": 2}}, "warning", "refused 2 policies"),
        ({"buffer": {"waiting": 1001}}, "warning", "1,001 alerts wait"),
        ({"telemetry": {"refused": 4}}, "warning", "refused 4 alerts"),
        ({"state": "stopped"}, "warning", "no agent runs here"),
    ],
    ids=["failing", "policies", "backlog", "refused", "stopped"],
)
def test_what_piles_up_or_fails_is_told(examine, settings, write_status, status, state, says):
    write_status(**status)
    found = examine("control_plane", with_settings=settings(server=SERVER))
    assert (found.state, says in found.cause.replace("6 s", "5 s")) == (state, True), found
    assert found.remedy


def test_a_heartbeat_that_fails_is_left_to_its_own_check(examine, settings, write_status):
    write_status(duties={"heartbeat": {"last_error": "no"}})
    assert examine("control_plane", with_settings=settings(server=SERVER)).state == "ok"


def test_an_agent_started_before_there_was_a_server_is_told(examine, settings, write_status, tmp_path):
    write_status()
    path = settings().state_path / "status.json"
    path.write_bytes(path.read_bytes().split(b',"control"')[0] + b"}")
    found = examine("heartbeat", with_settings=settings(server=SERVER))
    assert (found.state, "works alone" in found.cause, found.remedy) == ("warning", True, "Restart the agent.")


def test_a_status_that_cannot_be_read_is_told(examine, settings):
    settings().state_path.mkdir()
    (settings().state_path / "status.json").write_text("{")
    found = examine("heartbeat", with_settings=settings(server=SERVER))
    assert (found.state, "status.json cannot be read" in found.cause) == ("failed", True)


def test_a_policy_in_force_is_described(examine, settings, keep_policy, write_status):
    keep_policy({"fleet_seed_enabled": False})
    write_status()
    found = examine("policy", with_settings=settings(server=SERVER))
    assert found.state == "ok"
    assert "upload on (by environment, share 100 %), seeds off (by policy, share 100 %)" in found.cause
    assert "canary bucket 6043 of 10000; the server could not be asked: " in found.cause


def test_a_missing_policy_is_told_with_what_keeps_it(examine, settings, write_status):
    here = settings(server=SERVER)
    assert "No agent has run here yet." in examine("policy", with_settings=here).remedy
    write_status(duties={"policy": {"last_error": "no secure channel"}})
    found = examine("policy", with_settings=here)
    assert (found.state, "Fetching it fails: no secure channel" in found.remedy) == ("warning", True)


def test_a_policy_for_another_agent_does_not_count(examine, settings, keep_policy):
    keep_policy(agent_id="agent-8")
    found = examine("policy", with_settings=settings(server=SERVER))
    assert (found.state, "is for 'agent-8', not for 'agent-7'" in found.cause) == ("failed", True)
