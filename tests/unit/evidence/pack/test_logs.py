"""Logs in a pack."""

from eguard.evidence.pack.logs import collect_logs
from eguard.evidence.pack.writer import PackWriter
from eguard.evidence.redaction import Redactor


def collected(tmp_path, *files):
    """Return the section, and the texts of its files by name."""
    with PackWriter(tmp_path / "pack", Redactor()) as pack:
        collect_logs(pack, files)
        place = pack._place / "logs"
        return pack.sections["logs"], {path.name: path.read_text() for path in place.glob("*")}


def test_a_log_that_is_long_gives_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr("eguard.evidence.pack.logs.MAX_BYTES", 100)
    log = tmp_path / "a.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    section, texts = collected(tmp_path, log)
    kept = texts["a.log"].splitlines()
    assert (kept[0], kept[-1]) == ("line 88", "line 99")
    assert section.notes == ["a.log has 790 bytes; its last 96 are here"]


def test_what_is_json_stays_json_and_other_lines_stay_lines(tmp_path):
    log = tmp_path / "a.log"
    log.write_bytes(b'{"token": "abc", "event": "x"}\n{broken --password abc\nplain \xff\n')
    _, texts = collected(tmp_path, log)
    assert texts["a.log"] == '{"token": "[redacted]", "event": "x"}\n{broken --password [redacted]\nplain \ufffd\n'


def test_a_log_that_is_not_there_is_named_and_the_others_are_kept(tmp_path):
    (tmp_path / "b.log").write_text("x\n")
    section, texts = collected(tmp_path, tmp_path / "none.log", tmp_path / "b.log")
    assert section.state == "partial"
    assert "none.log: No such file" in section.missing[0]
    assert sorted(texts) == ["b.log", "phrases.json"]


def test_lines_of_any_depth_and_any_characters_are_kept(tmp_path):
    log = tmp_path / "a.log"
    deep = '{"a":' * 5000 + '"--password hunter22"' + "}" * 5000
    log.write_text(deep + '\n{"name": "\\ud800", "token": "hunter22"}\n{"a": NaN}\n')
    _, texts = collected(tmp_path, log)
    lines = texts["a.log"].splitlines()
    assert (len(lines), "hunter22" in texts["a.log"]) == (3, False)
