import hashlib
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from eguard.errors import ConfigError
from eguard.events import EventBatch
from eguard.events.columns import NUMERIC_COLUMNS
from eguard.mlops.tables import EVENT_COLUMNS, read_events_table, to_table, write_events, write_table


def batch_of(rows=50):
    return EventBatch(
        time_unix=np.arange(rows) * 0.1 + 1e9,
        host_id=[f"host {index % 3}" for index in range(rows)],
        event_class=np.arange(rows) % 5 - 1,
        source=["sysmon"] * rows,
        command_line=["ä\0\n" * (index % 4) for index in range(rows)],
        destination_port=np.full(rows, 443),
        is_elevated=np.arange(rows) % 2 == 0,
        sent_bytes=np.full(rows, 2**62),
        fields=[{"Image": f"x{index}", "b": "ü", "a": ""} if index % 2 else None for index in range(rows)],
    )


def assert_same(left, right):
    for name in EVENT_COLUMNS:
        assert list(getattr(left, name)) == list(getattr(right, name)), name
        if name in NUMERIC_COLUMNS:
            assert getattr(right, name).dtype == NUMERIC_COLUMNS[name]


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "new" / "events.parquet"
    write_events(path, batch_of())
    assert_same(batch_of(), read_events_table(path))


@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows_survive_too(tmp_path, rows):
    path = tmp_path / "events.parquet"
    write_events(path, batch_of(rows))
    assert_same(batch_of(rows), read_events_table(path))


def test_columns_of_one_value_are_not_stored(tmp_path):
    path = tmp_path / "events.parquet"
    write_events(path, batch_of())
    stored = pq.ParquetFile(path).schema_arrow
    assert set(stored.names) == {"time_unix", "host_id", "event_class", "command_line", "is_elevated", "fields"}
    constants = json.loads(stored.metadata[b"eguard.constants"])
    assert constants.keys() == set(EVENT_COLUMNS) - set(stored.names)
    assert (constants["source"], constants["destination_port"], constants["sent_bytes"]) == ("sysmon", 443, 2**62)


def test_equal_fields_in_every_row_come_back(tmp_path):
    path = tmp_path / "events.parquet"
    batch = EventBatch(time_unix=[1.0, 2.0], fields=[{"a": "b"}, {"a": "b"}])
    write_events(path, batch)
    assert read_events_table(path).fields == [{"a": "b"}, {"a": "b"}]


def test_only_the_columns_asked_for_are_filled(tmp_path):
    path = tmp_path / "events.parquet"
    write_events(path, batch_of())
    batch = read_events_table(path, ["host_id", "source"])
    assert batch.host_id == batch_of().host_id
    assert set(batch.source) == {"sysmon"}
    assert set(batch.command_line) == {""}
    assert set(batch.fields) == {None}
    assert batch.destination_port.tolist() == [0] * 50
    assert batch.time_unix.tolist() == batch_of().time_unix.tolist()


def test_same_events_give_same_bytes_however_they_came(tmp_path):
    digests = set()
    for name, parts in (("a", [batch_of()]), ("b", list(batch_of().chunks(7))), ("c", list(batch_of().chunks(1)))):
        path = tmp_path / name
        write_table(path, pa.concat_tables([to_table(part) for part in parts]))
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_an_order_sorts_the_rows(tmp_path):
    path = tmp_path / "events.parquet"
    order = np.argsort(-batch_of().time_unix)
    write_table(path, to_table(batch_of()), order)
    assert_same(batch_of().take(order), read_events_table(path))


def test_wrong_files_and_columns_are_named(tmp_path):
    path = tmp_path / "events.parquet"
    with pytest.raises(ConfigError, match=r"cannot read the events in .*events\.parquet"):
        read_events_table(path)
    path.write_bytes(b"PAR1 not really")
    with pytest.raises(ConfigError, match="cannot read"):
        read_events_table(path)
    write_events(path, batch_of())
    with pytest.raises(ConfigError, match="no column colour"):
        read_events_table(path, ["colour"])
