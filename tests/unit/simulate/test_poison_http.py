"""What a campaign over HTTP is made of, before any server is there."""

import numpy as np
import pytest

from eguard.cli.simulate_over_http import _cell
from eguard.errors import ConfigError
from eguard.mlops.poison_attacks import ATTACKS
from eguard.simulate.poison_http import DIRICHLET_KEY, SHARES, HttpPoisonSettings, choose_target
from eguard.simulate.poison_plot import draw


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"shares": (0.1, 0.5)}, "shares of liars"),
        ({"shares": ()}, "shares of liars"),
        ({"agents": 5}, "too few"),
        ({"shares": (0.01,), "agents": 20}, "too few"),
        ({"attack": "nope"}, "no attack"),
    ],
)
def test_settings_that_make_no_campaign_are_refused(wrong, words):
    with pytest.raises(ConfigError, match=words):
        HttpPoisonSettings(**wrong)


def test_all_five_attacks_run_unless_one_is_named():
    assert [attack.name for attack in HttpPoisonSettings().attacks] == list(ATTACKS)
    assert [attack.name for attack in HttpPoisonSettings(attack="lie").attacks] == ["lie"]


def test_the_documented_agents_halve_from_class_to_class():
    settings = HttpPoisonSettings(is_dirichlet=True, agents=400)
    target = choose_target(settings, np.random.default_rng(0))
    mean = target.cohort.votes.mean(axis=0)
    assert (target.process_key, target.real_hosts, target.cohort.votes.shape) == (DIRICHLET_KEY, 0, (400, 8))
    assert mean[1:5] / mean[:4] == pytest.approx([0.5] * 4, rel=0.06)
    # Dirichlet of concentration 60: the variance of a share p is p (1 - p) / 61.
    assert target.cohort.votes[:, 0].var() == pytest.approx(mean[0] * (1 - mean[0]) / 61.0, rel=0.2)


def test_real_hosts_are_resampled_by_default(tmp_path):
    log = tmp_path / "events.csv"
    with pytest.raises(ConfigError, match="no host profiles"):
        choose_target(HttpPoisonSettings(profiles=log), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("moved", "within", "cell"), [(None, True, "withheld"), (0.0123, True, "0.0123"), (0.5, False, "0.5000 !")]
)
def test_a_cell_of_the_table(moved, within, cell):
    assert _cell({"total_variation": moved, "within_bound": within, "withheld_because": "below_min_mass"}) == cell


def test_the_picture_bears_withheld_keys(tmp_path):
    rows = [
        {
            "share": share,
            "attack": attack,
            "total_variation": None if share > 0.3 else share / 10,
            "bound_total_variation": share / 5,
            "mean_total_variation": share,
        }
        for share in SHARES
        for attack in ATTACKS
    ]
    draw({"rows": rows, "process_key": "a:b", "agents": 200}, tmp_path / "shift.png")
    assert (tmp_path / "shift.png").read_bytes().startswith(b"\x89PNG")
