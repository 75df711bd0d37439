"""Files from the network: damaged, cut, mislabelled, made to hurt. Whatever they hold, the answer is rows and counts
or an error of eGuard's, and the rows before the damage are there."""

import gzip
import io
import json
import lzma
import random
import time
import tracemalloc
import zipfile
import zlib
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eguard.errors import CorruptFileError, EguardError, UnknownFormatError
from eguard.events.parsers import FORMATS, ParseReport, read_batches, read_events
from eguard.events.parsers.archives import content_blocks

RAW = Path(__file__).parents[2] / "data" / "raw"
SAMPLES = {
    "eguard-events": Path(__file__).parents[1] / "golden" / "recorded_events.jsonl",
    "sysmon": "endpoint-events/raw/cmd_sam_copy_esentutl.zip",
    "sysmon-csv": "endpoint-events/events.csv.gz",
    "defender": "endpoint-other-formats/mde_proc_cs1.csv.gz",
    "osquery": "endpoint-other-formats/osqueryd.results.log",
    "auditd": "endpoint-other-formats/linux_events.csv",
    "security-csv": "endpoint-other-formats/processes_on_host.csv",
    "zeek": "net-zeek-format-samples/tsv/http.log",
    "ait": "alerts-ait/shaw_alerts.csv.xz",
    "messages-csv": "net-c2-sessions/asyncrat.messages.csv",
    "sigma-positives": "sigma-positives/events.ndjson.gz",
}


@pytest.fixture(scope="module")
def samples():
    """The first lines of a sound file of every format."""

    def head(path):
        data = b"".join(islice(content_blocks(RAW / path), 3))
        return b"\n".join(data.split(b"\n")[:60]) + b"\n"

    return {name: head(path) for name, path in SAMPLES.items()}


def parse(path, name):
    """Read a file as far as it goes; anything but an error of eGuard's fails the test."""
    report, events, error = ParseReport(), [], None
    try:
        events.extend(read_events(path, name, report, "g"))
    except EguardError as caught:
        error = caught
    assert error is None or (str(path) in str(error) and error.remedy)
    assert report.accepted == len(events)
    return events, report, error


def zipped(*members):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for index, data in enumerate(members):
            archive.writestr(f"{index}.log", data)
    return target.getvalue()


PACKERS = {"plain": bytes, "gzip": gzip.compress, "xz": lzma.compress, "zip": zipped}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_anywhere_keeps_the_rows_before_the_cut(tmp_path, samples, name, packer):
    whole = tmp_path / "whole"
    whole.write_bytes(samples[name])
    sound = parse(whole, name)[0]
    packed = PACKERS[packer](samples[name])
    path = tmp_path / "cut"
    rng = random.Random(f"{name}{packer}")
    cuts = {1, 2, 5, 11, 30, len(packed) - 1, *(rng.randrange(1, len(packed)) for _ in range(15))}
    for cut in sorted(cuts):
        path.write_bytes(packed[:cut])
        events, _, error = parse(path, name)
        # The last line of a plain file may be cut inside its last field, where nobody can tell.
        certain = events[:-1] if packer == "plain" else events
        assert certain == sound[: len(certain)]
        if packer != "plain":
            assert isinstance(error, CorruptFileError | UnknownFormatError)
        if packer == "zip" and cut == len(packed) - 1:
            assert events == sound
        if packer == "gzip":
            before = zlib.decompressobj(wbits=31).decompress(packed[:cut])
            whole.write_bytes(before[: before.rfind(b"\n") + 1])
            assert events == parse(whole, name)[0]


@pytest.mark.parametrize("name", FORMATS)
def test_flipped_bits_cost_rows_and_never_more(tmp_path, samples, name):
    path = tmp_path / "flipped"
    rng = random.Random(name)
    for packer in PACKERS.values():
        packed = packer(samples[name])
        for _ in range(12):
            damaged = bytearray(packed)
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
            path.write_bytes(damaged)
            parse(path, name)


JUNK_LINES = {
    "random": random.Random(1).randbytes(5_000),
    "nul": b"\0" * 4_000,
    "not utf-8": b"\xff\xfe\xfd,\xc3(,\xa0\xa1",
    "utf-16": "ts,orig_h\n1,2\n".encode("utf-16"),
    "quotes": b'"' * 1_001,
    "commas": b"," * 200_000,
    "tabs": b"\t" * 50_000,
    "json depth": b'{"a":' * 50_000,
    "json array depth": b"[" * 100_000,
    "json number": b'{"EventID":1e999,"ts":' + b"9" * 5_000 + b"}",
    "json types": json.dumps({name: [{}] for name in ("ts", "time", "Channel", "columns", "action")}).encode(),
    "huge": b"x" * (3 << 20),
    "formula": b"=HYPERLINK(1)",
    "carriage returns": b"a\rb\rc",
}


# An open quote in free CSV swallows the rows behind it (tests/unit/events/parsers/test_rows.py).
FREE_CSV = {"defender", "auditd", "security-csv", "messages-csv"}
MIXTURES = [(name, junk) for name in FORMATS for junk in JUNK_LINES if not (junk == "quotes" and name in FREE_CSV)]


@pytest.mark.parametrize(("name", "junk"), MIXTURES)
def test_junk_between_rows_costs_the_junk_alone(tmp_path, samples, name, junk):
    lines = samples[name].split(b"\n")[:-1]
    middle = len(lines) // 2
    path = tmp_path / "mixed"
    path.write_bytes(b"\n".join(lines))
    sound = parse(path, name)[0]
    path.write_bytes(b"\n".join([*lines[:middle], JUNK_LINES[junk], *lines[middle:]]))
    events, report, error = parse(path, name)
    assert error is None
    assert events == sound
    is_blank = not JUNK_LINES[junk].strip()
    assert report.rejected.total() + report.skipped.total() >= (0 if is_blank else 1)


@pytest.mark.parametrize("junk", JUNK_LINES)
@pytest.mark.parametrize("name", [None, *FORMATS])
def test_a_file_of_junk_is_named_as_such(tmp_path, name, junk):
    path = tmp_path / "junk"
    path.write_bytes(JUNK_LINES[junk])
    events, report, error = parse(path, name)
    assert events == []
    # Blank lines are no rows, and JSON of another log is sound: these are told by the counts.
    is_told = report.skipped.total() or (name is not None and not JUNK_LINES[junk].strip())
    assert isinstance(error, UnknownFormatError) or is_told


@pytest.mark.parametrize("name", FORMATS)
def test_the_wrong_format_is_an_error_and_not_an_empty_result(tmp_path, samples, name):
    path = tmp_path / "other"
    for other, data in samples.items():
        if other != name:
            path.write_bytes(data)
            events, report, error = parse(path, name)
            assert events == []
            assert isinstance(error, UnknownFormatError) or report.skipped.total()


def test_every_member_of_a_zip_is_read(tmp_path, samples):
    path = tmp_path / "many.zip"
    single = tmp_path / "single"
    single.write_bytes(samples["sysmon"])
    once = parse(single, "sysmon")[0]
    path.write_bytes(zipped(samples["sysmon"], gzip.compress(samples["sysmon"]), b"", samples["sysmon"][:-1]))
    events, _, error = parse(path, "sysmon")
    assert error is None
    assert len(events) == 3 * len(once)


def test_a_damaged_member_keeps_the_members_before_it(tmp_path, samples):
    data = samples["messages-csv"]
    packed = bytearray(zipped(data, data))
    second = packed.index(b"PK\x03\x04", 4)
    packed[second + 14] ^= 0xFF
    path = tmp_path / "many.zip"
    path.write_bytes(packed)
    single = tmp_path / "single"
    single.write_bytes(data)
    events, _, error = parse(path, "messages-csv")
    assert isinstance(error, CorruptFileError)
    assert "fails its checksum" in str(error)
    assert events == 2 * parse(single, "messages-csv")[0]


@pytest.mark.parametrize("packer", [gzip.compress, lzma.compress, zipped])
def test_a_bomb_without_line_feeds_takes_no_memory(tmp_path, packer):
    path = tmp_path / "bomb"
    path.write_bytes(packer(b"x" * (64 << 20)))
    tracemalloc.start()
    events, report, error = parse(path, "osquery")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert events == []
    assert isinstance(error, UnknownFormatError)
    assert dict(report.rejected) == {"line_too_long": 1}
    assert peak < 16 << 20


def test_a_line_that_comes_in_crumbs_takes_no_quadratic_time(tmp_path):
    path = tmp_path / "crumbs"
    path.write_bytes(gzip.compress(b"y", 0) * 30_000)
    started = time.perf_counter()
    _, report, _ = parse(path, "osquery")
    assert time.perf_counter() - started < 20.0
    assert report.rows_read == 1


@pytest.mark.parametrize("name", FORMATS)
def test_batches_deliver_what_events_deliver_before_damage(tmp_path, samples, name):
    path = tmp_path / "cut.gz"
    packed = gzip.compress(samples[name], 1)
    path.write_bytes(packed[: len(packed) * 4 // 5])
    events = parse(path, name)[0]
    batches = []
    with pytest.raises(EguardError):
        batches.extend(read_batches(path, name, group="g"))
    assert [event for batch in batches for event in batch.rows()] == events


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=2_000), name=st.sampled_from([None, *FORMATS]), packer=st.sampled_from(sorted(PACKERS)))
def test_any_bytes_are_answered(tmp_path, data, name, packer):
    path = tmp_path / "any"
    path.write_bytes(PACKERS[packer](data))
    parse(path, name)


SCALARS = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | st.text(max_size=20)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
TELLING = st.sampled_from(["Security", "added", "1", "2020-01-01", "process_exec"])
NAMES = st.sampled_from(
    [
        *("Channel", "EventID", "Hostname", "@timestamp", "TimeCreated", "SyslogMessage", "ProcessId", "Message"),
        *("hostIdentifier", "unixTime", "columns", "action", "name", "ts", "id.orig_h", "id_resp_p", "conn_state"),
        *("time_unix", "host_id", "event_class", "comm", "fields", "counters"),
        *("orig_bytes", "query", "rule_id", "channel", "computer", "time", "event_id", "event_data", "HostName"),
    ]
)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.dictionaries(NAMES, VALUES | TELLING, max_size=8))
def test_any_json_object_is_answered_by_every_json_format(tmp_path, row):
    path = tmp_path / "row"
    path.write_text(json.dumps(row) + "\n")
    for name in ("sysmon", "osquery", "zeek", "auditd", "sigma-positives", "eguard-events"):
        for event in parse(path, name)[0]:
            assert event.time_unix >= 0.0
            assert event.host_id
