"""What an attacker does to the ranking: times that lie, floods of destinations, names of good services, huge sizes."""

import csv
import gzip
import random

import numpy as np
import pytest

from eguard.cli import ml
from eguard.detection.beacon_calibration import BeaconCalibration
from eguard.errors import EguardError
from eguard.mlops.beacon_file import rank_beacons

CALIBRATION = BeaconCalibration(0.5, 0.01, 300, insufficient_calibration=False)
START = 1_700_000_000.0
BEATS = START + 60.0 * np.arange(60)


def write_messages(path, rows):
    """Rows of (time, host, destination, port, bytes)."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["ts", "orig_h", "resp_h", "resp_p", "proto", "orig_bytes"])
        table.writerows([time, host, destination, port, "tcp", size] for time, host, destination, port, size in rows)
    return path


def rank(path, **options):
    return rank_beacons([path], calibration=CALIBRATION, **options)


def verdict_of(result, destination):
    return next(entry["verdict"] for entry in result["ranking"] if entry["destination"].startswith(destination))


def test_duplicated_and_reversed_rows_change_nothing(tmp_path):
    rows = [(time, "10.0.0.1", "192.0.2.1", 443, 90) for time in BEATS]
    plain = rank(write_messages(tmp_path / "a.csv", rows))["ranking"][0]
    shuffled = [*rows[::-1], *rows]
    random.Random(3).shuffle(shuffled)
    twice = rank(write_messages(tmp_path / "b.csv", shuffled))["ranking"][0]
    assert twice["score"] == plain["score"]
    assert (twice["n_observations"], twice["n_observations_scored"]) == (120, 60)


@pytest.mark.parametrize("time", ["nan", "inf", "-inf", "1e400", "", "yesterday"])
def test_rows_with_impossible_times_are_rejected_and_the_rest_ranked(tmp_path, time):
    rows = [(beat, "10.0.0.1", "192.0.2.1", 443, 90) for beat in BEATS]
    result = rank(
        write_messages(tmp_path / "a.csv", [*rows[:30], (time, "10.0.0.1", "192.0.2.1", 443, 90), *rows[30:]])
    )
    assert sum(result["inputs"][0]["rejected"].values()) == 1
    assert verdict_of(result, "192.0.2.1") == "beacon"


@pytest.mark.parametrize("time", [-1e15, 0.0, 4e9, 1e12])
def test_one_time_far_away_does_not_stop_the_ranking(tmp_path, time):
    rows = [(beat, "10.0.0.1", "192.0.2.1", 443, 90) for beat in BEATS]
    path = write_messages(tmp_path / "a.csv", [(time, "10.0.0.1", "192.0.2.1", 443, 90), *rows])
    try:
        result = rank(path)
    except EguardError as error:
        pytest.fail(f"one row stopped the ranking: {error}")
    assert verdict_of(result, "192.0.2.1") == "beacon"


def test_a_flood_of_destinations_does_not_hide_a_beacon(tmp_path):
    noise = random.Random(1)
    rows = [(beat, "10.0.0.1", "192.0.2.1", 443, 90) for beat in BEATS]
    rows += [
        (START + noise.uniform(0, 3600), "10.0.0.1", f"198.51.{noise.randrange(256)}.{noise.randrange(256)}", 443, 10)
        for _ in range(20_000)
    ]
    result = rank(write_messages(tmp_path / "a.csv", rows), top=1)
    assert result["ranking"][0]["destination"] == "192.0.2.1:443"
    assert result["pairs"]["outbound"] > 10_000


def test_a_port_of_a_good_service_explains_and_does_not_excuse(tmp_path):
    rows = [(beat, "10.0.0.1", "192.0.2.1", 123, 90) for beat in BEATS]
    entry = rank(write_messages(tmp_path / "a.csv", rows))["ranking"][0]
    assert entry["explanation"] == "time synchronisation (NTP)"
    assert entry["verdict"] == "beacon"


def test_sizes_beyond_any_counter_are_borne(tmp_path):
    rows = [(beat, "10.0.0.1", "192.0.2.1", 443, 2**62 - index) for index, beat in enumerate(BEATS)]
    assert verdict_of(rank(write_messages(tmp_path / "a.csv", rows)), "192.0.2.1") == "beacon"


def test_names_that_would_steer_a_terminal_are_printed_harmlessly(tmp_path, capsys):
    log = tmp_path / "http.log"
    rows = "".join(f"{beat}\t10.0.0.1\t192.0.2.1\t80\t[bold]evil[/]\x1b[2J\t0\n" for beat in BEATS.tolist())
    head = "#separator \\x09\n#path\thttp\n#fields\tts\tid.orig_h\tid.resp_h\tid.resp_p\thost\trequest_body_len\n"
    log.write_text(head + rows)
    result = rank(log)
    assert result["ranking"][0]["destination"] == "[bold]evil[/]\x1b[2j"
    ml._print_ranking(result)
    printed = capsys.readouterr().out
    assert "[bold]evil[/]" in printed.replace("\n", "")
    assert "\x1b[2j" not in printed


def test_any_cut_of_a_compressed_log_keeps_what_was_read(tmp_path):
    rows = [(beat, "10.0.0.1", "192.0.2.1", 443, 90) for beat in START + 60.0 * np.arange(4000)]
    whole = gzip.compress(write_messages(tmp_path / "a.csv", rows).read_bytes())
    for length in np.linspace(200, len(whole) - 1, 6).astype(int).tolist():
        cut = tmp_path / "cut.csv.gz"
        cut.write_bytes(whole[:length])
        result = rank(cut)
        assert result["damage"]
        assert sum(entry["n_observations"] for entry in result["ranking"]) == result["inputs"][0]["accepted"]
