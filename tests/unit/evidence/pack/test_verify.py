"""No change to a pack goes unnoticed."""

import pytest

from eguard.errors import EvidenceError
from eguard.evidence.pack.verify import verify_pack
from eguard.evidence.signing import Custody


def change(path):
    path.write_bytes(path.read_bytes() + b" ")


def link(path):
    kept = path.with_name("elsewhere")
    path.rename(kept)
    path.symlink_to(kept)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda pack: change(pack / "sql" / "12.4-1.json"), "sql/12.4-1.json was changed"),
        (lambda pack: (pack / "sql" / "12.4-1.json").unlink(), "sql/12.4-1.json is missing"),
        (lambda pack: (pack / "sql" / "more.json").write_text("{}"), "sql/more.json was added"),
        (lambda pack: (pack / "note").symlink_to("/etc"), "note was added"),
        (lambda pack: link(pack / "sql" / "12.4-1.json"), "sql/12.4-1.json was changed"),
        (lambda pack: change(pack / "manifest.json"), "manifest.json is not what was signed"),
        (lambda pack: (pack / "manifest.dsse.json").unlink(), "cannot be read"),
        (lambda pack: (pack / "manifest.dsse.json").write_text("{}"), "not signed by a trusted key"),
    ],
    ids=["changed", "removed", "added", "added-link", "made-a-link", "manifest", "no-seal", "empty-seal"],
)
def test_no_change_goes_unnoticed(pack, custody, spoil, said):
    spoil(pack)
    with pytest.raises(EvidenceError, match=said):
        verify_pack(pack, custody.trusted_keys())


def test_every_difference_is_named_to_programs(pack, custody):
    for path in (pack / "sql").iterdir():
        path.unlink()
    with pytest.raises(EvidenceError, match="and 6 more") as refused:
        verify_pack(pack, custody.trusted_keys())
    assert len(refused.value.context["differences"]) == 11


def test_a_pack_of_a_strangers_key_is_refused(pack, tmp_path):
    other = Custody(tmp_path / "other")
    other.signer()
    with pytest.raises(EvidenceError, match="not signed by a trusted key"):
        verify_pack(pack, other.trusted_keys())
