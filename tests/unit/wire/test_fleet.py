"""Fleet pages: an agent takes a page whole or not at all."""

import json

import pytest

from eguard.errors import PayloadTooLargeError, WireError
from eguard.wire import FleetPage, FleetRow, decode_fleet_page, encode_fleet_page


def fleet_row(**changes):
    values = {
        "process_key": "bash:sshd",
        "median_distribution": {"process_exec": 0.5, "alert": 0.5},
        "agent_count": 3,
        "stddev_kl": 0.25,
        "tolerated_faults": 1,
        "source": "aggregate",
    }
    return FleetRow(**{**values, **changes})


def page(*rows):
    return FleetPage(seeded=len(rows), generation=4, seed_enabled=True, fleet_baselines=list(rows))


def test_body_is_as_the_contract_prints_it():
    assert json.loads(encode_fleet_page(page(fleet_row()))) == {
        "status": "ok",
        "seeded": 1,
        "generation": 4,
        "seed_enabled": True,
        "fleet_baselines": [
            {
                "process_key": "bash:sshd",
                "median_distribution": {"process_exec": 0.5, "alert": 0.5},
                "agent_count": 3,
                "stddev_kl": 0.25,
                "tolerated_faults": 1,
                "source": "aggregate",
            }
        ],
        "next_cursor": None,
    }


def test_pages_come_back_as_they_were_sent():
    sent = page(fleet_row(), fleet_row(process_key="kworker/0%3A1:kthreadd"))
    assert decode_fleet_page(encode_fleet_page(sent)) == sent


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"process_key": "bash"}, "invalid_process_key"),
        ({"median_distribution": {"process_exec": 0.5}}, "sum_not_one"),
        ({"median_distribution": {}}, "sum_not_one"),
        ({"median_distribution": {"telepathy": 1.0}}, "invalid_fleet_page"),
        ({"agent_count": -1}, "invalid_fleet_page"),
        ({"source": "gossip"}, "invalid_fleet_page"),
    ],
)
def test_one_bad_row_spoils_the_page(changes, reason):
    with pytest.raises(WireError) as caught:
        encode_fleet_page(page(fleet_row(process_key="a:b"), fleet_row(**changes)))
    assert caught.value.context["reason"] == reason


def test_pages_are_read_strictly():
    body = encode_fleet_page(page(fleet_row()))
    with pytest.raises(WireError) as caught:
        decode_fleet_page(body.replace(b'"generation":4', b'"generation":4,"generation":5'))
    assert caught.value.context["reason"] == "duplicate_key"
    with pytest.raises(PayloadTooLargeError):
        decode_fleet_page(body, max_bytes=len(body) - 1)
