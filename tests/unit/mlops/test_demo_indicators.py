"""The demo's indicators come from the captures' own labels."""

from pathlib import Path

import pytest

from eguard.errors import RuleError
from eguard.mlops.demo_indicators import collect_indicators
from eguard.mlops.workspace import Workspace

ROOT = Path(__file__).parents[3]


def test_the_far_end_of_every_labelled_channel_is_there_with_its_source():
    found = {indicator.value: indicator for indicator in collect_indicators(Workspace(ROOT))}
    assert sorted(found) == [
        "141.193.213.21:443",
        "172.18.0.2:7010",
        "181.131.218.39",
        "192.168.0.4:80",
        "192.168.0.4:8443",
        "192.168.0.5:1234",
        "192.168.0.5:443",
        "66.63.168.35",
        "73.54.23.243",
    ]
    assert found["192.168.0.4:8443"].source == "net-apt29-day1/labels.csv: HTTPS session traffic to the attack platform"
    assert all(indicator.source.startswith("net-") for indicator in found.values())


def test_a_private_address_is_an_indicator_only_with_its_port():
    kinds = {indicator.value: indicator.kind for indicator in collect_indicators(Workspace(ROOT))}
    assert kinds["172.18.0.2:7010"] == "address_port"
    assert kinds["66.63.168.35"] == "address"


def test_a_bad_line_in_the_committed_list_stops_the_stage_by_name(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "raw").symlink_to(ROOT / "data" / "raw")
    (tmp_path / "data" / "indicators").mkdir()
    (tmp_path / "data" / "indicators" / "own.csv").write_text("kind,value,source\ndomain,nodot,me\n")
    with pytest.raises(RuleError, match=r"own\.csv, line 2: 'nodot' is no domain name"):
        collect_indicators(Workspace(tmp_path))
