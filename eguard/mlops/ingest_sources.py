"""Which raw files the ingest stage reads, into which table, and what is known about each."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

TableName = Literal["events", "alerts", "connections"]


class IngestSource(BaseModel):
    """One raw file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(description="file below data/raw")
    format: str = Field(description="name of the parser (docs/reference/formats.md)")
    table: TableName = Field(description="table that the events go to")
    group: str = Field(default="", description="capture, site or network; empty leaves it to the file")
    enabled: bool = Field(default=True, description="whether the file is read")
    deduplicate: bool = Field(
        default=False,
        description="drop rows equal in every column and field; only for logs whose records have an identity",
    )
    is_known_damaged: bool = Field(
        default=False, description="the file is broken upstream; its rows before the damage are wanted"
    )


def _original(capture: str, archive: str, *, is_known_damaged: bool = False) -> IngestSource:
    return IngestSource(
        path=f"endpoint-events/raw/{capture}.{archive}",
        format="sysmon",
        table="events",
        group=f"otrf:{capture}",
        is_known_damaged=is_known_damaged,
    )


def _zeek(path: str, group: str) -> IngestSource:
    return IngestSource(path=path, format="zeek", table="connections", group=group, deduplicate=True)


def _messages(path: str, group: str) -> IngestSource:
    return IngestSource(path=path, format="messages-csv", table="connections", group=group)


#: The shipped data. Originals stand before the derived table, whose rows of the same captures they replace.
SHIPPED_SOURCES: Final[tuple[IngestSource, ...]] = (
    _original("cmd_sam_copy_esentutl", "zip"),
    _original("covenant_persiststartup", "tar.gz", is_known_damaged=True),
    _original("covenant_sharpsc_stop_dcerpc_smb_svcctl", "zip"),
    _original("empire_powerdump_sam_access", "zip"),
    _original("metasploit_comsvcs_lsass_memory_dump", "zip"),
    _original("syslog_sysmon_log4shell_cve2021_44228_jndi_reference", "zip"),
    IngestSource(
        path="endpoint-events/raw/syslog_auoms_auditd_log4shell_cve2021_44228_jndi_reference.zip",
        format="auditd",
        table="events",
        group="otrf:syslog_auoms_auditd_log4shell_cve2021_44228_jndi_reference",
    ),
    IngestSource(path="endpoint-events/events.csv.gz", format="sysmon-csv", table="events"),
    IngestSource(
        path="endpoint-other-formats/mde_proc_cs1.csv.gz", format="defender", table="events", group="msticpy:defender"
    ),
    IngestSource(
        path="endpoint-other-formats/processes_on_host.csv",
        format="security-csv",
        table="events",
        group="msticpy:security",
    ),
    IngestSource(
        path="endpoint-other-formats/osqueryd.results.log", format="osquery", table="events", group="msticpy:osquery"
    ),
    IngestSource(
        path="endpoint-other-formats/linux_events.csv", format="auditd", table="events", group="msticpy:auditd"
    ),
    IngestSource(path="sigma-positives/events.ndjson.gz", format="sigma-positives", table="events", group="sigma"),
    *(
        IngestSource(path=f"alerts-ait/{network}_alerts.csv.xz", format="ait", table="alerts", group=network)
        for network in ("fox", "harrison", "russellmitchell", "santos", "shaw")
    ),
    *(_zeek(f"net-rita-3days/conn.2024-04-{day}.log.gz", "rita-3days") for day in (19, 20, 21)),
    _zeek("net-rita-http24h/http.log.gz", "rita-http24h"),
    _zeek("net-apt29-day1/NASHUA_conn.log.gz", "apt29-nashua"),
    _zeek("net-apt29-day1/SCRANTON_conn.log.gz", "apt29-scranton"),
    _zeek("net-c2-sessions/remcos_ctu_sme11.conn.log.labeled.gz", "c2-remcos"),
    _zeek("net-c2-sessions/slips_test_cc_1.conn.log.gz", "c2-slips"),
    _messages("net-c2-sessions/asyncrat.messages.csv", "c2-asyncrat"),
    _messages("net-c2-sessions/caldera_manx_tcp.messages.csv", "c2-caldera"),
)
