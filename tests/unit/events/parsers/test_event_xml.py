import time

import pytest

from eguard.errors import ParseError
from eguard.events.parsers.event_xml import EventXml

HEAD = "<Event><System><EventID>1</EventID><Channel>Linux-Sysmon/Operational</Channel></System><EventData>"


def test_fields_and_entities():
    event = EventXml(
        f'{HEAD}<Data Name="A">x &lt;&amp;&#65;</Data><Data Name="B"/><Data>no name</Data></EventData></Event>'
    )
    assert event.data == {"A": "x <&A", "B": ""}
    assert event.system == {"EventID": "1", "Channel": "Linux-Sysmon/Operational"}
    assert event.repairs == []


def test_an_entity_without_its_semicolon_is_mended():
    event = EventXml(f'{HEAD}<Data Name="Image">&lt unknown process&gt </Data></EventData></Event>')
    assert event.data["Image"] == "< unknown process> "
    assert event.repairs == ["open_entity"]


def test_a_message_that_syslog_cut_keeps_the_fields_before_the_cut():
    event = EventXml(f'{HEAD}<Data Name="CommandLine">bash -i</Data><Data Name="ParentCommandLine">java -Dx=')
    assert event.data == {"CommandLine": "bash -i"}
    assert event.repairs == ["cut_xml"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<Event>",
        HEAD,
        "<Event><System></Event>",
        f'{HEAD}<Data Name="A">x</Data></Wrong>',
        f'{HEAD}<Data Name="A">\0</Data></EventData></Event>',
        f'{HEAD}<Data Name="A">&unknown;</Data></EventData></Event>',
    ],
)
def test_unsound_text_is_refused(text):
    with pytest.raises(ParseError) as caught:
        EventXml(text)
    assert caught.value.context["reason"] == "bad_xml"


def test_entities_never_grow_nor_reach_out():
    levels = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE Event [<!ENTITY a0 "ha">{levels}]>{HEAD}<Data Name="A">&a11;</Data></EventData></Event>'
    entity = '<!DOCTYPE Event [<!ENTITY x SYSTEM "file:///etc/hostname">]>'
    outside = f'{entity}{HEAD}<Data Name="A">&x;</Data></EventData></Event>'
    for text in (bomb, outside, f'<!DOCTYPE Event SYSTEM "http://localhost/e.dtd">{HEAD}</EventData></Event>'):
        started = time.perf_counter()
        with pytest.raises(ParseError, match="document type"):
            EventXml(text)
        assert time.perf_counter() - started < 1.0
