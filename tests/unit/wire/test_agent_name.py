"""Agents' names in certificates."""

import pytest

from eguard.wire.agent_name import agent_id_of_name, certificate_name


@pytest.mark.parametrize(
    ("agent_id", "kind"),
    [
        ("web-7", "dns"),
        ("Web_7.example", "dns"),
        ("agent-31bbb93f38b4", "dns"),
        ("a" * 63, "dns"),
        ("a" * 64, "uri"),
        ("-web", "uri"),
        ("web-", "uri"),
        ("web.", "uri"),
        (".web", "uri"),
        ("a..b", "uri"),
        ("*.example", "uri"),
        ("front desk", "uri"),
        ("192.0.2.7/24", "uri"),
        ("кошка", "uri"),
        ("web-7\n", "uri"),
    ],
)
def test_only_what_can_be_a_dns_name_is_written_as_one(agent_id, kind):
    assert certificate_name(agent_id)[0] == kind
    assert agent_id_of_name(*certificate_name(agent_id)) == agent_id


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("dns", ""),
        ("dns", "a b"),
        ("dns", "*.example"),
        ("uri", ""),
        ("uri", "urn:eguard:agent:"),
        ("uri", "urn:eguard:agent:web-7"),
        ("uri", "urn:eguard:agent:front%2520desk%"),
        ("uri", "urn:eguard:agent:front desk"),
        ("uri", "URN:EGUARD:AGENT:front%20desk"),
        ("uri", "urn:eguard:agent:%ff"),
        ("uri", "https://web-7/"),
    ],
)
def test_a_second_way_to_write_a_name_names_nobody(kind, value):
    assert agent_id_of_name(kind, value) is None
