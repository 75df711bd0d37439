"""What was running: versions of eGuard, of what it is made of, and the settings in effect."""

from __future__ import annotations

import platform
from importlib.metadata import distributions

from eguard import __version__
from eguard.evidence.pack.rows import ask
from eguard.evidence.pack.writer import PackWriter
from eguard.fleet.database import Database
from eguard.settings import explain_settings, unknown_variables

_AGENTS = """
SELECT status, agent_version, bundle_version, COUNT(*) AS agents
FROM endpoint_agent
GROUP BY status, agent_version, bundle_version
ORDER BY status, agent_version, bundle_version"""


def collect_software(pack: PackWriter, database: Database | None) -> None:
    """Write down versions and settings; secrets among these are redacted where they are read, and again here."""
    with pack.section("versions") as section:
        described = [each.metadata for each in distributions()]  # read from a file each time
        packages = {each["Name"].lower(): each["Version"] for each in described if each["Name"]}
        machine = {"system": platform.platform(), "processor": platform.machine(), "python": platform.python_version()}
        # Not as a mapping: a package may be called as a secret is, and its version would be taken for it.
        listed = [{"package": name, "version": version} for name, version in sorted(packages.items())]
        pack.add_json(section, "software", {"eguard": __version__, "machine": machine, "packages": listed})
        if database is not None:
            with database.read() as connection:
                pack.add_json(section, "agents", ask(connection, _AGENTS, "what agents run"))
    with pack.section("settings") as section:
        settings = [each.to_dict() for each in explain_settings()]
        pack.add_json(section, "settings", {"settings": settings, "unknown_variables": unknown_variables()})
