from math import log2

import numpy as np
import pytest

from eguard.detection.text_statistics import (
    MAX_TEXT_BYTES,
    byte_statistics,
    compressed_fraction,
    distinct_texts,
    min_entropy_bits,
    renyi2_entropy_bits,
    shannon_entropy_bits,
    text_bytes,
)


@pytest.mark.parametrize(
    ("data", "shannon", "renyi2", "smallest"),
    [
        (b"", 0.0, 0.0, 0.0),
        (b"a", 0.0, 0.0, 0.0),
        (b"aaab", 0.75 * log2(4 / 3) + 0.25 * 2, -log2(9 / 16 + 1 / 16), -log2(3 / 4)),
        (b"aabbc", 0.8 * log2(2.5) + 0.2 * log2(5), -log2(9 / 25), log2(2.5)),
        (bytes(range(256)), 8.0, 8.0, 8.0),
    ],
)
def test_entropies_of_small_strings(data, shannon, renyi2, smallest):
    assert shannon_entropy_bits(data) == pytest.approx(shannon, abs=1e-12)
    assert renyi2_entropy_bits(data) == pytest.approx(renyi2, abs=1e-12)
    assert min_entropy_bits(data) == pytest.approx(smallest, abs=1e-12)


def test_order_of_entropies_is_shannon_renyi_min():
    rng = np.random.default_rng(7)
    for _ in range(50):
        data = rng.geometric(0.1, 80).clip(0, 255).astype(np.uint8).tobytes()
        assert min_entropy_bits(data) <= renyi2_entropy_bits(data) <= shannon_entropy_bits(data) <= log2(80)


def test_compression_tells_repetition_from_noise():
    noise = np.random.default_rng(3).integers(0, 256, 2000, dtype=np.uint8).tobytes()
    assert compressed_fraction(noise) == 1.0
    assert compressed_fraction(b"powershell " * 200) < 0.05
    assert compressed_fraction(b"") == 0.0


def test_column_form_equals_scalar_form_across_blocks():
    rng = np.random.default_rng(11)
    texts = ["".join(chr(int(c)) for c in rng.integers(1, 1200, int(n))) for n in rng.integers(0, 90, 700)]
    statistics = byte_statistics(texts)
    for row, text in enumerate(texts):
        data = text_bytes(text)
        assert statistics.n_bytes[row] == len(data)
        assert statistics.separators[row] == data.count(b"/") + data.count(b"\\")
        assert statistics.shannon_bits[row] == pytest.approx(shannon_entropy_bits(data), abs=1e-12)
        assert statistics.renyi2_bits[row] == pytest.approx(renyi2_entropy_bits(data), abs=1e-12)
        assert statistics.min_entropy_bits[row] == pytest.approx(min_entropy_bits(data), abs=1e-12)


def test_a_text_has_the_same_statistics_in_any_company():
    texts = [f"cmd /c echo {i} {'x' * (i % 50)}" for i in range(600)]
    together = byte_statistics(texts).shannon_bits
    assert together.tolist() == [float(byte_statistics([text]).shannon_bits[0]) for text in texts]


def test_no_texts_have_no_statistics():
    assert len(byte_statistics([]).shannon_bits) == 0


def test_texts_are_cut_after_32768_bytes():
    assert len(text_bytes("ä" * 100_000)) == MAX_TEXT_BYTES
    long = byte_statistics(["a" * MAX_TEXT_BYTES + "b" * MAX_TEXT_BYTES])
    assert (long.n_bytes[0], long.shannon_bits[0]) == (MAX_TEXT_BYTES, 0.0)


def test_lone_surrogates_and_nul_are_bytes_like_others():
    assert text_bytes("\ud800\udcff\x00") == b"\xed\xa0\x80\xed\xb3\xbf\x00"


def test_distinct_texts_keep_order_of_appearance():
    distinct, rows = distinct_texts(["c", "a", "c", "b", "a"])
    assert distinct == ["c", "a", "b"]
    assert [distinct[row] for row in rows] == ["c", "a", "c", "b", "a"]
