"""Benign timers have names; nothing else gets one."""

import pytest

from eguard.mlops.beacon_services import explain, service_of


@pytest.mark.parametrize(
    ("destination", "service"),
    [
        ("91.189.91.157:123", "time synchronisation (NTP)"),
        ("0.pool.ntp.org", "time synchronisation (NTP)"),
        ("[2001:db8::5]:123", "time synchronisation (NTP)"),
        ("time.windows.com", "time synchronisation (NTP)"),
        ("ctldl.windowsupdate.com", "Windows Update"),
        ("update.googleapis.com", "update check"),
        ("crl.comodoca.com", "certificate status (CRL, OCSP)"),
        ("tile-service.weather.microsoft.com", "live tiles and news feed"),
        ("www.msftncsi.com", "connectivity check"),
        ("health.example.com", "health check"),
        ("www.alexa.com", "site ranking toolbar"),
        ("192.0.2.1:5888", ""),
        ("192.0.2.123:8443", ""),
        ("evil.example", ""),
        ("", ""),
    ],
)
def test_services(destination, service):
    assert service_of(destination) == service


def test_prevalence_explains_what_has_no_name():
    assert explain("www.example.com", 7, 13) == "site that 7 of 13 hosts call"
    assert explain("www.example.com", 6, 13) == "not known"
    assert explain("www.example.com", 1, 1) == "not known"
