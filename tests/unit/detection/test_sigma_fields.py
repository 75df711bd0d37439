"""Sigma's fields from records and from columns."""

from eguard.detection.log_sources import log_source_of
from eguard.detection.sigma_fields import ColumnValues, columns_of, view_of_columns, view_of_record
from eguard.detection.sigma_view import Knowledge
from eguard.events.columns import EventBatch
from eguard.events.model import UNCOUNTED, Event, EventClass


def values_of(**facts):
    """Return the column values of one event, by way of a batch."""
    (values,) = columns_of(EventBatch.from_events([Event(**({"time_unix": 0.0, "host_id": "h"} | facts))]))
    return ColumnValues._make(values)


def columns(source, code, event_type, event_class=UNCOUNTED, **fields):
    values = values_of(source=source, event_code=code, event_type=event_type, event_class=event_class, **fields)
    return view_of_columns(values, log_source_of(*values[:4], image=values.image_path))


def test_a_base_name_is_the_end_of_a_path_and_a_path_is_whole():
    view = columns("sysmon", 1, "exec", comm="cmd.exe", parent_comm="explorer.exe", command_line="cmd /c dir")
    assert view.values == {
        "EventID": "1",
        "Image": "\\cmd.exe",
        "ParentImage": "\\explorer.exe",
        "CommandLine": "cmd /c dir",
    }
    assert view.partial == {"Image": Knowledge.END, "ParentImage": Knowledge.END}
    assert not view.is_complete
    assert "Image" not in columns("ebpf", 0, "exec", comm="sh", image_path="/usr/bin/sh").partial


def test_linux_paths_are_cut_at_slashes():
    assert columns("auditd", 0, "exec", EventClass.PROCESS_EXEC, comm="bash").values["Image"] == "/bash"


def test_what_is_not_recorded_is_absent_and_unknown():
    view = columns("sysmon", 1, "exec")
    assert view.values == {"EventID": "1"}
    assert not view.is_complete


def test_one_process_acting_on_another_has_a_source_and_a_target():
    view = columns("sysmon", 10, "proc_access", comm="procdump.exe", target="lsass.exe")
    assert view.values["SourceImage"] == "\\procdump.exe"
    assert view.values["TargetImage"] == "\\lsass.exe"
    assert view.knowledge("TargetImage") is Knowledge.END
    assert "Image" not in view.values


def test_an_extension_is_the_end_of_a_file_name_and_a_hive_the_start_of_a_key():
    view = columns("sysmon", 11, "file_create", target=".ps1")
    assert (view.values["TargetFilename"], view.knowledge("TargetFilename")) == (".ps1", Knowledge.END)
    view = columns("sysmon", 13, "reg_set", target="HKLM")
    assert (view.values["TargetObject"], view.knowledge("TargetObject")) == ("HKLM\\", Knowledge.START)
    view = columns("sysmon", 13, "reg_set", target="HKLM\\Software\\Run\\x")
    assert view.knowledge("TargetObject") is Knowledge.WHOLE


def test_a_module_is_the_last_part_of_its_path():
    view = columns("sysmon", 7, "module_load", target="amsi.dll")
    assert (view.values["ImageLoaded"], view.knowledge("ImageLoaded")) == ("\\amsi.dll", Knowledge.END)


def test_a_pipe_gets_its_backslash():
    assert columns("sysmon", 17, "pipe_create", target="lsass").values["PipeName"] == "\\lsass"
    assert columns("sysmon", 17, "pipe_create", target="\\lsass").values["PipeName"] == "\\lsass"


def test_a_connection_is_outbound_only_where_the_source_says_so():
    facts = {"destination_address": "10.0.0.1", "destination_port": 443}
    net = columns("sysmon", 3, "net", EventClass.NETWORK_CONNECT, **facts)
    assert (net.values["DestinationIp"], net.values["DestinationPort"]) == ("10.0.0.1", "443")
    assert "Initiated" not in net.values
    connect = columns("ebpf", 0, "connect", EventClass.NETWORK_CONNECT, **facts)
    assert connect.values["Initiated"] == "true"


def test_a_query_is_known_whole_for_both_kinds_of_rules():
    assert columns("sysmon", 22, "dns", target="a.example").values["QueryName"] == "a.example"
    assert columns("zeek", 0, "dns", EventClass.DNS_QUERY, target="a.example").values["query"] == "a.example"


def test_one_hash_of_several_is_a_fragment():
    view = columns("sysmon", 1, "exec", file_sha256="ab" * 32)
    assert view.values["Hashes"] == "SHA256=" + "AB" * 32
    assert view.knowledge("Hashes") is Knowledge.FRAGMENT


def record(fields, wanted, source="sysmon", code=1, event_type="exec", **facts):
    values = values_of(source=source, event_code=code, event_type=event_type, event_class=0, **facts)
    return view_of_record(fields, values, log_source_of(*values[:4]), wanted)


def test_a_record_is_complete_and_keeps_its_own_names():
    view = record({"Image": "C:\\a.exe", "Company": ""}, ["Image", "Company", "Product"])
    assert view.is_complete
    assert view.values == {"Image": "C:\\a.exe", "Company": ""}


def test_a_wanted_field_is_found_under_the_name_its_source_has_for_it():
    view = record({"NewProcessName": "C:\\a.exe"}, ["Image"], source="security", code=4688)
    assert view.values["Image"] == "C:\\a.exe"
    view = record({"Threat Name": "EICAR"}, ["ThreatName"], source="windefend", code=1119, event_type="")
    assert view.values["ThreatName"] == "EICAR"
    view = record({"uri": "/a?b"}, ["cs-uri-query"], source="zeek", code=0, event_type="http")
    assert view.values["cs-uri-query"] == "/a?b"


def test_columns_fill_gaps_of_a_record_only_where_they_know_the_whole():
    view = record({}, ["CommandLine", "Image", "EventID"], command_line="cmd /c", comm="cmd.exe")
    assert view.values == {"CommandLine": "cmd /c", "EventID": "1"}
