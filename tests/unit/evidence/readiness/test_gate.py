"""The gate: what ticks a box, and everything that unticks it again."""

import dataclasses
import json
import os
import shutil
from html import unescape

import pytest

import eguard.evidence.readiness.gate as gate_module
from eguard import __version__
from eguard.bundle.keys import make_signer
from eguard.evidence.readiness import BOXES, RecordFolder, judge_readiness
from eguard.evidence.readiness.boxes import Box
from eguard.evidence.readiness.drills import DRILLS, title_of
from eguard.evidence.readiness.page import readiness_page
from eguard.evidence.signing import Custody, build_statement, seal

NOW = 1_772_000_000.0
DAY = 86_400.0
BOX = (Box("Kill switch tested", ("kill-switch",), 90.0),)

#: Section 11 of the operations manual, as printed.
MANUAL = """\
- [ ] Upload → aggregate → fleet fetch → seed apply verified on real endpoints
- [ ] Canary progression 1%→5%→20%→100% completed without Sev-1/2 incident
- [ ] Kill switch tested and proven without restart
- [ ] Rollback tested and documented
- [ ] Dashboard/alerts configured and tested
- [ ] eBPF production build parity verified (linux)
- [ ] Threat-intel bundle signature path clean
- [ ] mTLS configured for production transport
- [ ] Evidence pack archived (logs, SQL outputs, screenshots)
"""


def record(drill="kill-switch", **changes):
    return {
        "drill": drill,
        "eguard": __version__,
        "started_at": "2026-02-24T06:13:20.000+00:00",
        "started_at_unix": NOW - DAY,
        "commands": [{"command": "eguard policy kill", "exit_code": 0, "seconds": 1.0}],
        "observed": [],
        "checks": [{"name": "stopped", "observed": 2.5, "asked": "at most 60", "passed": True}],
        "target": {},
        "error": "",
        "passed": True,
        **changes,
    }


@pytest.fixture
def records(tmp_path):
    made = RecordFolder(Custody(tmp_path / "evidence"))
    made.write("kill-switch", record())
    return made


def why(records, now=NOW, boxes=BOX):
    (box,) = judge_readiness(records, now, boxes).boxes
    assert box.is_ticked is box.drills[0].counts
    return "" if box.is_ticked else box.drills[0].why


def test_the_boxes_are_the_manuals():
    assert "".join(f"- [ ] {box.title}\n" for box in BOXES) == MANUAL


def test_every_box_has_drills_and_every_drill_a_box_and_a_title():
    named = [drill for box in BOXES for drill in box.drills]
    assert all(box.drills and box.valid_days > 0 for box in BOXES)
    assert sorted(named) == sorted(DRILLS)
    assert all(title_of(drill) for drill in DRILLS)


def test_a_record_that_holds_ticks_its_box(records):
    assert why(records) == ""


def test_nothing_is_ready_without_records(tmp_path):
    found = judge_readiness(RecordFolder(Custody(tmp_path)), NOW)
    assert not found.is_ready
    assert not any(box.is_ticked for box in found.boxes)
    assert found.boxes[0].drills[0].why == "it was never run here"


def test_all_boxes_make_it_ready_and_one_less_does_not(records):
    for drill in DRILLS:
        records.write(drill, record(drill))
    assert judge_readiness(records, NOW).is_ready
    for drill in DRILLS:
        kept = records.path_of(drill).read_bytes()
        records.path_of(drill).unlink()
        assert not judge_readiness(records, NOW).is_ready, drill
        records.path_of(drill).write_bytes(kept)
    assert judge_readiness(records, NOW).is_ready


def test_a_deleted_record_unticks_its_box(records):
    records.path_of("kill-switch").unlink()
    assert why(records) == "it was never run here"


def test_a_record_is_too_old_from_one_moment_to_the_next(records):
    assert why(records, NOW - DAY + 90 * DAY) == ""
    assert "91.0 days old and counts for 90" in why(records, NOW + 90 * DAY)
    assert "is 90.0 days old" in why(records, NOW - DAY + 90 * DAY + 1)


def test_a_record_of_the_future_does_not_count(records):
    assert "of the future" in why(records, NOW - 2 * DAY)


def test_touching_the_file_makes_no_record_young(records):
    os.utime(records.path_of("kill-switch"), (NOW + 90 * DAY,) * 2)
    assert "days old" in why(records, NOW + 91 * DAY)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"passed": False, "error": "it broke off"}, "failed: it broke off"),
        (
            {"passed": False, "checks": [{"name": "stopped", "observed": 99, "asked": "60", "passed": False}]},
            "failed: stopped: 99",
        ),
        ({"eguard": "0.0.1"}, "was run with eGuard 0.0.1"),
    ],
)
def test_a_record_that_does_not_pass_here_and_now_does_not_count(records, changes, said):
    records.write("kill-switch", record(**changes))
    assert said in why(records)


def test_a_later_run_that_fails_unticks_what_an_earlier_one_ticked(records):
    records.write("kill-switch", record(passed=False, error="no agent"))
    assert why(records)


def test_every_byte_of_a_record_counts(records):
    path = records.path_of("kill-switch")
    envelope = json.loads(path.read_bytes())
    payload = envelope["payload"]
    for place in range(0, len(payload), 97):
        spoilt = payload[:place] + ("A" if payload[place] != "A" else "B") + payload[place + 1 :]
        path.write_text(json.dumps(envelope | {"payload": spoilt}))
        assert "does not count" in why(records), place


def test_a_record_under_another_name_does_not_count(records):
    shutil.copy(records.path_of("kill-switch"), records.path_of("rollback"))
    assert "the record of the drill 'kill-switch'" in why(records, boxes=(Box("Rollback", ("rollback",), 90.0),))


def test_a_record_that_somebody_else_signed_does_not_count(records, tmp_path):
    other = RecordFolder(Custody(tmp_path / "other"))
    shutil.copy(other.write("kill-switch", record()), records.path_of("kill-switch"))
    assert "not signed by a trusted key" in why(records)


def test_a_signed_statement_of_another_kind_is_no_record(records, tmp_path):
    signer = make_signer(tmp_path / "k.pem")
    envelope = seal(build_statement({"x": "0" * 64}, "urn:eguard:evidence-pack:v1", record()), signer)
    records.path_of("kill-switch").write_bytes(envelope)
    assert why(records)


@pytest.mark.parametrize("content", [b"", b"{}", b"\x00" * 10])
def test_what_is_no_record_does_not_count_and_breaks_nothing(records, content):
    records.path_of("kill-switch").write_bytes(content)
    assert "does not count" in why(records)


def test_a_record_counts_for_the_version_that_is_installed(records, monkeypatch):
    monkeypatch.setattr(gate_module, "__version__", "9.9.9")
    assert "and this is 9.9.9" in why(records)


def test_a_record_of_another_deployment_does_not_count(records):
    records.write("kill-switch", record(target={"authority": "a" * 64}))
    for authority, is_ticked in (("a" * 64, True), ("b" * 64, False), ("", True)):
        assert judge_readiness(records, NOW, BOX, authority=authority).is_ready is is_ticked
    records.write("kill-switch", record(target={"authority": ""}))
    assert judge_readiness(records, NOW, BOX, authority="b" * 64).is_ready


def test_a_box_of_two_drills_needs_both(records):
    boxes = (Box("Rollback", ("kill-switch", "runbook"), 90.0),)
    assert not judge_readiness(records, NOW, boxes).is_ready
    records.write("runbook", record("runbook"))
    assert judge_readiness(records, NOW, boxes).is_ready


def test_no_boxes_are_no_readiness(records):
    assert not judge_readiness(records, NOW, ()).is_ready


def test_the_page_says_what_the_gate_says_and_escapes_what_agents_are_called(records):
    name = '<script>alert("x")</script>'
    records.write("kill-switch", record(checks=[{"name": name, "observed": name, "asked": "", "passed": True}]))
    page = readiness_page(judge_readiness(records, NOW, BOX))
    assert "READY" in page
    assert "<script" not in page
    assert page.count(name) == 0
    assert unescape(page).count(name) == 2
    page = readiness_page(judge_readiness(records, NOW + 99 * DAY, BOX))
    assert "NOT READY" in page
    assert "☐ Kill switch tested" in page


def test_the_document_names_commands_and_checks(records):
    found = judge_readiness(records, NOW, BOX).to_dict()
    (drill,) = found["boxes"][0]["drills"]
    assert (found["ready"], drill["command"]) == (True, "eguard readiness drill kill-switch")
    assert drill["commands"] == ["eguard policy kill"]
    assert drill["checks"][0]["observed"] == 2.5
    json.dumps(found)


def test_boxes_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BOXES[0].valid_days = 1e9
