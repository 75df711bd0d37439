"""Signal 8: how the scores of a day stand to those that the served model's thresholds were set on."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from eguard.server.services import alert_rules as rules
from eguard.server.services.alert_rules import Verdict
from eguard.server.services.calibrations import health_of

#: Checks come every hour; one that is older says nothing of now.
_LATE_SECONDS: Final = 3.0 * 3600.0


def scores(connection: sa.Connection, now: float) -> Verdict:
    """Judge the latest check of scores."""
    found = health_of(connection)
    if found is None:
        return rules.p_values(None, "no model is served")
    if found["calibrated_at_unix"] is None:
        rows = found["samples"].get("rows", 0)
        return rules.p_values(None, f"too few calibration samples yet: {rows} rows (insufficient_calibration)")
    health = found["health"]
    if health is None or now - health["checked_at_unix"] > _LATE_SECONDS:
        return rules.p_values(None, "scores were not checked lately")
    if health["status"] != "checked":
        return rules.p_values(None, health["status"])
    return rules.p_values(health)
