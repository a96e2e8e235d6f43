"""Which texts of a batch are right for which input."""

import time
from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_batch
from uniperceiver.tasks.answers.kind import Asked
from uniperceiver.tasks.answers.retrieval import Retrieval
from uniperceiver.tasks.candidates import Candidates
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


def test_candidates_that_are_no_texts_are_right_for_their_samples_alone() -> None:
    task = CATALOGUE["video_audio_retrieval"]
    asked = [Asked(sample=name) for name in ("a", "b", "a")]
    soft_RK = Retrieval().readout(task, asked, tiny_batch(TASK).inputs).soft_RK
    assert soft_RK is not None
    assert soft_RK.tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    batch = tiny_batch(task)
    assert batch.candidates is not None
    (part,) = batch.candidates.parts
    assert (part.modality, part.values.shape, part.step) == ("audio", (3, 8, 8), 32.0)
    assert batch.candidates.facts == task.facts("candidate")


def test_a_large_batch_costs_no_time() -> None:
    asked = [Asked(sample=str(place), candidate=(place % 2000, 7)) for place in range(4096)]
    begun = time.process_time()
    right_BB = right_of(asked)
    assert time.process_time() - begun < 1.0
    assert int(right_BB.sum()) == 96 * 9 + 1904 * 4


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_smoothing_of_the_recipe_reaches_both_directions(smoothing: float) -> None:
    logits_BB = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    readout = replace(tiny_batch(TASK).readout, soft_RK=torch.eye(3))
    terms = Retrieval().loss_terms(logits_BB, readout, Candidates(sequences=tiny_batch(TASK).inputs), smoothing)
    for name, side_BB in (("to_candidate", logits_BB), ("to_input", logits_BB.T)):
        nll_BB = -side_BB.log_softmax(dim=1)
        expected = (1 - smoothing) * nll_BB.diagonal().mean() + smoothing * nll_BB.mean()
        assert float(terms[name]) == pytest.approx(float(expected), rel=1e-5)


def test_accuracies_are_shares_of_the_batch_in_both_directions() -> None:
    """By hand, as the original release adds them to its losses."""
    logits_BB = torch.tensor([[3.0, 0.0, 0.0], [2.0, 1.0, 0.0], [4.0, 0.0, 5.0]])
    batch = tiny_batch(TASK)
    candidates = Candidates(sequences=batch.inputs)
    accuracies = Retrieval().accuracies(logits_BB, replace(batch.readout, soft_RK=torch.eye(3)), candidates)
    assert accuracies["accuracy_to_candidate"].item() == pytest.approx(2 / 3)  # 0, 0, 2
    assert accuracies["accuracy_to_input"].item() == pytest.approx(2 / 3)  # 2, 1, 2
    lower_BB = logits_BB + torch.tensor([[0.0, 9.0, 9.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    accuracies = Retrieval().accuracies(lower_BB, replace(batch.readout, soft_RK=torch.eye(3)), candidates)
    assert accuracies["accuracy_to_candidate"].item() == pytest.approx(1 / 3)  # 1, 0, 2
    assert accuracies["accuracy_to_input"].item() == pytest.approx(0.0)  # 2, 0, 0
    labels = CATALOGUE["image_classification"].answer
    readout = replace(batch.readout, soft_RK=None, target_R=torch.tensor([0, 0, 1]))
    assert labels.accuracies(logits_BB, readout, candidates)["accuracy"].item() == pytest.approx(2 / 3)
