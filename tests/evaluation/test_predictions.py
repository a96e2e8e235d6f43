"""What a model answered on a split, sample by sample, and which class was taken for which."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.evaluation.test_evaluate import settings, split_of
from uniperceiver import UniPerceiver
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.evaluation.answers import EVALUATIONS
from uniperceiver.evaluation.answers.kind import batch_of
from uniperceiver.evaluation.answers.retrieval import gallery
from uniperceiver.evaluation.evaluate import absent_sizes, evaluate, explanation, not_alike, remark_on
from uniperceiver.evaluation.predictions import ClassTable, Prediction
from uniperceiver.evaluation.split import batches, drawn_samples
from uniperceiver.records import Batch, Sample
from uniperceiver.tasks.loss import contrastive
from uniperceiver.tasks.text import Text


@pytest.mark.parametrize("task", ["colours", "words", "captions", "retrieval"])
def test_answers_agree_with_the_figures(model: UniPerceiver, task: str) -> None:
    split, answers = split_of(task), list[Prediction]()
    metrics = evaluate(model.model, split, settings(model, batch=5, on_predictions=answers.extend))
    assert metrics == evaluate(model.model, split, settings(model, batch=5))
    assert len(answers) == metrics["n"]
    assert {(answer.task, answer.split) for answer in answers} == {(task, "val")}
    samples = [split.source.read(index) for index in range(12)]
    assert list(dict.fromkeys(answer.sample for answer in answers)) == [sample.id for sample in samples]
    if task == "captions":
        assert [answer.truth for answer in answers] == [sample.captions for sample in samples]
        assert {answer.right for answer in answers} == {answer.probability for answer in answers} == {None}
        return
    main = {"colours": "accuracy@1", "words": "masked_accuracy", "retrieval": "i2t_recall@1"}[task]
    assert np.mean([answer.right for answer in answers]) == pytest.approx(metrics[main])
    assert all(0 < (answer.probability or 0) <= 1 for answer in answers)
    if task == "retrieval":
        assert [answer.truth for answer in answers] == [sample.captions for sample in samples]
        assert all(answer.right == (answer.answer in answer.truth) for answer in answers)
    if task == "colours":
        assert all(answer.right == (answer.truth == (answer.answer,)) for answer in answers)
        names = [split.task.labels[sample.label or 0][0] for sample in samples]
        assert [answer.truth for answer in answers] == [(name,) for name in names]


def test_the_confusion_matrix_is_told(model: UniPerceiver) -> None:
    split, tables, answers = split_of("colours"), list[ClassTable](), list[Prediction]()
    evaluate(model.model, split, settings(model, on_classes=tables.append, on_predictions=answers.extend))
    (table,) = tables
    assert table.names == tuple(texts[0] for texts in split.task.labels)
    expected_KK = np.zeros_like(table.confusion_KK)
    for answer in answers:
        expected_KK[table.names.index(answer.truth[0]), table.names.index(answer.answer)] += 1
    assert (table.confusion_KK == expected_KK).all()
    assert len(table.counts) == np.count_nonzero(expected_KK)
    assert (
        ClassTable.from_values({"names": list(table.names), "counts": [list(cell) for cell in table.counts]}) == table
    )


def test_a_sample_without_a_known_class_is_not_in_the_file(
    model: UniPerceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    split, answers = split_of("colours"), list[Prediction]()
    read = type(split.source).read
    monkeypatch.setattr(
        type(split.source), "read", lambda self, index: replace(read(self, index), label=None if index == 2 else 1)
    )
    metrics = evaluate(model.model, split, settings(model, on_predictions=answers.extend))
    assert metrics["n"] == len(answers) == 11
    assert split.source.read(2).id not in {answer.sample for answer in answers}


def test_different_numbers_of_candidates_are_said(model: UniPerceiver) -> None:
    few, many = (evaluate(model.model, split_of("retrieval"), settings(model, limit=limit)) for limit in (4, 0))
    assert (few["candidates"], many["n"]) == (4 * many["candidates"] // 12, 12)
    remark = not_alike({"train": few, "val": many})
    assert remark is not None
    assert f"{few['candidates']:.0f} (train), {many['candidates']:.0f} (val): the fewer, the easier" in remark
    assert not_alike({"val": many, "test": many}) is None
    assert not_alike({"val": {"loss": 1.0, "n": 3}, "test": {"loss": 1.0, "n": 4}}) is None
    assert torch.is_grad_enabled()


def test_every_sample_is_masked_by_its_own_name_and_alike_each_time(
    model: UniPerceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of equal texts other words are hidden; in figures, in what is shown and in any batch the same ones."""
    split = split_of("words")
    read = type(split.source).read
    monkeypatch.setattr(
        type(split.source), "read", lambda self, index: replace(read(self, index), text="a red circle and a blue star")
    )

    def asked(batch: Batch) -> list[tuple[int, ...]]:
        rows, places = batch.readout.row_R.tolist(), batch.readout.position_R.tolist()
        return [
            tuple(place for r, place in zip(rows, places, strict=True) if r == row) for row in range(len(batch.ids))
        ]

    together = [places for batch, _ in batches(split, settings(model, batch=5)) for places in asked(batch)]
    assert len(set(together)) > 3
    samples = [split.source.read(index) for index in range(12)]
    assert [asked(batch_of(split, settings(model), [sample]))[0] for sample in samples] == together


def test_equal_texts_are_right_in_the_loss_of_retrieval(model: UniPerceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_of("retrieval")
    read = type(split.source).read
    captions = [("a star", "a ring"), *[("a star",)] * 3, *[("a ring",)] * 8]
    monkeypatch.setattr(
        type(split.source), "read", lambda self, index: replace(read(self, index), captions=captions[index])
    )
    metrics = evaluate(model.model, split, settings(model))
    collected = gallery(model.model, split, settings(model))
    logits_IC = collected.z_ID @ collected.c_CD.T * model.model.scale(split.task.temperature)
    texts = [text for own in captions for text in own]
    right_IC = torch.tensor([[float(text in own) for text in texts] for own in captions])
    expected = sum(term.item() for term in contrastive(logits_IC, right_IC).values())
    assert metrics["loss"] == pytest.approx(expected, rel=1e-6)
    assert metrics["candidates"] == 13


def test_chance_that_is_remembered_is_that_of_the_same_samples(model: UniPerceiver) -> None:
    split, memory = split_of("captions"), dict[object, dict[str, float]]()
    for limit in (4, 0, 4):
        remembered = evaluate(model.model, split, settings(model, limit=limit, memory=memory))
        assert remembered == evaluate(model.model, split, settings(model, limit=limit))
    assert len(memory) == 2


def test_what_is_hidden_is_shown_at_its_place(model: UniPerceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    red, circle, blue = (word[-1] for word in model.codec.encode_words("red circle blue")[:3])
    end = model.codec.end  # of each line
    more = (model.codec.answer, model.codec.answer)  # the parts of another hidden word
    hidden = Text(ids=(red, model.codec.answer, blue, end, circle, *more, end), ask_at=(1,), target=(circle,))
    monkeypatch.setattr("uniperceiver.tasks.answers.masked_words.masked", lambda *arguments: hidden)
    split = split_of("words")
    (shown,) = EVALUATIONS["masked_words"].shown(model.model, split, settings(model), [split.source.read(0)])
    before, after = (model.codec.decode(words) for words in ([red], [blue, circle]))
    assert before not in after
    assert shown.text == f"{before} ▢ {after} –"
    assert "▢ is the hidden word" in explanation(split.task)
    assert shown.truth == (model.codec.decode([circle]),)


def test_broken_samples_are_counted_against_the_whole_split(
    model: UniPerceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit reads a few: two broken ones among four may still be few among twelve."""
    split = split_of("colours")
    read, broken = type(split.source).read, set(drawn_samples(12, 4)[:2])

    def failing(self: ScenesSource, index: int) -> Sample:
        if index in broken:
            raise BrokenSample(str(index), "damaged")
        return read(self, index)

    monkeypatch.setattr(type(split.source), "read", failing)
    assert evaluate(model.model, split, settings(model, limit=4, max_broken=0.2))["n"] == 2
    with pytest.raises(UserError, match="2 broken samples, more than"):
        evaluate(model.model, split, settings(model, limit=4, max_broken=0.1))


def test_splits_without_things_of_a_size_are_remarked_on() -> None:
    whole = {"ap": 0.5, "ap_small": 0.1, "ap_medium": 0.3, "ap_large": 0.6}
    some = {"ap": 0.5, "ap_medium": 0.3}
    assert absent_sizes({"val": whole, "test": {"loss": 1.0}}) is None
    assert absent_sizes({"train": some, "val": whole}) == "no small and no large things in train"
    assert remark_on({"val": whole}) is None
    both = {"train": {**some, "candidates": 3.0}, "val": {**whole, "candidates": 4.0}}
    assert (remark_on(both) or "").endswith("compare with chance; no small and no large things in train")
