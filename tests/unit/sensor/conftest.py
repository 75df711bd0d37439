import pytest
import structlog


@pytest.fixture(autouse=True)
def default_logging():
    """A command that ran inside a test leaves the log pointing at a stream that is closed by now."""
    structlog.reset_defaults()
    yield
    structlog.reset_defaults()
