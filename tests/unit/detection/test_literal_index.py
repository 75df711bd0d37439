"""The literal index finds exactly the members that a plain search finds."""

import numpy as np

from eguard.detection.literal_index import LiteralIndex, bits_of


def test_members_are_found_whatever_the_length_of_their_literals():
    index = LiteralIndex({0: ["a"], 1: ["bc"], 2: ["cde"], 3: ["bcdefg"], 7: ["zzz", "e"]})
    assert bits_of(index.members_in("abcde")) == [0, 1, 2, 7]
    assert bits_of(index.members_in("bcdefg")) == [1, 2, 3, 7]
    assert index.members_in("") == 0


def test_a_shared_trigram_alone_is_no_match():
    index = LiteralIndex({0: ["powershell"], 1: ["shellcode"]})
    assert bits_of(index.members_in("bombshell powershe11")) == []


def test_it_agrees_with_searching_each_literal():
    rng = np.random.default_rng(5)
    letters = np.array(list("ab\\."))

    def word(longest: int) -> str:
        return "".join(rng.choice(letters, size=rng.integers(1, longest + 1)))

    literals = {member: [word(6) for _ in range(rng.integers(1, 4))] for member in range(150)}
    index = LiteralIndex(literals)
    for _ in range(300):
        text = word(14)
        expected = [member for member, own in literals.items() if any(literal in text for literal in own)]
        assert bits_of(index.members_in(text)) == expected


def test_literals_beyond_ascii_are_found_among_others():
    index = LiteralIndex({0: ["\u202e"], 1: ["\U0001f600\ufe0f"], 2: ["abc"]})
    assert bits_of(index.members_in("abc")) == [2]
    assert bits_of(index.members_in("a\u202eabc")) == [0, 2]
    assert bits_of(index.members_in("\U0001f600\ufe0f")) == [1]


def test_bits_come_in_ascending_order():
    assert bits_of(0) == []
    assert bits_of(1 << 5000 | 0b101) == [0, 2, 5000]
