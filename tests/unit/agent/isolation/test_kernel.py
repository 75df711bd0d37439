"""What nft's failures mean to people, and how its listing is read. The real nft is met in tests/integration."""

import os

import pytest

from eguard.agent.isolation.kernel import Nft, explain_failure, table_of
from eguard.errors import IsolationUnavailableError


def fake_nft(folder, body):
    program = folder / "nft"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(0o755)
    return Nft((str(folder), "/usr/bin", "/bin"))


def test_missing_nft_names_the_package(tmp_path):
    with pytest.raises(IsolationUnavailableError, match="not installed") as missing:
        Nft((str(tmp_path),)).read()
    assert "apt-get install nftables" in missing.value.remedy


def test_nft_is_never_taken_from_the_callers_path(tmp_path, monkeypatch):
    fake_nft(tmp_path, "exit 0")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(IsolationUnavailableError):
        Nft((str(tmp_path / "empty"),)).load("")


@pytest.mark.parametrize(
    ("stderr", "cause", "remedy"),
    [
        ("Operation not permitted (you must be root)\nnetlink: Error: cache initialization failed", "packet", "root"),
        ("nft: Unable to initialize Netlink socket: Protocol not supported", "no nf_tables", "modprobe"),
        ("netlink: Error: cache initialization failed: Protocol not supported", "no nf_tables", "CONFIG_NF_TABLES"),
        ("/dev/stdin:3:1-9: Error: Could not process rule: Operation not supported", "lacks a part", "CONFIG_NF"),
        ("/dev/stdin:3:1-9: Error: Could not process rule: No such file or directory", "lacks a part", "nft_ct"),
        ("/dev/stdin:1:1-2: Error: syntax error, unexpected string", "syntax error", "--dry-run"),
        ("", "status 1", "--dry-run"),
    ],
    ids=["privileges", "no-socket", "no-nf_tables", "no-expression", "no-module", "syntax", "silence"],
)
def test_failure_has_cause_and_remedy(tmp_path, stderr, cause, remedy):
    (tmp_path / "stderr").write_text(stderr)
    with pytest.raises(IsolationUnavailableError) as failed:
        fake_nft(tmp_path, f"cat {tmp_path}/stderr >&2; exit 1").load("table")
    assert cause in failed.value.message
    assert remedy in failed.value.remedy


def test_killed_nft_is_told_from_a_refusing_one():
    assert explain_failure("", -9).message == "nft was killed by signal 9"


@pytest.mark.parametrize("answer", ["", "table inet x", '{"other": []}', "[]"])
def test_answer_that_is_not_nfts_json_is_an_error(tmp_path, answer):
    with pytest.raises(IsolationUnavailableError, match="JSON"):
        fake_nft(tmp_path, f"printf '%s' '{answer}'").read()


def test_script_travels_on_standard_input_in_the_c_locale(tmp_path):
    nft = fake_nft(tmp_path, f'cat > {tmp_path}/script; echo "$LC_ALL $*" > {tmp_path}/called')
    nft.check("table inet x {}\n")
    assert (tmp_path / "script").read_text() == "table inet x {}\n"
    assert (tmp_path / "called").read_text() == "C -c -f -\n"


def test_other_tables_of_our_family_are_not_ours(tmp_path):
    listing = '{"nftables": [{"metainfo": {}}, {"table": {"family": "inet", "name": "firewall"}}]}'
    assert fake_nft(tmp_path, f"echo '{listing}'").read() is None


def test_elements_are_read_as_they_are_written():
    elements = ["192.0.2.1", {"concat": ["2001:db8::7", 443]}, {"elem": {"val": {"concat": ["192.0.2.1", 1]}}}]
    elements.append({"prefix": {"addr": "10.0.0.0", "len": 8}})
    table = table_of([{"table": {}}, {"set": {"name": "s", "elem": elements}}, {"set": {"name": "empty"}}])
    assert table.sets == {
        "s": ["192.0.2.1", "2001:db8::7 . 443", "192.0.2.1 . 1", '{"prefix": {"addr": "10.0.0.0", "len": 8}}'],
        "empty": [],
    }
