"""What the engine says of texts that it has to cut, and which candidates it takes for the same ones."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.tiny import VIEW, tiny_architecture, tiny_codec, tiny_model
from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.serving.asking.numbers import tell_cut
from uniperceiver.serving.engine.engine import Engine
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.tasks.catalogue import CATALOGUE

LABELS = (("red square",), ("a blue circle",))
TASK = replace(CATALOGUE["image_classification"], labels=LABELS)
CHOSEN = KnownTask(task=TASK, index=0, preprocess=VIEW)


def engine() -> Engine:
    saved = SavedModel(model=tiny_model(), arch=tiny_architecture(), codec=tiny_codec(), tasks={TASK.name: CHOSEN})
    return Engine(saved, torch.device("cpu"), 2, None)


def text_of(tokens: int) -> str:
    """A text of so many tokens, without the end."""
    text = " ".join(["square"] * 99)
    return next(part for part in (text[:end] for end in range(len(text))) if len(tiny_codec().encode(part)) == tokens)


def test_a_text_of_just_the_length_is_not_cut(capsys: pytest.CaptureFixture[str]) -> None:
    tell_cut([3, 6, 1], 6, TASK.name)
    assert capsys.readouterr().err == ""
    tell_cut([7, 6, 9, 1], 6, TASK.name)
    said = capsys.readouterr().err
    assert "2 of 4 texts are longer than the 6 tokens that task 'image_classification' reads" in said
    assert "the longest has 9" in said


def test_the_end_of_a_text_counts(capsys: pytest.CaptureFixture[str]) -> None:
    fits, cut = text_of(VIEW.length - 1), text_of(VIEW.length)
    one = engine()
    assert one.texts(CHOSEN, [fits]).sequences.parts[0].values.shape == (1, VIEW.length)
    assert capsys.readouterr().err == ""
    assert one.texts(CHOSEN, [fits, cut]).sequences.parts[0].values.shape == (2, VIEW.length)
    assert f"1 of 2 texts are longer than the {VIEW.length} tokens" in capsys.readouterr().err


def test_a_text_may_be_as_long_as_the_models_positions() -> None:
    one, most = engine(), tiny_architecture().max_text
    long = replace(CHOSEN, preprocess=replace(VIEW, length=most))
    assert one.some_texts(long, (text_of(most - 1),)).shape == (1, 16)
    with pytest.raises(UserError, match=f"a text has {most + 1} tokens, more than the model's {most}"):
        one.some_texts(replace(long, preprocess=replace(VIEW, length=most + 1)), (text_of(most),))


def test_candidates_are_remembered_for_the_task_that_asks() -> None:
    one, texts = engine(), ("a red square", "blue")
    others = [
        replace(CHOSEN, index=1),
        replace(CHOSEN, preprocess=replace(VIEW, length=9)),
        replace(CHOSEN, task=replace(TASK, labels=LABELS[::-1])),
        replace(CHOSEN, task=replace(TASK, inputs=("text",))),
    ]
    whole, some = one.all_candidates(CHOSEN), one.some_texts(CHOSEN, texts)
    assert one.all_candidates(replace(CHOSEN)) is whole
    assert one.some_texts(CHOSEN, tuple(texts)) is some
    for other in others:
        assert one.all_candidates(other) is not whole
        assert one.some_texts(other, texts) is not some
    assert one.some_texts(CHOSEN, texts[::-1]) is not some


def test_nothing_has_no_likelihood_but_a_shape() -> None:
    assert engine().comparison(CHOSEN, [], torch.ones(5, 16))[1].shape == (0, 5)
    assert engine().encode(CHOSEN, []).shape == (0, 16)


def test_what_is_not_finite_is_no_answer() -> None:
    one = engine()
    samples = [Sample(id=f"image {k}", image=np.full((32, 32, 3), 90 * k, dtype=np.uint8)) for k in range(3)]
    candidates = one.all_candidates(CHOSEN)
    assert one.comparison(CHOSEN, samples, candidates)[1].isfinite().all()
    with torch.no_grad():  # finite weights, whose sums are not
        for name, parameter in one.model.named_parameters():
            if name.startswith("encoder"):
                parameter.fill_(3e38)
    one.model.weights_changed()
    asked: tuple[Callable[[], object], ...] = (
        lambda: one.comparison(CHOSEN, samples, candidates)[1],
        lambda: one.encode(CHOSEN, samples),
        lambda: one.all_candidates(CHOSEN),
        lambda: one.some_texts(CHOSEN, ("a square",)),
    )
    for ask in asked:
        with pytest.raises(UserError, match=r"the model's numbers are not finite, so it has no answer; .*--step"):
            ask()
