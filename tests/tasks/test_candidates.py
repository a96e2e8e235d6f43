"""Candidates: label texts, the whole vocabulary, and their representations."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from benchmarks.parts import flat
from tests.tiny import tiny_batch, tiny_codec, tiny_model, tiny_task
from uniperceiver.model.model import Generalist
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.answers.kind import CandidateDraw
from uniperceiver.tasks.candidates import (
    Candidates,
    label_candidates,
    represent_candidates,
    represent_in_chunks,
    rows_of,
    vocabulary_candidates,
)
from uniperceiver.tasks.sequences import text_sequences
from uniperceiver.tasks.task import Task

LABELS = (("red square", "a square that is red"), ("dot",), ("blue", "sky", "a very blue thing"))
TASK = replace(tiny_task("image_classification"), labels=LABELS)


def texts_of(candidates: Candidates) -> list[str]:
    return [tiny_codec().decode(ids) for ids in flat(candidates.sequences).ids_BN.tolist()]


def represent_plainly(model: Generalist, text: str, task: Task = TASK) -> Tensor:
    """One text alone, without padding."""
    sequences = text_sequences([tiny_codec().encode(text)], task.facts("candidate"), tiny_codec().end)
    x_D = model.represent(model.encode(sequences).x_BND[0, 0])
    return x_D / x_D.norm()


def test_training_draws_one_text_per_class() -> None:
    draws = [label_candidates(TASK, tiny_codec(), numpy_stream(0, step)) for step in range(60)]
    assert all(candidates.owner_K is None for candidates in draws)
    for place, texts in enumerate(zip(*map(texts_of, draws), strict=True)):
        assert set(texts) == set(LABELS[place])  # in class order, and each text has its turn
    assert texts_of(draws[7]) == texts_of(label_candidates(TASK, tiny_codec(), numpy_stream(0, 7)))


def test_inference_averages_all_texts_of_a_class() -> None:
    model, candidates = tiny_model(), label_candidates(TASK, tiny_codec(), None)
    assert texts_of(candidates) == [text for texts in LABELS for text in texts]
    c_CD = represent_candidates(model, candidates)
    assert c_CD.shape == (3, 16)
    for found_D, texts in zip(c_CD, LABELS, strict=True):
        mean_D = torch.stack([represent_plainly(model, text) for text in texts]).mean(dim=0)
        torch.testing.assert_close(found_D, mean_D / mean_D.norm(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["image_classification", "masked_language_modelling"])
def test_every_batch_has_a_draw_of_its_own(name: str) -> None:
    """Seed, step and place in the step each make another one, in their roles; the same three make the same one."""
    task, codec = tiny_task(name), tiny_codec()
    if task.answer.has_labels:
        task = replace(task, labels=tuple(tuple(f"{letter} {word}" for word in "abcdefgh") for letter in "klmnop"))
    readout = tiny_batch(name).readout

    def drawn(seed: int, step: int, place: int) -> list[list[int]]:
        draw = CandidateDraw(seed=seed, step=step, place=place, sample=9, proposal_V=torch.ones(codec.size))
        return flat(task.answer.training_candidates(task, codec, None, readout, draw).sequences).ids_BN.tolist()

    numbers = [(0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3), (0, 2, 1)]
    assert len({str(drawn(*three)) for three in numbers}) == len(numbers)
    assert drawn(0, 1, 2) == drawn(0, 1, 2)


def test_classes_with_one_text_each_have_no_owners() -> None:
    candidates = label_candidates(replace(TASK, labels=(("a",), ("b c",))), tiny_codec(), None)
    assert candidates.owner_K is None
    assert represent_candidates(tiny_model(), candidates).shape == (2, 16)


def test_the_vocabulary_is_every_word_and_the_end_in_one_length() -> None:
    codec, task = tiny_codec(), tiny_task("masked_language_modelling")
    sequences = vocabulary_candidates(task, codec, 3).sequences
    assert flat(sequences).ids_BN.tolist() == [[word, codec.end] for word in range(codec.size)]
    assert flat(sequences).valid_BN is None
    assert sequences.facts == task.facts("candidate", 3)


@pytest.mark.parametrize("chunk", [1, 3, 64, 10_000])
def test_chunks_change_nothing(chunk: int) -> None:
    model, codec = tiny_model(), tiny_codec()
    task = tiny_task("image_captioning")
    padded = text_sequences([[5] * (1 + n % 4) for n in range(10)], task.facts("candidate"), codec.end)
    assert flat(padded).valid_BN is not None
    words = Candidates(sequences=replace(vocabulary_candidates(task, codec).sequences))
    for candidates in (Candidates(sequences=padded), label_candidates(TASK, codec, None), words):
        if candidates is words and chunk < 64:
            continue  # slow, and says nothing more
        whole = represent_candidates(model, candidates)
        parts = represent_in_chunks(model, candidates, chunk)
        torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
        assert not parts.requires_grad


def test_rows_of_sequences_keep_all_that_belongs_to_them() -> None:
    """Also the classes that candidates name, whose vectors a prompt-tuned model adds."""
    sequences = label_candidates(TASK, tiny_codec(), None).sequences
    (part,), ids_BN = sequences.parts, sequences.parts[0].values
    part = replace(part, position_BN=ids_BN + 1, order_BN=ids_BN + 2, query_BN=ids_BN % 2 == 0)
    sequences = replace(sequences, parts=(part,), place_B=torch.arange(sequences.size) + 10)
    for rows in (slice(1, 4), torch.tensor([3, 0])):
        some = rows_of(sequences, rows)
        (part,), (whole,) = some.parts, sequences.parts
        for name, value in vars(whole).items():
            if isinstance(value, Tensor):
                assert torch.equal(getattr(part, name), value[rows]), name
        assert sequences.class_B is not None
        assert some.class_B is not None
        assert some.class_B.tolist() == sequences.class_B[rows].tolist()
        assert some.place_B is not None
        assert some.place_B.tolist() == (torch.arange(sequences.size) + 10)[rows].tolist()
