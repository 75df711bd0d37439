r"""One event as the rules of layer 2 see it: text under the field names of Sigma's taxonomy, and how well it is known.

Telemetry is not always whole. A record that carries its source's own fields is complete: what it does not name was not
there. A record rebuilt from eGuard's columns is not: of a process often only the base name is known, so that
``Image`` is known to *end* with ``\svchost.exe`` and nothing more. A rule that excludes ``C:\Windows\System32\`` must
not fire on it merely because the folder was never recorded. Every test therefore has three answers (true, false,
unknown), and a rule matches only what is certainly true.

References
----------
S. C. Kleene, Introduction to Metamathematics, 1952, section 64 (strong three-valued logic).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

#: Characters of a field that are looked at; more is beyond any command line that Windows accepts (32,767).
TEXT_LIMIT_CHARACTERS: Final = 65_536


class Knowledge(IntEnum):
    """How much of a field's value is known."""

    WHOLE = 0
    END = 1
    START = 2
    FRAGMENT = 3


class SigmaView:
    r"""The fields of one event.

    Parameters
    ----------
    values : mapping of str to str
        Text by Sigma field name; a missing field is absent.
    partial : mapping of str to Knowledge, optional
        Fields of which only a part is known; all others are known whole.
    is_complete : bool
        Whether an absent field is known not to have been there (True), or is unknown (False).

    Examples
    --------
    >>> view = SigmaView({"Image": "\\CMD.exe"}, {"Image": Knowledge.END}, is_complete=False)
    >>> view.lowered["Image"], view.knowledge("Image").name
    ('\\cmd.exe', 'END')
    """

    __slots__ = ("_everything", "is_complete", "lowered", "partial", "values")

    def __init__(
        self, values: Mapping[str, str], partial: Mapping[str, Knowledge] | None = None, *, is_complete: bool = True
    ) -> None:
        self.values: dict[str, str] = {
            name: value if len(value) <= TEXT_LIMIT_CHARACTERS else value[:TEXT_LIMIT_CHARACTERS]
            for name, value in values.items()
        }
        self.lowered: dict[str, str] = {name: value.lower() for name, value in self.values.items()}
        self.partial: Mapping[str, Knowledge] = partial or {}
        self.is_complete = is_complete
        self._everything: str | None = None

    def knowledge(self, field: str) -> Knowledge:
        """Return how much of a present field is known."""
        return self.partial.get(field, Knowledge.WHOLE)

    @property
    def everything(self) -> str:
        """All values in lower case, one a line: what a keyword search reads."""
        if self._everything is None:
            self._everything = "\n".join(self.lowered.values())
        return self._everything
