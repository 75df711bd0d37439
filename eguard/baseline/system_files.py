"""The file layer of the system that this runs on."""

from __future__ import annotations

import sys

# A type checker that is told the platform looks at one of the two only.
if sys.platform == "win32":
    from eguard.baseline.portable_files import PortableFiles as SystemFiles
else:
    from eguard.baseline.folder_files import FolderFiles as SystemFiles

__all__ = ["SystemFiles"]
