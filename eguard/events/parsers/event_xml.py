"""The XML of one Windows-style event record, as Sysmon for Linux writes it into syslog.

The text comes from the network, so nothing that XML can do beyond elements and text is accepted: a document type (and
with it any entity that could grow or reach out) ends the parse.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn
from xml.parsers import expat
from xml.parsers.expat import errors as expat_errors

from eguard.errors import ParseError

#: Sysmon for Linux writes "&lt unknown process&gt ".
_OPEN_ENTITY: Final = re.compile(r"&(lt|gt|amp|quot|apos)(?!;)")
_CUT_OFF: Final = frozenset(
    expat_errors.codes[message]
    for message in (expat_errors.XML_ERROR_NO_ELEMENTS, expat_errors.XML_ERROR_UNCLOSED_TOKEN)
)


class EventXml:
    """Reads one ``<Event>`` element.

    Attributes
    ----------
    system : dict of str to str
        Text of the elements below ``<System>`` by name; attributes as ``Element.Attribute``.
    data : dict of str to str
        Text of the ``<Data>`` elements by their ``Name``.
    repairs : list of str
        What was mended: ``open_entity`` (an entity without its semicolon), ``cut_xml`` (syslog cut the message; the
        fields before the cut are kept).

    Raises
    ------
    ParseError
        The text is not sound, or declares a document type; ``context["reason"]`` is ``bad_xml``.

    Examples
    --------
    >>> event = EventXml('<Event><System><EventID>5</EventID><TimeCreated SystemTime="t"/></System>'
    ...                  '<EventData><Data Name="Image">/bin/a&amp;b</Data></EventData></Event>')
    >>> event.system, event.data
    ({'EventID': '5', 'TimeCreated.SystemTime': 't'}, {'Image': '/bin/a&b'})
    """

    def __init__(self, text: str) -> None:
        self.system: dict[str, str] = {}
        self.data: dict[str, str] = {}
        self._path: list[str] = []
        self._name = ""
        self._text: list[str] = []
        self.repairs: list[str] = []
        mended = _OPEN_ENTITY.sub(r"&\1;", text)
        if mended != text:
            self.repairs.append("open_entity")
        parser = expat.ParserCreate()
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text.append
        parser.StartDoctypeDeclHandler = _refuse_doctype
        try:
            parser.Parse(mended, True)  # noqa: FBT003 - takes no keywords
        except (expat.ExpatError, ValueError) as error:
            if not (isinstance(error, expat.ExpatError) and error.code in _CUT_OFF and self.data):
                raise ParseError(f"the event's XML is not sound: {error}", reason="bad_xml") from error
            self.repairs.append("cut_xml")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._path.append(name)
        self._text.clear()
        self._name = attributes.get("Name", "")
        if self._path[1:2] == ["System"]:
            self.system.update({f"{name}.{key}": value for key, value in attributes.items()})

    def _end(self, name: str) -> None:
        section = self._path[1:2]
        text = "".join(self._text)
        if section == ["System"] and len(self._path) == 3 and text:
            self.system[name] = text
        elif section == ["EventData"] and name == "Data" and self._name:
            self.data[self._name] = text
        self._path.pop()
        self._text.clear()


def _refuse_doctype(*_: object) -> NoReturn:
    raise ParseError("the event's XML declares a document type", reason="bad_xml")
