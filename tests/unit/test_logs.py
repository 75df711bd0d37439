import io
import json

import pytest
import structlog

from eguard.logs import configure_logging


@pytest.fixture(autouse=True)
def restore_logging():
    yield
    structlog.reset_defaults()


def test_events_are_json_lines_when_nobody_watches():
    stream = io.StringIO()
    configure_logging(stream=stream)
    structlog.get_logger().info("uploaded baseline profile batch", rows=128)
    line = json.loads(stream.getvalue())
    assert line["event"] == "uploaded baseline profile batch"
    assert (line["rows"], line["level"]) == (128, "info")
    assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(("verbose", "lines"), [(False, 0), (True, 1)])
def test_debug_events_need_verbose(verbose, lines):
    stream = io.StringIO()
    configure_logging(stream=stream, verbose=verbose)
    structlog.get_logger().debug("detail")
    assert len(stream.getvalue().splitlines()) == lines


def test_console_form_is_for_people():
    stream = io.StringIO()
    configure_logging(stream=stream, json_lines=False)
    structlog.get_logger().info("baseline became stale")
    assert "baseline became stale" in stream.getvalue()
    assert not stream.getvalue().startswith("{")


def test_quiet_shows_warnings_and_worse():
    stream = io.StringIO()
    configure_logging(stream=stream, quiet=True, verbose=True)
    structlog.get_logger().info("enrolled with server")
    structlog.get_logger().warning("two machines use one certificate")
    assert [json.loads(line)["level"] for line in stream.getvalue().splitlines()] == ["warning"]
