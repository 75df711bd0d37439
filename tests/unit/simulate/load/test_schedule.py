"""Times: drawn from the seed alone, spread as asked for."""

import numpy as np
import pytest

from eguard.simulate.load.options import LoadOptions
from eguard.simulate.load.schedule import make_schedule


def test_the_same_seed_gives_the_same_times_and_another_gives_others():
    options = LoadOptions(agents=50, churn_per_minute=1.0, hold_seconds=60.0, herd_seconds=5.0)
    first, again = make_schedule(options), make_schedule(options)
    assert (first.starts, first.absences) == (again.starts, again.absences)
    assert first.returns_seconds.tolist() == again.returns_seconds.tolist()
    other = make_schedule(LoadOptions(agents=50, churn_per_minute=1.0, hold_seconds=60.0, herd_seconds=5.0, seed=1))
    assert other.starts != first.starts
    assert other.absences != first.absences


def test_every_agent_starts_once_and_evenly():
    starts = make_schedule(LoadOptions(agents=1000, start_seconds=10.0)).starts
    assert sorted(due.number for due in starts) == list(range(1000))
    times = [due.at_seconds for due in starts]
    assert times == sorted(times)
    assert np.histogram(times, bins=10, range=(0.0, 10.0))[0].tolist() == [100] * 10


@pytest.mark.parametrize(("hold", "visits"), [(900.0, 600), (300.0, 200), (1800.0, 1200), (0.0, 0)])
def test_visits_keep_the_rate_of_the_interval_from_the_first_second_on(hold, visits):
    options = LoadOptions(agents=600, interval_seconds=900.0, hold_seconds=hold, is_polling=False)
    schedule = make_schedule(options)
    assert not schedule.starts
    assert abs(len(schedule.visits) - visits) <= 1
    by_agent = {}
    for due in schedule.visits:
        by_agent.setdefault(due.number, []).append(due.at_seconds)
    for times in by_agent.values():
        assert np.diff(times) == pytest.approx(900.0)


def test_absences_are_as_many_as_the_share_says_and_a_fifth_loses_its_state():
    absences = make_schedule(LoadOptions(agents=1000, churn_per_minute=0.5, hold_seconds=120.0)).absences
    assert len(absences) == pytest.approx(1000, abs=100)
    assert sum(each.is_reborn for each in absences) == pytest.approx(200, abs=50)
    assert all(1.0 <= each.seconds <= 10.0 and 0.0 <= each.at_seconds < 120.0 for each in absences)
    assert not make_schedule(LoadOptions(agents=1000)).absences


def test_a_herd_comes_back_within_its_time():
    returns = make_schedule(LoadOptions(agents=500, herd_seconds=10.0)).returns_seconds
    assert returns.shape == (500,)
    assert 0.0 <= returns.min() < 0.5
    assert 9.5 < returns.max() < 10.0
