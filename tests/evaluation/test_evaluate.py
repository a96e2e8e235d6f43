"""The figures of a split: their names, their independence of batches and workers, and values where they are known."""

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.parts import flat
from tests.small_run import TASKS, small_recipe
from uniperceiver import UniPerceiver
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.evaluation.evaluate import beats_chance, evaluate, main_metric, score, score_by
from uniperceiver.evaluation.examples import examples_of
from uniperceiver.evaluation.split import Settings, Split, batches, drawn_samples
from uniperceiver.records import Encoded, Sample, Segment, Sequences
from uniperceiver.runs.validation import splits_of
from uniperceiver.tasks.catalogue import CATALOGUE

CLASSES = {"accuracy@1", "f1", "matthews", "loss", "chance", "n"}
CAPTIONS = {"bleu4", "cider_d", "rouge_l", "loss", "perplexity", "chance", "n"}
RETRIEVAL = {f"{way}_recall@{k}" for way in ("i2t", "t2i") for k in (1, 5, 10)} | {"loss", "chance", "n"}
KEYS = {
    "colours": CLASSES | {"accuracy@5"},
    "motions": CLASSES | {"accuracy@5"},
    "relations": CLASSES,  # four classes: the best five would always be right
    "words": {"masked_accuracy", "loss", "perplexity", "chance", "n"},
    "captions": CAPTIONS,
    "clip_captions": CAPTIONS,
    "retrieval": RETRIEVAL,
    "clip_retrieval": RETRIEVAL,
}


def split_of(task: str, name: str = "val") -> Split:
    (data,) = open_tasks(small_recipe((task,)), Path())
    return splits_of(data, (name,))[0]


def settings(model: UniPerceiver, **changes: Any) -> Settings:
    return Settings(codec=model.codec, device=torch.device("cpu"), max_words=5, **changes)


@pytest.mark.parametrize("task", TASKS)
def test_figures_do_not_depend_on_the_batch(model: UniPerceiver, task: str) -> None:
    split = split_of(task)
    whole = evaluate(model.model, split, settings(model))
    assert whole.keys() >= KEYS[task]
    assert main_metric(split.task) in whole
    assert all(math.isfinite(value) for value in whole.values())
    assert whole["n"] == (12 if task != "words" else whole["n"])
    for name, value in whole.items():
        if name + "_low" in whole:
            assert whole[f"{name}_low"] <= value + 1e-9
            assert value <= whole[f"{name}_high"] + 1e-9
    for batch in (1, 5):
        assert evaluate(model.model, split, settings(model, batch=batch)) == pytest.approx(whole, abs=1e-5, rel=1e-6)


def test_figures_do_not_depend_on_workers(model: UniPerceiver) -> None:
    for task in ("words", "captions"):
        split = split_of(task)
        one, two = (evaluate(model.model, split, settings(model, batch=5, workers=workers)) for workers in (0, 2))
        assert one == two


def test_there_is_a_main_metric_for_every_kind() -> None:
    found = {main_metric(task) for task in CATALOGUE.values()}
    assert found == {"accuracy@1", "mAP", "i2t_recall@1", "cider_d", "masked_accuracy", "ap", "mask_ap"}


def test_a_limit_is_drawn_alike_in_every_run_and_not_by_a_period() -> None:
    drawn = drawn_samples(1024, 512)
    assert (len(drawn), drawn) == (len(set(drawn)), sorted(drawn))
    for period in (2, 3, 4, 5):  # labels that alternate, or come block by block
        for labels in ([index % period for index in drawn], [index * period // 1024 for index in drawn]):
            assert len(set(labels)) == period
            assert min(Counter(labels).values()) > 0.8 * 512 / period
    assert set(drawn_samples(1024, 100)) < set(drawn)
    assert drawn_samples(1024, 512) == drawn
    assert drawn_samples(3, 0) == drawn_samples(3, 3) == drawn_samples(3, 9) == [0, 1, 2]


def test_a_limit_holds_for_figures_and_examples(model: UniPerceiver) -> None:
    split = split_of("colours")
    names = [split.source.read(index).id for index in drawn_samples(12, 4)]
    assert [name for batch, _ in batches(split, settings(model, limit=4, batch=3)) for name in batch.ids] == names
    assert [example.sample for example in examples_of(model.model, split, settings(model), 4)] == names
    assert evaluate(model.model, split_of("colours"), settings(model, limit=5))["n"] == 5
    assert evaluate(model.model, split_of("colours"), settings(model, limit=99))["n"] == 12


def test_progress_is_told(model: UniPerceiver) -> None:
    seen: list[tuple[int, int]] = []
    evaluate(model.model, split_of("colours"), settings(model, batch=5, on_batch=lambda *each: seen.append(each)))
    assert seen == [(5, 12), (10, 12), (12, 12)]


def test_progress_counts_what_is_left_out_too(model: UniPerceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    split, seen = split_of("colours"), list[tuple[int, int]]()
    read = type(split.source).read

    def broken(source: Any, index: int) -> Sample:
        if index in (0, 6, 7):
            raise BrokenSample(f"n{index}", "is broken")
        return read(source, index)

    monkeypatch.setattr(type(split.source), "read", broken)
    told = settings(model, batch=5, max_broken=0.5, on_batch=lambda *each: seen.append(each))
    assert sum(len(batch.ids) for batch, _ in batches(split, told)) == 9
    assert seen == [(5, 12), (10, 12), (12, 12)]


def test_examples_are_of_samples_that_can_be_decoded(model: UniPerceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    split = split_of("colours")
    read = type(split.source).read

    def damaged(source: Any, index: int) -> Sample:
        return replace(read(source, index), image=b"no picture") if index == 1 else read(source, index)

    monkeypatch.setattr(type(split.source), "read", damaged)
    names = [split.source.read(index).id for index in range(12) if index != 1]
    assert [example.sample for example in examples_of(model.model, split, settings(model), 12)] == names


def test_chance_of_captions_is_remembered_for_its_split_and_limit(model: UniPerceiver) -> None:
    asked = [(name, limit) for name in ("val", "train") for limit in (0, 3)]
    alone = [evaluate(model.model, split_of("captions", name), settings(model, limit=limit)) for name, limit in asked]
    memory: dict[object, dict[str, float]] = {}
    for (name, limit), expected in zip(asked, alone, strict=True):
        assert (
            evaluate(model.model, split_of("captions", name), settings(model, limit=limit, memory=memory)) == expected
        )
    assert len({metrics["chance"] for metrics in alone}) == len(memory) == 4


class Oracle(torch.nn.Module):
    """Knows the answers: a picture's representation is the code of its label, as is that of the label's text."""

    likelihood_float32 = True

    def __init__(self, code_of: dict[float, int], texts: list[list[int]], *, wrong: int = 0) -> None:
        super().__init__()
        self.code_of, self.texts, self.wrong = code_of, texts, wrong

    def encode(self, sequences: Sequences, stream: Any = None, *, summary: bool = False) -> Encoded:
        eye = torch.eye(8)
        if flat(sequences).pixels_BFCHW is not None:
            rows = [
                eye[self.code_of[round(float(each.mean()), 4)]].roll(self.wrong)
                for each in flat(sequences).pixels_BFCHW
            ]
        else:
            assert flat(sequences).ids_BN is not None
            rows = [eye[max(self._fits(ids.tolist()))[1]] for ids in flat(sequences).ids_BN]
        segment = Segment(start=0, stop=1, kind="text", causal=False, facts=sequences.facts)
        return Encoded(x_BND=torch.stack(rows)[:, None], segments=(segment,))

    def _fits(self, ids: list[int]) -> list[tuple[int, int]]:
        """(length, place) of the texts that the ids begin with."""
        return [(len(text), place) for place, text in enumerate(self.texts) if ids[: len(text)] == text]

    def represent(self, x_RD: torch.Tensor) -> torch.Tensor:
        return x_RD

    def finish(self, logits_RK: torch.Tensor, feature_RD: torch.Tensor) -> torch.Tensor:
        return logits_RK

    def scale(self, temperature: str) -> torch.Tensor:
        return torch.tensor(50.0)


@pytest.mark.parametrize("wrong", [0, 1])
def test_a_perfect_and_a_hopeless_model(model: UniPerceiver, wrong: int) -> None:
    split = split_of("colours")
    (batch, _), *_ = batches(split, settings(model))
    assert flat(batch.inputs).pixels_BFCHW is not None
    means = [round(float(each.mean()), 4) for each in flat(batch.inputs).pixels_BFCHW]
    assert len(set(means)) == 12
    texts = [model.codec.encode(texts[0]) for texts in split.task.labels]
    oracle = Oracle(dict(zip(means, batch.readout.target_R.tolist(), strict=True)), texts, wrong=wrong)
    found = evaluate(oracle, split, settings(model))
    if wrong:
        assert found["accuracy@1"] == 0
        assert found["loss"] > 40
    else:
        assert found["accuracy@1"] == found["accuracy@5"] == found["matthews"] == found["f1"] == 1
        assert found["loss"] == pytest.approx(0, abs=1e-6)
        assert found["accuracy@1_low"] < 1
    counts = torch.bincount(batch.readout.target_R)
    assert found["chance"] == pytest.approx(float(counts.max()) / 12)


def test_a_model_that_knows_nothing_is_at_the_logarithm(model: UniPerceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(model.model), "scale", lambda self, name: torch.tensor(0.0))
    assert evaluate(model.model, split_of("colours"), settings(model))["loss"] == pytest.approx(math.log(8), rel=1e-5)
    words = evaluate(model.model, split_of("words"), settings(model))
    assert words["perplexity"] == pytest.approx(model.codec.size, rel=1e-4)
    captions = evaluate(model.model, split_of("captions"), settings(model))
    assert captions["perplexity"] == pytest.approx(model.codec.size, rel=1e-4)
    retrieval = evaluate(model.model, split_of("retrieval"), settings(model))
    # Constant scores: recall is exactly chance, ties being broken at random.
    monkeypatch.setattr(
        "uniperceiver.evaluation.answers.retrieval.logits", lambda z_ID, c_CD, scale: torch.zeros(12, len(c_CD))
    )
    constant = evaluate(model.model, split_of("retrieval"), settings(model))
    for name in RETRIEVAL - {"loss", "chance", "n"}:
        assert constant[name] == pytest.approx(constant[f"chance_{name}"])
        assert constant[f"chance_{name}"] == retrieval[f"chance_{name}"]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Indices of validation samples that cannot be read; to be filled by the test."""
    indices: set[int] = set()
    read = ScenesSource.read

    def failing(self: ScenesSource, index: int) -> Sample:
        if index in indices:
            raise BrokenSample(f"scenes/val/{index:06d}", "damaged")
        return read(self, index)

    monkeypatch.setattr(ScenesSource, "read", failing)
    return indices


@pytest.mark.parametrize("task", ["colours", "words", "captions", "retrieval"])
def test_a_broken_sample_is_left_out(model: UniPerceiver, task: str, broken: set[int]) -> None:
    broken.add(3)
    found = evaluate(model.model, split_of(task), settings(model, batch=1))
    assert found["n"] == 11 or task == "words"
    assert evaluate(model.model, split_of(task), settings(model, batch=5)) == pytest.approx(found, abs=1e-5, rel=1e-6)


@pytest.mark.parametrize("workers", [0, 1])
def test_too_many_broken_samples_stop_an_evaluation(model: UniPerceiver, broken: set[int], workers: int) -> None:
    broken.update({3, 5})
    with pytest.raises(UserError, match=r"^colours/val: 2 broken samples, .*; the last: scenes/val/000005: damaged"):
        evaluate(model.model, split_of("colours"), settings(model, workers=workers))
    assert evaluate(model.model, split_of("colours"), settings(model, max_broken=0.2))["n"] == 10
    broken.update(range(12))
    with pytest.raises(UserError, match=r"colours/val: no sample could be read"):
        evaluate(model.model, split_of("colours"), settings(model, max_broken=1.0))


@pytest.mark.parametrize(("metric", "below", "above"), [("accuracy@1", False, True), ("perplexity", True, False)])
def test_chance_is_beaten_where_the_whole_interval_is_on_the_better_side(metric: str, below: bool, above: bool) -> None:
    assert beats_chance(metric, 0.5, 0.9, chance=1.0) == below
    assert beats_chance(metric, 1.1, 1.5, chance=1.0) == above
    for low, high in ((0.9, 1.1), (0.9, 1.0), (1.0, 1.1), (math.nan, math.nan)):
        assert not beats_chance(metric, low, high, chance=1.0)


def test_the_score_of_an_evaluation_is_the_mean_loss() -> None:
    assert score({"a": {"loss": 1.0}, "b": {"loss": 4.0}}) == 2.5
    assert score({"a": {"loss": 1.0}, "b": {"loss": math.nan}, "c": {"loss": 2.0}}) == 1.5  # of b nothing is known
    assert math.isnan(score({"a": {"loss": math.nan}}))


def test_the_lowest_score_by_a_metric_is_the_best() -> None:
    results = {"a": {"loss": 1.0, "perplexity": 7.0, "accuracy@1": 0.25}, "b": {"loss": 4.0, "mAP": math.nan}}
    assert score_by(results, "score") == 2.5
    assert score_by(results, "a/loss") == 1.0
    assert score_by(results, "a/perplexity") == 7.0
    assert score_by(results, "a/accuracy@1") == -0.25
    assert math.isnan(score_by(results, "b/mAP"))
    assert math.isnan(score_by(results, "b/f1"))


def test_the_weights_are_as_before(model: UniPerceiver) -> None:
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    evaluate(model.model, replace(split_of("captions"), name="other"), settings(model, beams=2))
    assert all(torch.equal(value, before[name]) for name, value in model.model.state_dict().items())
