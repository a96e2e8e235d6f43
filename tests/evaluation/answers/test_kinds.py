"""Scores per read-out, and which samples they belong to."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.small_run import small_recipe
from uniperceiver import UniPerceiver
from uniperceiver.data.formats import open_source
from uniperceiver.data.tasks import open_tasks
from uniperceiver.evaluation.answers import EVALUATIONS
from uniperceiver.evaluation.answers.captions import captions
from uniperceiver.evaluation.answers.kind import Scores, likeliest, scores
from uniperceiver.evaluation.answers.retrieval import gallery
from uniperceiver.evaluation.answers.tags import _predictions
from uniperceiver.evaluation.evaluate import evaluate
from uniperceiver.evaluation.intervals import Interval, bootstrap_mean
from uniperceiver.evaluation.split import Settings, Split, batches
from uniperceiver.records import Part, Sequences
from uniperceiver.runs.validation import splits_of
from uniperceiver.tasks.candidates import vocabulary_candidates
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.decode import Generated, generate


def split_of(task: str) -> Split:
    (data,) = open_tasks(small_recipe((task,)), Path())
    return splits_of(data, ("val",))[0]


def settings(model: UniPerceiver, batch: int = 5) -> Settings:
    return Settings(codec=model.codec, device=torch.device("cpu"), batch=batch, max_words=4)


def test_readouts_without_a_target_are_left_out() -> None:
    collected = Scores()
    logits_RK = torch.tensor([[3.0, 1.0, 0.0], [0.0, 0.0, 9.0], [0.0, 1.0, 0.0]])
    collected.add(logits_RK, torch.tensor([0, -1, 2]), torch.tensor([4, 5, 6]))
    assert torch.cat(collected.sample).tolist() == [4, 6]
    assert torch.cat(collected.target).tolist() == [0, 2]
    assert torch.cat(collected.predicted).tolist() == [0, 1]
    expected = -logits_RK.log_softmax(dim=1)[[0, 2], [0, 2]]
    torch.testing.assert_close(torch.cat(collected.nll), expected)
    assert torch.cat(collected.hit1).tolist()[0] == 1


def test_batches_are_in_order_and_complete(model: UniPerceiver) -> None:
    made = list(batches(split_of("captions"), settings(model)))
    assert [len(batch.ids) for batch, _ in made] == [5, 5, 2]
    assert [name for batch, _ in made for name in batch.ids] == [f"scenes/val/{place:06d}" for place in range(12)]
    assert all(len(given) == len(batch.ids) and all(given) for batch, given in made)


def test_routing_knows_the_task_of_a_split(model: UniPerceiver) -> None:
    for index in (None, 3):
        batch, _ = next(batches(replace(split_of("captions"), index=index), settings(model)))
        assert batch.inputs.facts.task == index


def test_fewer_candidates_than_are_shown_are_all_shown() -> None:
    assert likeliest(torch.tensor([0.25, 0.75]), ["cat", "dog"]) == (("dog", 0.75), ("cat", 0.25))
    names = [str(number) for number in range(6)]
    assert [name for name, _ in likeliest(torch.arange(6) / 15, names)] == ["5", "4", "3", "2"]


@pytest.mark.parametrize("task", ["words", "captions"])
def test_readouts_know_their_sample(model: UniPerceiver, task: str) -> None:
    split = split_of(task)
    vocabulary = vocabulary_candidates(split.task, model.codec)
    sample = {
        batch: torch.cat(scores(model.model, split, settings(model, batch), vocabulary).sample) for batch in (1, 5)
    }
    assert torch.equal(sample[1], sample[5])
    assert sample[1].unique().tolist() == list(range(12))


def test_captions_have_their_own_references(model: UniPerceiver) -> None:
    split = split_of("captions")
    collected, written, references = captions(
        model.model, split, settings(model), vocabulary_candidates(split.task, model.codec)
    )
    assert [split.source.read(place).captions for place in range(12)] == references
    assert len(written) == 12
    words = [len(model.codec.encode(texts[0])) + 1 for texts in references]
    assert torch.bincount(torch.cat(collected.sample)).tolist() == words


def test_a_gallery_holds_every_caption(model: UniPerceiver) -> None:
    split = split_of("retrieval")
    collected = gallery(model.model, split, settings(model))
    given = [split.source.read(place).captions for place in range(12)]
    assert collected.texts == [text for texts in given for text in texts]
    assert collected.owner_C.tolist() == [place for place, texts in enumerate(given) for _ in texts]
    assert collected.z_ID.shape == (12, 16)
    torch.testing.assert_close(collected.c_CD.norm(dim=1), torch.ones(len(collected.texts)))
    torch.testing.assert_close(
        collected.c_CD, model.encode_text(collected.texts, task="retrieval"), rtol=1e-5, atol=1e-5
    )


def test_the_captions_of_a_gallery_are_cut_to_the_length_and_end(model: UniPerceiver) -> None:
    split = split_of("retrieval")
    cut = replace(split, preprocess=replace(split.preprocess, length=4))
    collected = gallery(model.model, cut, settings(model))
    for text, c_D in zip(collected.texts[:4], collected.c_CD[:4], strict=True):
        ids = model.codec.encode(text)
        assert len(ids) > 3
        part = Part(modality="text", values=torch.tensor([[*ids[:3], model.codec.end]]))
        sequences = Sequences(facts=split.task.facts("candidate", split.index), parts=(part,))
        x_1D = model.model.represent(model.model.encode(sequences, summary=True).x_BND[:, 0])
        torch.testing.assert_close(c_D, x_1D[0] / x_1D[0].norm(), rtol=1e-5, atol=1e-5)


def test_intervals_know_which_answers_belong_together(model: UniPerceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of a text, and captions of a picture, are right or wrong together: samples are drawn, not answers."""
    groups: list[tuple[int, list[int] | None]] = []

    def noted(values_N: np.ndarray, *, seed: int, groups_N: np.ndarray | None = None) -> Interval:
        groups.append((len(values_N), None if groups_N is None else groups_N.tolist()))
        return bootstrap_mean(values_N, seed=seed, groups_N=groups_N, resamples=20)

    for module in ("kind", "masked_words", "retrieval"):
        monkeypatch.setattr(f"uniperceiver.evaluation.answers.{module}.bootstrap_mean", noted)
    metrics = evaluate(model.model, split_of("words"), settings(model))
    assert groups
    for size, together in groups:  # of accuracy, loss and perplexity
        assert size == metrics["n"]
        assert together is not None
        assert set(together) == set(range(12))
    groups.clear()
    owners = gallery(model.model, split_of("retrieval"), settings(model)).owner_C.tolist()
    assert len(owners) > 12
    evaluate(model.model, split_of("retrieval"), settings(model))
    assert sorted(groups, key=str) == sorted([(12, None)] * 3 + [(len(owners), owners)] * 3, key=str)


def test_the_first_three_captions_of_people_are_shown(model: UniPerceiver) -> None:
    split = split_of("captions")
    sample = replace(split.source.read(0), captions=("one", "two", "three", "four"))
    (shown,) = EVALUATIONS["captions"].shown(model.model, split, settings(model), [sample])
    assert shown.truth == ("one", "two", "three")


def test_chance_of_masked_words_is_the_commonest_hidden_token(model: UniPerceiver) -> None:
    split = split_of("words")
    targets = torch.cat([batch.readout.target_R for batch, _ in batches(split, settings(model))])
    expected = int(torch.bincount(targets).max()) / len(targets)
    assert evaluate(model.model, split, settings(model))["chance"] == pytest.approx(expected)


def test_the_fifth_of_the_best_still_counts() -> None:
    collected = Scores()
    collected.add(torch.arange(8.0).flip(0).expand(8, 8), torch.arange(8), torch.arange(8))
    assert torch.cat(collected.hit5).tolist() == [1, 1, 1, 1, 1, 0, 0, 0]
    assert torch.cat(collected.hit1).tolist() == [1, 0, 0, 0, 0, 0, 0, 0]


def test_captions_are_written_with_the_beams_and_words_of_the_settings(
    model: UniPerceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(*parts: Any, **options: Any) -> Generated:
        asked.append((options["beams"], options["words"]))
        return generate(*parts, **options)

    monkeypatch.setattr("uniperceiver.evaluation.answers.captions.generate", noted)
    evaluate(model.model, split_of("captions"), replace(settings(model, batch=12), beams=3, max_words=2))
    assert asked == [(3, 2)]


def test_samples_of_no_class_are_left_out_of_the_loss_of_tags(model: UniPerceiver, tmp_path: Path) -> None:
    """Nothing is right for them, which is no loss of 0."""
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)
    right = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 0], [1, 1, 1], [0, 0, 0]])
    labelled = right.any(axis=1)
    measured = []
    for taken in (labelled, labelled | True):
        np.savez(tmp_path / "a.npz", images=images[taken], labels=right[taken])
        keys = {"format": "arrays", "path": "a.npz", "labels": "labels", "classes": ["red", "round", "far"]}
        source = open_source(keys, "w", tmp_path)
        task = replace(CATALOGUE["image_tagging"], labels=source.classes or ())
        split = replace(split_of("colours"), task=task, source=source)
        measured.append(evaluate(model.model, split, settings(model)))
    assert [metrics["n"] for metrics in measured] == [3, 5]
    assert measured[1]["loss"] == pytest.approx(measured[0]["loss"])
    np.savez(tmp_path / "a.npz", images=images, labels=right * 0)
    nothing = evaluate(model.model, replace(split, source=open_source(keys, "w", tmp_path)), settings(model))
    assert all(math.isnan(nothing[name]) for name in ("mAP", "loss", "chance"))


class Modulo:
    """The samples of another source, of the first classes only."""

    def __init__(self, source: Any, classes: int) -> None:
        self._source, self._classes = source, classes

    def __len__(self) -> int:
        return len(self._source)

    def read(self, index: int) -> Any:
        sample = self._source.read(index)
        return replace(sample, label=sample.label % self._classes)


@pytest.mark.parametrize(("classes", "has_five"), [(4, False), (5, False), (6, True)])
def test_the_best_five_are_counted_where_there_are_more(model: UniPerceiver, classes: int, has_five: bool) -> None:
    split = split_of("colours")
    task = replace(split.task, labels=split.task.labels[:classes])
    metrics = evaluate(model.model, replace(split, task=task, source=Modulo(split.source, classes)), settings(model))
    assert ("accuracy@5" in metrics) == has_five


def test_tags_of_a_sample_without_any_are_neither_right_nor_wrong() -> None:
    split: Any = SimpleNamespace(task=SimpleNamespace(name="tags"), name="val")
    log_NK = torch.tensor([[0.2, 0.5, 0.3], [0.7, 0.1, 0.2], [0.1, 0.1, 0.8]]).log()
    target_NK = torch.tensor([[0.5, 0.5, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    made = _predictions(split, ["a", "b", "c"], ["x", "y", "z"], log_NK, target_NK)
    assert [(each.sample, each.answer, each.truth, each.right) for each in made] == [
        ("x", "b", ("a", "b"), True),
        ("y", "a", ("b",), False),
        ("z", "c", (), None),
    ]
    assert [each.probability for each in made] == pytest.approx([0.5, 0.7, 0.8])


def test_a_sample_without_a_label_is_shown_as_neither_right_nor_wrong(model: UniPerceiver) -> None:
    split = split_of("colours")
    known = split.source.read(0)
    pair = EVALUATIONS["labels"].shown(model.model, split, settings(model), [replace(known, label=None), known])
    unknown, labelled = pair
    assert (unknown.truth, unknown.right) == ((), None)
    assert [name for name, _ in unknown.answers] == [name for name, _ in labelled.answers]
    assert labelled.right == (labelled.answers[0][0] == labelled.truth[0])
