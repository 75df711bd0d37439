"""What a load test may be asked for."""

import pytest

from eguard.errors import ConfigError
from eguard.simulate.load.options import LoadOptions


@pytest.mark.parametrize(
    "wrong",
    [
        {"agents": 0},
        {"profiles": 0},
        {"interval_seconds": 0.0},
        {"hold_seconds": float("nan")},
        {"heartbeat_seconds": 0.0},
        {"churn_per_minute": 1.5},
        {"seed": -1},
        {"poison": "lie"},
        {"share": 0.2},
        {"poison": "lie", "share": 0.5},
        {"poison": "no-such-attack", "share": 0.2},
        {"is_polling": False, "herd_seconds": 5.0},
        {"is_polling": False, "churn_per_minute": 0.1},
    ],
    ids=lambda wrong: ",".join(f"{name}={value}" for name, value in wrong.items()),
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError):
        LoadOptions(**wrong)


def test_agents_that_do_not_stay_need_few_connections_and_always_fetch():
    assert LoadOptions(agents=10_000).connections == 10_000
    assert not LoadOptions().fetches
    visiting = LoadOptions(agents=100_000, is_polling=False)
    assert visiting.connections < 2000
    assert visiting.fetches


def test_liars_are_a_share_of_the_agents():
    assert LoadOptions(agents=50, poison="min-max", share=0.1).liars == 5
    assert LoadOptions(agents=50).liars == 0
