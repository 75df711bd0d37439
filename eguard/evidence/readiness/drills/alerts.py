"""Alerts: the rules are judged, operators are reached, and a scraper finds what dashboards draw."""

from __future__ import annotations

import http.client
import ssl
from typing import Any, Final
from urllib.parse import urlsplit

import sqlalchemy as sa

from eguard.errors import EvidenceError
from eguard.evidence.readiness.course import Course, DrillOptions
from eguard.fleet.tables import notification, notification_delivery
from eguard.settings import load_agent_settings, load_operator_settings

TITLE: Final = "Send a test message to every receiver, and see that each alert rule was judged just now"
#: The rules are judged every minute.
_LOOKED_SECONDS: Final = 300.0
_SCRAPE_SECONDS: Final = 15.0
_WEEK_SECONDS: Final = 7 * 86_400.0

_message, _delivery = notification.c, notification_delivery.c


def run(course: Course, options: DrillOptions) -> None:  # noqa: ARG001 - every drill is called alike
    """Run the drill."""
    tried = course.run("server", "notify", "test", accepted=(0, 1))["results"]
    confirmed = [each for each in tried if each["ok"] and not each["address"].startswith("udp:")]
    course.check(
        "receivers that took the test message",
        {each["address"]: each["ok"] for each in tried},
        "every one that is set up, and at least one that says so, which UDP does not",
        passed=bool(confirmed) and all(each["ok"] for each in tried),
    )
    summary = course.run("fleet", "signals", "--range", "24h")
    rules = summary["alerts"]
    looked = {each["rule"]: each["looked_at_unix"] for each in rules}
    stale = sorted(rule for rule, at in looked.items() if at is None or summary["until_unix"] - at > _LOOKED_SECONDS)
    course.check("rules that were not judged lately", stale, f"none of {len(rules)}", passed=bool(rules) and not stale)
    firing = sorted(each["rule"] for each in rules if each["state"] == "alert")
    course.check("rules that fire now", firing, "none: go live with a quiet board", passed=not firing)
    known = {each["rule"] for each in rules if each["state"] != "unknown"}
    scraped = _metrics()
    missing = sorted(rule for rule in known if f'eguard_alert_firing{{rule="{rule}"}}' not in scraped)
    course.check(
        "rules that a scraper does not find at /metrics",
        missing,
        f"none of {len(known)}",
        passed=bool(known) and not missing,
    )
    lost = course.rows("messages of the last week that no receiver took", _lost(course.now()))
    course.check("messages given up", len(lost), "none", passed=not lost)


def _metrics() -> str:
    """Return what the administration's listener tells a scraper."""
    address, authority = urlsplit(load_operator_settings().api), load_agent_settings().tls_ca
    context = ssl.create_default_context(cafile=None if authority is None else str(authority))
    connection = http.client.HTTPSConnection(
        address.hostname or "", address.port, timeout=_SCRAPE_SECONDS, context=context
    )
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode("utf-8", "replace")
    except http.client.HTTPException as error:
        raise EvidenceError(f"/metrics of {address.netloc} cannot be read: {error!r}") from error
    finally:
        connection.close()


def _lost(now: float) -> sa.Select[Any]:
    return (
        sa.select(_message.created_at, _message.kind, _message.title, _delivery.sink, _delivery.last_error)
        .select_from(notification.join(notification_delivery, _delivery.notification_id == _message.notification_id))
        .where(_delivery.status == "given_up", _message.created_at >= now - _WEEK_SECONDS)
        .order_by(_message.created_at)
    )
