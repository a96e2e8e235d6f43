"""Padding, cutting, and texts as sequences."""

import pytest

from benchmarks.parts import flat
from tests.tiny import tiny_task
from uniperceiver.tasks.sequences import cut, pad, text_sequences

END = 9
FACTS = tiny_task("image_text_retrieval").facts("candidate")


def test_padding_is_0_and_marked() -> None:
    ids_BN, valid_BN = pad([[3, 0, 4], [7], [], [1, 2]])
    assert ids_BN.tolist() == [[3, 0, 4], [7, 0, 0], [0, 0, 0], [1, 2, 0]]
    assert valid_BN.tolist() == [[True] * 3, [True, False, False], [False] * 3, [True, True, False]]


def test_texts_of_one_length_need_no_mask() -> None:
    ids_BN, valid_BN = pad([(1, 2), (3, 4)])
    assert ids_BN.tolist() == [[1, 2], [3, 4]]
    assert valid_BN is None


@pytest.mark.parametrize(
    ("length", "expected"),
    [(None, [1, 2, 3, END]), (9, [1, 2, 3, END]), (4, [1, 2, 3, END]), (3, [1, 2, END]), (1, [END])],
)
def test_cutting_keeps_the_end(length: int | None, expected: list[int]) -> None:
    assert cut([1, 2, 3], END, length) == expected


def test_texts_end_and_are_cut_before_they_are_padded() -> None:
    sequences = text_sequences([[1, 2, 3, 4], [], [5]], FACTS, END, length=3)
    assert flat(sequences).ids_BN.tolist() == [[1, 2, END], [END, 0, 0], [5, END, 0]]
    assert flat(sequences).valid_BN.sum(dim=1).tolist() == [3, 1, 2]
    assert sequences.size == 3
    assert sequences.facts is FACTS
