"""Which texts of a batch are right for which input."""

import time

import torch

from tests.tiny import tiny_batch
from uniperceiver.tasks.answers.kind import Asked
from uniperceiver.tasks.answers.retrieval import Retrieval
from uniperceiver.tasks.catalogue import CATALOGUE

TASK = CATALOGUE["image_text_retrieval"]


def right_of(asked: list[Asked]) -> torch.Tensor:
    soft_RK = Retrieval().readout(TASK, asked, tiny_batch(TASK).inputs).soft_RK
    assert soft_RK is not None
    return soft_RK


def test_equal_texts_and_equal_samples_are_right_for_each_other() -> None:
    asked = [
        Asked(sample="a", candidate=(1, 2)),
        Asked(sample="b", candidate=(1,)),
        Asked(sample="c", candidate=(1, 2)),
        Asked(sample="b", candidate=(3,)),
    ]
    expected = [[1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]
    assert right_of(asked).tolist() == expected
    assert right_of(asked).dtype == torch.float32


def test_a_large_batch_costs_no_time() -> None:
    asked = [Asked(sample=str(place), candidate=(place % 2000, 7)) for place in range(4096)]
    begun = time.process_time()
    right_BB = right_of(asked)
    assert time.process_time() - begun < 1.0
    assert int(right_BB.sum()) == 96 * 9 + 1904 * 4
