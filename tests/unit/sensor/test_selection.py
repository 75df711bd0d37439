import pytest
import structlog.testing

from eguard.errors import ConfigError, SensorUnavailableError
from eguard.events import EventBatch, EventClass
from eguard.sensor import SensorCounters, open_sensor, selection, survey


class _Fake:
    host_id = "lab"
    is_exhausted = False
    classes = frozenset({EventClass.PROCESS_EXEC})

    def __init__(self, name, refusal):
        self.name, self.refusal, self.is_open, self.closed = name, refusal, False, 0
        self.counters = SensorCounters()

    def open(self):
        if self.refusal:
            raise SensorUnavailableError(self.refusal, remedy=f"mend {self.name}")
        self.is_open = True

    def poll(self, _):
        return EventBatch()

    def close(self):
        self.closed += 1


@pytest.fixture
def fakes(monkeypatch):
    def install(**refusals):
        made = {name: _Fake(name, refusal) for name, refusal in refusals.items()}
        monkeypatch.setattr(
            selection, "LIVE_SENSORS", {name: (lambda _, each=each: each) for name, each in made.items()}
        )
        return made

    return install


def test_auto_takes_the_best_that_works_and_says_why_the_better_ones_do_not(fakes):
    made = fakes(best="no headers", second="", third="")
    with structlog.testing.capture_logs() as logs:
        assert open_sensor("auto") is made["second"]
    assert [(log["event"], log["sensor"], log.get("reason")) for log in logs] == [
        ("sensor unavailable", "best", "no headers"),
        ("selected sensor", "second", None),
    ]
    assert made["best"].closed == 1
    assert not made["third"].is_open


def test_auto_gives_up_naming_every_cause(fakes):
    fakes(best="no headers", second="no rights")
    with pytest.raises(SensorUnavailableError, match="best: no headers; second: no rights"):
        open_sensor("auto")


def test_a_sensor_asked_for_by_name_is_never_replaced(fakes):
    made = fakes(best="no headers", second="")
    with pytest.raises(SensorUnavailableError, match="no headers"):
        open_sensor("best")
    assert made["best"].closed == 1
    assert not made["second"].is_open


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ConfigError, match="'radar'") as refused:
        open_sensor("radar")
    assert "psutil" in refused.value.remedy


def test_the_survey_closes_what_it_opened(fakes):
    made = fakes(best="no headers", second="")
    first, second = survey()
    assert (first.works, first.reason, first.remedy) == (False, "no headers", "mend best")
    assert second.to_dict()["classes"] == ["process_exec"]
    assert [each.closed for each in made.values()] == [1, 1]
