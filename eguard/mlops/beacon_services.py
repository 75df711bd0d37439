"""What ordinary services keep time: a name for the benign timers that an analyst meets, so that they are explained."""

from __future__ import annotations

import re
from typing import Final

_BY_NAME: Final = (
    ("time synchronisation (NTP)", r"(^|\.)ntp\d*\.|\.pool\.ntp\.org$|^time\."),
    ("Windows Update", r"windowsupdate|update\.microsoft|delivery\.mp\.microsoft|\.do\.dsp\.mp\.|^wsus"),
    ("update check", r"(^|\.)(updates?|autoupdate|swcdn|swscan)\d*\."),
    ("certificate status (CRL, OCSP)", r"^(crl|ocsp)\d*\.|\.(crl|ocsp)\.|(^|\.)pki\."),
    ("connectivity check", r"msftncsi|msftconnecttest|connectivitycheck|captive\.apple|detectportal|nmcheck"),
    ("live tiles and news feed", r"tile-service|prod\.cms\.msn\.com$"),
    ("browsing protection", r"safebrowsing|smartscreen|urs\.microsoft"),
    ("operating system telemetry", r"telemetry|vortex|watson|events\.data\.microsoft"),
    ("site ranking toolbar", r"(^|\.)alexa\.com$"),
    (
        "page analytics or advertising",
        (
            r"chartbeat|imrworldwide|scorecardresearch|krxd|doubleclick|googlesyndication|googletagservices|adsafe|moatads"
            r"|quantserve|google-analytics|omtrdc|demdex|crwdcntrl|rubiconproject|adnxs|openx|3lift|skimresources|dianomi"
            r"|bttrack|evidon|casalemedia|mmstat|sail-horizon|addthis|nexac"
        ),
    ),
    ("health check", r"(^|\.)(healthz?|ping|heartbeat|keepalive|monitor)[.-]"),
)
_BY_PORT: Final = {
    "3": "ICMP unreachable, or port 3",
    "22": "remote shell (SSH)",
    "53": "name resolution (DNS)",
    "67": "address assignment (DHCP)",
    "123": "time synchronisation (NTP)",
    "137": "Windows name service",
    "139": "file sharing (SMB)",
    "161": "monitoring (SNMP)",
    "445": "file sharing (SMB)",
    "547": "address assignment (DHCP)",
}
_PATTERNS: Final = tuple((name, re.compile(pattern)) for name, pattern in _BY_NAME)
_ADDRESS: Final = re.compile(r"^(?:\d+(?:\.\d+){3}|\[[0-9a-f:.%]+\]):(\d+)$")


def service_of(destination: str) -> str:
    """Return the service that a destination's name or port suggests, or "" if it suggests none.

    A suggestion explains a benign timer to an analyst; it never decides, since anyone can name a server ``ntp``.

    Examples
    --------
    >>> service_of("192.0.2.1:123"), service_of("ctldl.windowsupdate.com"), service_of("example.com")
    ('time synchronisation (NTP)', 'Windows Update', '')
    """
    if address := _ADDRESS.match(destination):
        return _BY_PORT.get(address[1], "")
    return next((name for name, pattern in _PATTERNS if pattern.search(destination)), "")


def explain(destination: str, n_hosts_contacting: int, n_hosts: int) -> str:
    """Return what makes a timer at a destination ordinary: its service, or that most hosts of the fleet call it.

    Examples
    --------
    >>> explain("www.example.com", 10, 13), explain("192.0.2.9:8443", 1, 13)
    ('site that 10 of 13 hosts call', 'not known')
    """
    if service := service_of(destination):
        return service
    if n_hosts > 1 and 2 * n_hosts_contacting > n_hosts:
        return f"site that {n_hosts_contacting} of {n_hosts} hosts call"
    return "not known"
