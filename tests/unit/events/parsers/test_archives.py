import gzip
import io
import lzma
import random
import tarfile
import zipfile
import zlib

import pytest

from eguard.errors import CorruptFileError, ParseError
from eguard.events.parsers.archives import MEMBER_END, content_blocks
from eguard.events.parsers.byte_reader import BLOCK_BYTES

# Hardly compressible, longer than several blocks, with long runs.
CONTENT = random.Random(5).randbytes(150_000) + b"run" * 60_000


def members(path):
    parts = [b""]
    for block in content_blocks(path):
        assert len(block) <= BLOCK_BYTES
        if block == MEMBER_END:
            parts.append(b"")
        else:
            parts[-1] += block
    assert parts.pop() == b""
    return parts


def zipped(files, *, is_streamed=False, compression=zipfile.ZIP_DEFLATED):
    class Pipe(io.BytesIO):
        def seekable(self):
            return not is_streamed

        def tell(self):
            if is_streamed:
                raise OSError
            return super().tell()

    target = Pipe()
    with zipfile.ZipFile(target, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return target.getvalue()


def tarred(files, form=tarfile.USTAR_FORMAT):
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (CONTENT, [CONTENT]),
        (gzip.compress(CONTENT), [CONTENT]),
        (gzip.compress(CONTENT) + gzip.compress(b"second member"), [CONTENT + b"second member"]),
        (gzip.compress(CONTENT) + b"\0" * 700, [CONTENT]),
        (lzma.compress(CONTENT), [CONTENT]),
        (lzma.compress(CONTENT) + lzma.compress(b"second stream") + b"\0" * 8, [CONTENT + b"second stream"]),
        (zipped({"a.log": CONTENT, "b.log": b"two"}), [CONTENT, b"two"]),
        (zipped({"a.log": CONTENT, "b.log": b"two"}, is_streamed=True), [CONTENT, b"two"]),
        (zipped({"folder/": b"", "a.log": CONTENT}, compression=zipfile.ZIP_STORED), [b"", CONTENT]),
        (zipped({}), []),
        (tarred({"a.log": CONTENT, "b.log": b"two"}), [CONTENT, b"two"]),
        (tarred({"n" * 300: CONTENT}, tarfile.PAX_FORMAT), [CONTENT]),
        (tarred({"n" * 300: CONTENT}, tarfile.GNU_FORMAT), [CONTENT]),
        (gzip.compress(tarred({"a.log": CONTENT, "b.log": b"two"})), [CONTENT, b"two"]),
        (zipped({"a.log.gz": gzip.compress(CONTENT), "b.log": b"two"}), [CONTENT, b"two"]),
        (b"", [b""]),
    ],
    ids=[
        *("plain", "gzip", "gzip-members", "gzip-padding", "xz", "xz-streams", "zip", "zip-streamed", "zip-stored"),
        *("zip-empty", "tar", "tar-pax", "tar-gnu", "tar-gzip", "zip-gzip", "empty"),
    ],
)
def test_content_is_found_by_its_first_bytes_whatever_the_name(tmp_path, data, expected):
    path = tmp_path / "any.name"
    path.write_bytes(data)
    assert members(path) == expected


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, lambda data: zipped({"a": data})])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_a_file_that_breaks_off_delivers_nearly_all_it_holds(tmp_path, pack, share):
    packed = pack(CONTENT[:150_000])
    path = tmp_path / "cut"
    path.write_bytes(packed[: int(len(packed) * share)])
    blocks = []
    with pytest.raises(CorruptFileError, match="break") as caught:
        blocks.extend(content_blocks(path))
    delivered = b"".join(blocks)
    assert CONTENT.startswith(delivered)
    assert len(delivered) >= 150_000 * share - BLOCK_BYTES
    assert str(path) in str(caught.value)
    assert caught.value.context["byte"] == len(packed[: int(len(packed) * share)])


def test_a_cut_delivers_all_that_can_be_decompressed(tmp_path):
    packed = gzip.compress(b"run" * 200_000)  # a byte stands for hundreds
    path = tmp_path / "cut"
    for cut in range(20, len(packed)):
        path.write_bytes(packed[:cut])
        blocks = []
        with pytest.raises(CorruptFileError):
            blocks.extend(content_blocks(path))
        assert b"".join(blocks) == zlib.decompressobj(wbits=31).decompress(packed[:cut])


def damaged(data, at, value=0xFF):
    return data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (damaged(gzip.compress(CONTENT), -6 % len(gzip.compress(CONTENT))), "not sound"),
        (damaged(lzma.compress(CONTENT), 2_000), "not sound"),
        (damaged(zipped({"a": b"text of the member"}), 14), "fails its checksum"),
        (damaged(zipped({"a": b"text"}), 6, 1), "is encrypted"),
        (damaged(zipped({"a": b"text"}), 8, 4), "is not supported"),
        (zipped({"a": b"text"})[:-5], "directory breaks off"),
        (zipped({"a": b"text"})[:36], "break off"),
        (damaged(tarred({"a": b"text"}), 3), "fails its checksum"),
        (tarred({"a": b"text"})[:520], "breaks off"),
        (gzip.compress(b"text") + b"tail", "something that is not gzip follows"),
        (lzma.compress(b"text") + b"tail", "something that is not xz follows"),
    ],
    ids=[
        *("gzip-crc", "xz-data", "zip-crc", "zip-encrypted", "zip-method", "zip-no-end", "zip-cut", "tar-header"),
        *("tar-cut", "gzip-tail", "xz-tail"),
    ],
)
def test_damage_is_named(tmp_path, data, words):
    path = tmp_path / "bad"
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=words):
        members(path)


def test_a_tar_number_with_a_sign_is_no_number(tmp_path):
    header = bytearray(tarred({"a": b"text"})[:512])
    header[124:136] = b"-0000000005\0"
    header[148:156] = b"%06o\0 " % sum(header[:148] + b" " * 8 + header[156:])
    path = tmp_path / "bad"
    path.write_bytes(bytes(header) + b"\0" * 1024)
    with pytest.raises(CorruptFileError, match="checksum"):
        members(path)


def test_nesting_is_bounded(tmp_path):
    data = b"text"
    for _ in range(6):
        data = gzip.compress(data)
    path = tmp_path / "matryoshka"
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match="nested more than 4 deep"):
        members(path)


def test_a_missing_file_and_a_folder_are_clear_errors(tmp_path):
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(ParseError, match="cannot read") as caught:
            members(path)
        assert not isinstance(caught.value, CorruptFileError)
