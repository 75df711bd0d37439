"""How a pack is written: nowhere else, nothing over, nothing secret."""

import pytest

from eguard.errors import ConfigError, EvidenceError
from eguard.evidence.known_secrets import KnownSecret
from eguard.evidence.pack.writer import PackWriter
from eguard.evidence.redaction import Redactor


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "pack").mkdir()
    with pytest.raises(ConfigError, match="exists already"):
        PackWriter(tmp_path / "pack", Redactor())


def test_a_secret_that_gets_past_redaction_stops_the_pack(tmp_path, custody):
    redactor = Redactor([KnownSecret("TOKEN", "s3same-open")])
    with PackWriter(tmp_path / "pack", redactor) as pack:
        with pack.section("logs") as section:
            pack._write(section, "x.log", b"s3same-open")
        with pytest.raises(EvidenceError, match="would hold the secret of TOKEN") as refused:
            pack.seal({}, custody.signer())
    assert "s3same" not in str(refused.value)
    assert [path.name for path in tmp_path.iterdir() if "pack" in path.name] == []


def test_names_of_sources_cannot_leave_the_pack(tmp_path):
    with PackWriter(tmp_path / "pack", Redactor()) as pack, pack.section("logs") as section:
        for _ in range(2):
            pack.add_text(section, "../../etc/passwd", "x")
        pack.add_text(section, "..", "x")
        assert sorted(pack._digests) == ["logs/etc-passwd", "logs/etc-passwd-2", "logs/file"]
