"""Which log source an event has, whoever delivered it."""

import pytest

from eguard.detection.log_sources import is_delivered, log_source_of
from eguard.events.model import UNCOUNTED, EventClass


@pytest.mark.parametrize(
    ("source", "code", "event_type", "event_class"),
    [
        ("sysmon", 1, "exec", EventClass.PROCESS_EXEC),
        ("security", 4688, "exec", EventClass.PROCESS_EXEC),
        ("defender", 0, "exec", EventClass.PROCESS_EXEC),
        ("auditd", 0, "exec", EventClass.PROCESS_EXEC),
        ("osquery", 0, "exec", EventClass.PROCESS_EXEC),
        ("ebpf", 0, "exec", EventClass.PROCESS_EXEC),
        ("a sensor to come", 0, "started", EventClass.PROCESS_EXEC),
    ],
)
def test_a_process_start_is_one_thing_for_all_sources(source, code, event_type, event_class):
    assert "process_creation" in log_source_of(source, code, event_type, event_class).categories


@pytest.mark.parametrize(
    ("source", "image", "product"),
    [
        ("sysmon", "", "windows"),
        ("linux-sysmon", "", "linux"),
        ("sysmon", "/usr/bin/bash", "linux"),
        ("auditd", "", "linux"),
        ("defender", "C:\\x.exe", "windows"),
        ("zeek", "", "zeek"),
    ],
)
def test_the_product_follows_from_the_source_or_the_path(source, image, product):
    assert log_source_of(source, 1, "exec", 0, image=image).product == product


@pytest.mark.parametrize(
    ("action", "categories"),
    [
        ("CreateKey", {"registry_event", "registry_add"}),
        ("DeleteKey", {"registry_event", "registry_delete"}),
        ("DeleteValue", {"registry_event", "registry_delete"}),
        ("", {"registry_event"}),
    ],
)
def test_sysmon_12_is_told_apart_by_its_action(action, categories):
    assert log_source_of("sysmon", 12, "reg_key", UNCOUNTED, registry_action=action).categories == categories


def test_the_channel_outweighs_the_source():
    source = log_source_of("sigma", 1119, "other", UNCOUNTED, channel="Microsoft-Windows-Windows Defender/Operational")
    assert (source.services, source.categories) == ({"windefend"}, frozenset())
    source = log_source_of("sigma", 13, "reg_set", UNCOUNTED, channel="Microsoft-Windows-Sysmon/Operational")
    assert source.categories == {"registry_set", "registry_event"}


@pytest.mark.parametrize(("log", "categories"), [("dns", {"dns"}), ("http", {"proxy", "webserver"}), ("ssl", set())])
def test_zeek_logs_serve_the_network_categories(log, categories):
    source = log_source_of("zeek", 0, log, EventClass.NETWORK_CONNECT)
    assert (source.services, source.categories) == ({log}, categories)


def test_a_security_event_without_category_has_only_its_service():
    source = log_source_of("security", 4698, "task_create", UNCOUNTED)
    assert (source.services, source.categories, source.event_code) == ({"security"}, frozenset(), 4698)


def test_powershell_script_blocks_are_a_category():
    source = log_source_of("x", 4104, "", UNCOUNTED, channel="Microsoft-Windows-PowerShell/Operational")
    assert source.categories == {"ps_script"}


@pytest.mark.parametrize(
    ("selector", "delivered"),
    [
        (("windows", "process_creation", ""), True),
        (("linux", "", "auditd"), True),
        (("linux", "", ""), True),
        (("", "dns", ""), True),
        (("zeek", "", "http"), True),
        (("zeek", "", "kerberos"), False),
        (("macos", "process_creation", ""), False),
        (("windows", "file_access", ""), False),
        (("", "antivirus", ""), False),
    ],
)
def test_rules_are_shipped_only_for_what_can_arrive(selector, delivered):
    assert is_delivered(*selector) is delivered
