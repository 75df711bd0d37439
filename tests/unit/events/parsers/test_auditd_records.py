import pytest

from eguard.errors import ParseError
from eguard.events.parsers.auditd_records import arguments, from_hexadecimal, parse_line, parse_message_list


def test_a_line_of_an_audit_log():
    record = parse_line(
        "node=web1 type=SYSCALL msg=audit(1550505632.285:9077924): arch=c000003e syscall=59 success=yes "
        'comm="sh" exe="/bin/dash" key=(null)\x1dARCH=x86_64 SYSCALL=execve'
    )
    assert (record.kind, record.time_unix, record.serial, record.node) == (
        *("SYSCALL", 1550505632.285, "9077924", "web1"),
    )
    assert record.pairs == {
        "arch": "c000003e",
        "syscall": "59",
        "success": "yes",
        "comm": "sh",
        "exe": "/bin/dash",
        "key": "(null)",
        "ARCH": "x86_64",
        "SYSCALL": "execve",
    }


def test_free_text_of_auoms_ends_where_the_next_known_name_begins():
    record = parse_line(
        'type=AUOMS_EXECVE audit(1652292621.990:84143): comm="bash" path_name=["/bin/bash","/lib64/ld.so"] argc=3 '
        'cmdline="bash -c "{echo,x=1}|{bash,-i}"" redactors= containerid='
    )
    assert record.pairs["cmdline"] == 'bash -c "{echo,x=1}|{bash,-i}"'
    assert record.pairs["comm"] == "bash"
    assert "x" not in record.pairs


@pytest.mark.parametrize("text", ["", "type=SYSCALL", "type=X msg=audit(1.5): a=b", "type=X msg=audit(1.5.2:3): a=b"])
def test_what_is_no_record_is_refused(text):
    with pytest.raises(ParseError) as caught:
        parse_line(text)
    assert caught.value.context["reason"] in {"bad_record", "bad_time"}


def test_a_printed_list_of_records():
    records = parse_message_list(
        """[{'SYSCALL': ['syscall=59', 'comm="sh"']}, {'EXECVE': ['argc=2', 'a0="/bin/sh"', "a1=it\\'s"]},"""
        """ {'PATH': ['item=0', 'name="/bin/sh"']}, {'PATH': ['item=1', 'name="/lib"']},"""
        """ {'USER_END': ["msg='op=PAM:session_close", 'acct="root"', "res=success'"]}]"""
    )
    assert records == {
        "SYSCALL": {"syscall": "59", "comm": "sh"},
        "EXECVE": {"argc": "2", "a0": "/bin/sh", "a1": "it's"},
        "PATH": {"item": "0", "name": "/bin/sh"},
        "USER_END": {"op": "PAM:session_close", "acct": "root", "res": "success"},
    }


@pytest.mark.parametrize("text", ["", "[]", "[{}]", "[{'A': ['a=b']", "{'A': ['a=b']}", "[[[[[[", "__import__('os')"])
def test_what_is_no_list_of_records_is_refused(text):
    with pytest.raises(ParseError) as caught:
        parse_message_list(text)
    assert caught.value.context["reason"] == "bad_record"


def test_arguments_in_order_with_hexadecimal_decoded():
    execve = {"argc": "3", "a1": "-c", "a0": "/bin/sh", "a2": "69707461626C6573202D2D76657273696F6E", "a4": "lost"}
    assert list(arguments(execve)) == ["/bin/sh", "-c", "iptables --version"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("2F62696E2F7368002D63", "/bin/sh -c"),
        ("ls", "ls"),
        ("cafe", "cafe"),
        ("deadbeef", "deadbeef"),
        ("07080910", "07080910"),
        ("", ""),
    ],
)
def test_only_printable_text_counts_as_hexadecimal(value, text):
    assert from_hexadecimal(value) == text
