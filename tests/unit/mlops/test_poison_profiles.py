"""Profiles of real hosts, and cohorts that take after them."""

from pathlib import Path

import numpy as np
import pytest

from eguard.clock import SimulatedClock
from eguard.errors import ConfigError, ParseError
from eguard.fleet import FleetStore
from eguard.mlops.poison_profiles import KeyProfiles, choose_key, read_profiles, resample_cohort
from eguard.wire import BaselineRow, distribution_from_vector

HEADER = "capture,host,ts,src,eid,event_type,image,parent,target,cmdline"
ROOT = Path(__file__).parents[3]


def log(tmp_path, rows):
    path = tmp_path / "events.csv"
    lines = [
        f"c,{host},2020-01-01T00:00:{i % 60:02d}Z,sysmon,1,{kind},{image},{parent},x,"
        for i, (host, kind, image, parent) in enumerate(rows)
    ]
    path.write_text("\n".join([HEADER, *lines]) + "\n")
    return path


def busy(host, execs, dns, image="a.exe", parent="b.exe"):
    return [(host, "exec", image, parent)] * execs + [(host, "dns", image, parent)] * dns


def test_a_log_is_counted_by_key_host_and_class(tmp_path):
    rows = busy("h1", 30, 10) + busy("h2", 5, 35) + busy("h3", 20, 9) + busy("h1", 40, 0, "z.exe", "")
    (found,) = read_profiles(log(tmp_path, rows), min_hosts=2)
    assert found.process_key == "a.exe:b.exe"
    assert found.hosts == ("h1", "h2")  # h3 has 29 events, z.exe one host
    assert found.counts[:, [0, 4]].tolist() == [[30, 10], [5, 35]]
    assert found.counts.sum() == 80
    np.testing.assert_allclose(found.shares[1, 4], 0.875)


def test_keys_with_more_hosts_come_first_and_uncounted_events_do_not_count(tmp_path):
    rows = busy("h1", 30, 0) + busy("h2", 30, 0) + [("h1", "proc_access", "a.exe", "b.exe")] * 9
    for host in ("h1", "h2", "h3"):
        rows += busy(host, 30, 0, "z.exe", "")
    found = read_profiles(log(tmp_path, rows), min_hosts=2)
    assert [profiles.process_key for profiles in found] == ["z.exe:unknown", "a.exe:b.exe"]
    assert found[1].counts.sum(axis=1).tolist() == [30, 30]


def test_a_fleet_store_gives_back_the_counts_behind_its_uploads(tmp_path):
    counts = {"h1": np.array([31, 7, 0, 1, 0, 0, 0, 0]), "h2": np.array([0, 999, 0, 0, 0, 0, 0, 2])}
    path = tmp_path / "fleet.db"
    with FleetStore.create(f"sqlite:///{path}", SimulatedClock(1e9)) as store:
        for host, row in counts.items():
            total = int(row.sum())
            uploaded = BaselineRow(
                process_key="a:b",
                event_distribution=distribution_from_vector(row / total),
                sample_count=total,
                entropy_threshold=2.0,
                learned_at_unix=0.0,
                seq=1,
            )
            store.upsert_baselines(host, "first", [uploaded])
    (found,) = read_profiles(path, min_hosts=2)
    assert found.hosts == ("h1", "h2")
    np.testing.assert_array_equal(found.counts, [counts["h1"], counts["h2"]])


def test_too_few_hosts_is_said_with_the_numbers(tmp_path):
    with pytest.raises(ConfigError, match="3 hosts with 30 events") as error:
        read_profiles(log(tmp_path, busy("h1", 30, 0) + busy("h2", 30, 0)), min_hosts=3)
    assert error.value.remedy


def test_a_missing_file_and_a_strange_one_are_told_apart(tmp_path):
    with pytest.raises(ConfigError, match="no host profiles"):
        read_profiles(tmp_path / "nothing", min_hosts=2)
    strange = tmp_path / "strange.txt"
    strange.write_text("hello\n")
    with pytest.raises(ParseError):
        read_profiles(strange, min_hosts=2)


def test_progress_is_told(tmp_path):
    told = []
    read_profiles(log(tmp_path, busy("h1", 30, 0) + busy("h2", 30, 0)), min_hosts=2, progress=lambda *a: told.append(a))
    assert told[-1] == ("counting events", 60, 60)


def test_agents_take_after_hosts():
    """Sizes are those of the hosts, absent classes stay absent, and the cohort's mean is the hosts' mean."""
    counts = np.array([[900, 100, 0, 0, 0, 0, 0, 0], [10, 0, 0, 0, 30, 0, 0, 0]])
    cohort = resample_cohort(KeyProfiles("a:b", ("h1", "h2"), counts), 4000, np.random.default_rng(0))
    assert set(cohort.sample_counts.tolist()) == {1000, 40}
    assert cohort.counts[:, [2, 3, 5, 6, 7]].sum() == 0
    first = cohort.sample_counts == 1000
    assert abs(first.mean() - 0.5) < 0.03
    np.testing.assert_allclose(cohort.votes[first].mean(axis=0)[:2], [0.9, 0.1], atol=0.002)
    np.testing.assert_allclose(cohort.votes[~first].mean(axis=0)[[0, 4]], [0.25, 0.75], atol=0.02)
    # The bootstrap doubles the binomial variance: once for the behaviour, once for its events.
    assert cohort.votes[~first][:, 0].var() == pytest.approx(0.25 * 0.75 * (1 / 40 + 1 / 41), rel=0.1)


def test_a_key_is_chosen_by_name_or_by_hosts():
    few, many = (KeyProfiles(f"{n}:x", tuple("abc"[:n]), np.full((n, 8), 5)) for n in (2, 3))
    assert choose_key([many, few], None) is many
    assert choose_key([many, few], "2:x") is few
    with pytest.raises(ConfigError) as error:
        choose_key([many, few], "4:x")
    assert "3:x, 2:x" in error.value.remedy


def test_the_shipped_log_has_the_hosts_that_its_description_counts():
    """SOURCE.md: svchost has 22 hosts with 20 Sysmon events; with 30 events on one key of it, 19."""
    found = read_profiles(ROOT / "data/raw/endpoint-events/events.csv.gz", min_hosts=9)
    assert [(key.process_key, len(key.hosts)) for key in found] == [
        ("svchost.exe:unknown", 19),
        ("conhost.exe:cmd.exe", 11),
        ("wmiprvse.exe:svchost.exe", 10),
        ("svchost.exe:services.exe", 9),
    ]
    assert min(int(key.counts.sum(axis=1).min()) for key in found) >= 30
