"""What a model answered on a split, sample by sample, and which class was taken for which."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.evaluation.test_evaluate import settings, split_of
from uniperceiver import UniPerceiver
from uniperceiver.evaluation.evaluate import evaluate, not_alike
from uniperceiver.evaluation.predictions import ClassTable, Prediction


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
