import json

import msgspec
import pytest

from eguard.sensor.names import comm_of_path, decode_command_line, decode_name
from eguard.wire import decode_process_key, encode_process_key


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"bash\x00\x00\x00", "bash"),
        (b"", ""),
        (b"\x00hidden", ""),
        (b"fifteen-bytes-x\x00", "fifteen-bytes-x"),
        (b"\xff\xfe", r"\xff\xfe"),
        (b"\x1b[2Jevil\n", "\x1b[2Jevil\n"),
        ("ñ日日日日".encode()[:-1], "ñ日日日" + r"\xe6\x97"),
        (b"a:b%c", "a:b%c"),
    ],
    ids=["plain", "empty", "leading-nul", "full", "no-utf8", "control", "cut-character", "separators"],
)
def test_a_name_becomes_text_that_every_encoder_takes(raw, text):
    assert decode_name(raw) == text
    assert msgspec.json.decode(msgspec.json.encode(decode_name(raw))) == text
    assert json.loads(json.dumps(decode_name(raw))) == text
    if text.strip():
        assert decode_process_key(encode_process_key(text, text)) == (text, text)


def test_a_command_line_keeps_blanks_between_arguments_and_loses_the_last_nul():
    assert decode_command_line(b"grep\x00-e\x00a b\x00\xff\x00") == r"grep -e a b \xff"


def test_a_path_gives_the_name_that_the_kernel_would_cut():
    assert comm_of_path("/opt/a-very-long-program-name") == "a-very-long-pro"
    assert comm_of_path("relative") == "relative"
