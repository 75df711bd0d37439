import os
import struct

from eguard.sensor.proc_messages import (
    ProcEventKind,
    ProcMessage,
    SequenceGaps,
    control_message,
    parse_messages,
)

# As received on Linux 6.18, x86-64: /bin/true executed as pid 4242 on CPU 1.
EXEC = bytes.fromhex(
    "4c000000" "0300" "0000" "2a000000" "00000000"  # nlmsghdr: 76 bytes, NLMSG_DONE
    "01000000" "01000000" "2a000000" "00000000" "2800" "0000"  # cn_msg: sequence 42, 40 bytes
    "02000000" "01000000" "00e40b5402000000"  # PROC_EVENT_EXEC, CPU 1, 10 s after the boot
    "92100000" "92100000" "0000000000000000" "0000000000000000"  # thread, process
)  # fmt: skip


def test_an_execution_is_read_from_its_bytes():
    assert parse_messages(EXEC) == [ProcMessage(ProcEventKind.EXEC, 1, 42, 10_000_000_000, (4242, 4242, 0, 0))]


def test_several_messages_of_one_datagram_are_all_read():
    assert len(parse_messages(EXEC * 3)) == 3


def test_a_torn_message_ends_the_reading_without_an_error():
    for length in range(len(EXEC)):
        assert parse_messages(EXEC[:length]) == []
    assert len(parse_messages(EXEC + EXEC[:40])) == 1


def test_a_message_of_another_connector_is_not_taken_for_ours():
    foreign = EXEC[:16] + struct.pack("=II", 4, 1) + EXEC[24:]
    assert parse_messages(foreign) == []


def test_a_length_that_lies_does_not_lead_astray():
    for length in (0, 8, 51, 0xFFFF_FFFF):
        assert parse_messages(struct.pack("=I", length) + EXEC[4:]) == []


def test_the_request_to_listen_has_the_bytes_that_the_kernel_expects():
    expected = struct.pack("=IHHII IIIIHH I".replace(" ", ""), 40, 3, 0, 0, os.getpid(), 1, 1, 0, 0, 4, 0, 1)
    assert control_message(listen=True) == expected
    assert control_message(listen=False)[-4:] == b"\x02\x00\x00\x00"


def _message(sequence, cpu=0, kind=ProcEventKind.EXEC):
    return ProcMessage(kind, cpu, sequence, 0, (0, 0, 0, 0))


def test_gaps_are_counted_for_each_cpu_and_across_the_wrap():
    gaps = SequenceGaps()
    assert gaps.missed_before(_message(0xFFFF_FFFE)) == 0
    assert gaps.missed_before(_message(5, cpu=1)) == 0
    assert gaps.missed_before(_message(1)) == 2
    assert gaps.missed_before(_message(6, cpu=1)) == 0


def test_acknowledgements_and_restarts_are_no_losses():
    gaps = SequenceGaps()
    gaps.missed_before(_message(1000))
    assert gaps.missed_before(_message(77, kind=ProcEventKind.ACK)) == 0
    assert gaps.missed_before(_message(0)) == 0
    assert gaps.missed_before(_message(1)) == 0
