"""Settings become sinks."""

import pytest

from eguard.errors import ConfigError
from eguard.server.sinks import open_sinks
from eguard.settings import ServerSettings


def test_there_are_no_sinks_unless_they_are_set_up():
    assert open_sinks(ServerSettings()) == ()


def test_both_can_be_set_up_with_an_authority_of_their_own(tmp_path, authority):
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    settings = ServerSettings(
        notify_webhook_url="https://hooks.example/secret-path",
        notify_syslog="tls://log.example",
        notify_ca=tmp_path / "ca.pem",
    )
    assert [(sink.name, sink.address) for sink in open_sinks(settings)] == [
        ("webhook", "https://hooks.example"),
        ("syslog", "tls://log.example:6514"),
    ]
    assert "secret-path" not in repr(settings)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_authority_that_cannot_be_read_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(ConfigError) as caught:
        open_sinks(ServerSettings(notify_syslog="tls://log.example", notify_ca=tmp_path / "ca.pem"))
    assert "EGUARD_NOTIFY_CA" in caught.value.remedy
