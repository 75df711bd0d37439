"""Pictures in a pack: the picture and nothing else."""

import struct
import zlib

import pytest

from eguard.errors import EvidenceError
from eguard.evidence.pack.pictures import bare_png, collect_screenshots
from eguard.evidence.pack.writer import PackWriter
from eguard.evidence.redaction import Redactor


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


HEAD = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
TAIL = chunk(b"IDAT", zlib.compress(bytes(4))) + chunk(b"IEND", b"")


def test_a_picture_is_kept_without_what_is_written_into_it():
    said = chunk(b"tEXt", b"Author\0somebody") + chunk(b"eXIf", b"camera") + chunk(b"iTXt", b"x")
    assert bare_png(HEAD + said + TAIL + b"behind the end") == HEAD + TAIL


@pytest.mark.parametrize(
    "data", [b"", b"GIF89a", HEAD, (HEAD + TAIL)[:-1], (HEAD + TAIL).replace(b"IDAT", b"IDAx"), HEAD + b"\xff" * 40]
)
def test_what_is_no_whole_picture_is_refused(data):
    with pytest.raises(EvidenceError):
        bare_png(data)


def test_pages_without_a_picture_are_named(tmp_path):
    shots = tmp_path / "shots"
    shots.mkdir()
    (shots / "endpoint-nac.png").write_bytes(HEAD + TAIL)
    (shots / "broken.png").write_bytes(b"x")
    with PackWriter(tmp_path / "pack", Redactor()) as pack:
        collect_screenshots(pack, shots)
    section = pack.sections["screenshots"]
    assert (section.state, section.files, len(section.missing)) == ("partial", 1, 4)
    assert section.missing[0] == "broken.png: no PNG file"
