"""``file://`` addresses as paths of this machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname


def path_of_address(address: str) -> Path:
    r"""Return the path that a ``file://`` address names.

    On Windows the address of ``C:\rules`` is ``file:///C:/rules``: its path has a slash too many for a path there.

    Examples
    --------
    >>> path_of_address("file:///srv/rule%20sets").as_posix()
    '/srv/rule sets'
    """
    return Path(url2pathname(urlsplit(address).path))
