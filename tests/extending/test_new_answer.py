"""A fifth kind of answer, added from outside: how many things a picture shows, among the numbers from 1 to 9."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import uniperceiver
from tests.small_run import BASE, IMAGES, merged
from uniperceiver import Recipe, Task
from uniperceiver.cli import main
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.evaluation.answers import EVALUATIONS
from uniperceiver.evaluation.answers.kind import Evaluation, Metrics, Shown, batch_of, interval_of, likeliest, scores
from uniperceiver.evaluation.evaluate import beats_chance, lower_is_better
from uniperceiver.evaluation.intervals import bootstrap_mean
from uniperceiver.evaluation.split import AnyModel, Settings, Split
from uniperceiver.records import Sample
from uniperceiver.report.parts.numbers import MetricValue
from uniperceiver.strict import parse
from uniperceiver.tasks.answers import ANSWERS
from uniperceiver.tasks.answers.kind import AnswerKind, Asked
from uniperceiver.tasks.ask import compare, input_features
from uniperceiver.tasks.candidates import Candidates, TextCodec, represent_in_chunks
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.sequences import text_sequences

NUMBERS = [str(number) for number in range(1, 10)]


class Counts(AnswerKind):
    """The number of things in the picture, of which the sample has the boxes."""

    candidates = "counts"
    question = "classify"

    def lacking(self, task: Task, sample: Sample, *, training: bool) -> str | None:
        return "boxes" if training and sample.boxes is None else None

    def asked(
        self, task: Task, sample: Sample, codec: TextCodec, length: int, rng: np.random.Generator, *, training: bool
    ) -> Asked:
        return Asked(sample=sample.id, target=-1 if sample.boxes is None else len(sample.boxes) - 1)

    def all_candidates(self, task: Task, codec: TextCodec, index: int | None = None) -> Candidates:
        ids = [codec.encode(number) for number in NUMBERS]
        return Candidates(sequences=text_sequences(ids, task.facts("candidate", index), codec.end))

    def names(self, task: Task, codec: TextCodec) -> list[str]:
        return NUMBERS

    def described(self, task: Task) -> str:
        return "a number from 1 to 9"


class CountsEvaluation(Evaluation):
    """How far the answered number is from the right one, on average; chance answers 5."""

    main_metric = "distance"
    lower_is_better = frozenset({"distance"})

    def metrics(self, model: AnyModel, split: Split, settings: Settings) -> Metrics:
        task = split.task
        collected = scores(model, split, settings, task.answer.all_candidates(task, settings.codec, split.index))
        target, predicted = torch.cat(collected.target), torch.cat(collected.predicted)
        distance_N = (target - predicted).abs().double().numpy()
        interval = interval_of("distance", bootstrap_mean(distance_N, seed=0))
        distance = float(distance_N.mean())
        chance = float((target - 4).abs().float().mean())
        return {"distance": distance, **interval, **collected.loss(), "chance": chance, "n": len(target)}

    @torch.no_grad()
    def shown(self, model: AnyModel, split: Split, settings: Settings, samples: Sequence[Sample]) -> Iterator[Shown]:
        task, batch = split.task, batch_of(split, settings, samples)
        candidates = task.answer.all_candidates(task, settings.codec, split.index)
        assert candidates is not None
        c_KD = represent_in_chunks(model, candidates)
        rows = compare(model, task, input_features(model, batch), c_KD).softmax(dim=-1)
        for target, row in zip(batch.readout.target_R.tolist(), rows, strict=True):
            yield Shown(truth=(f"{NUMBERS[target]} things",), answers=likeliest(row, NUMBERS), right=None)


COUNTING = Task(name="counting", inputs=("image",), candidates="labels", temperature="downstream")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of the new task beside one of the library's, trained while the kind is in the tables."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(ANSWERS, "counts", Counts())
        patch.setitem(EVALUATIONS, "counts", CountsEvaluation())
        patch.setitem(CATALOGUE, "counting", replace(COUNTING, candidates="counts"))
        source = {**IMAGES, "objects": 3}
        task = {"kind": "counting", "train": source, "val": {**source, "split": "val"}, "batch": 4, "size": 32}
        captions = {"kind": "image_captioning", "train": source, "batch": 4, "size": 32}
        values = merged({**BASE, "tasks": {"how many": task, "captions": captions}}, {"moe.condition": "attribute"})
        folder = tmp_path_factory.mktemp("counting") / "run"
        uniperceiver.train(parse(Recipe, values, "recipe"), folder, quiet=True)
        yield folder


def test_without_its_line_the_kind_is_unknown() -> None:
    with pytest.raises(
        ValueError, match="read_at='summary' goes with candidates labels or tags or in_batch, not 'counts'"
    ):
        replace(COUNTING, candidates="counts")


def test_it_learns(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [line["how many/loss"] for line in lines if "how many/loss" in line]
    assert losses
    assert all(loss < 2 * np.log(9) for loss in losses)


def test_it_is_evaluated_and_shown(run: Path) -> None:
    metrics = json.loads((run / "results.json").read_text())["tasks"]["how many"]["val"]
    assert metrics["n"] == 12
    assert 0 <= metrics["distance"] <= 8
    assert metrics["chance"] > 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "distance" in page
    assert "things" in page


def test_it_is_asked(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = uniperceiver.load(run)
    picture = ScenesSource(items=1, pixels=32, objects=3).read(0).image
    row = model.classify(picture, task="how many")
    assert row.shape == (1, 9)
    assert float(row.sum()) == pytest.approx(1.0, abs=1e-5)
    assert "a number from 1 to 9" in (run / "model" / "README.md").read_text(encoding="utf-8")
    assert main(["evaluate", str(run), "--task", "how many", "--json", str(tmp_path / "r.json")]) == 0
    assert "distance" in capsys.readouterr().out
    again = json.loads((tmp_path / "r.json").read_text())
    assert (
        again["tasks"]["how many"]["val"] == json.loads((run / "results.json").read_text())["tasks"]["how many"]["val"]
    )


def test_a_small_distance_is_the_good_one(run: Path) -> None:
    assert lower_is_better("distance")
    assert beats_chance("distance", 0.5, 0.9, 1.0)
    assert not beats_chance("distance", 1.5, 2.0, 1.0)
    metrics = json.loads((run / "results.json").read_text())["tasks"]["how many"]["val"]
    expected = beats_chance("distance", metrics["distance_low"], metrics["distance_high"], metrics["chance"])
    assert (
        MetricValue(
            name="distance",
            value=metrics["distance"],
            low=metrics["distance_low"],
            high=metrics["distance_high"],
            chance=metrics["chance"],
        ).above_chance
        == expected
    )


def test_its_experts_are_looked_at_and_merged(run: Path) -> None:
    model = uniperceiver.load(run)
    picture = ScenesSource(items=1, pixels=32, objects=3).read(0).image
    expected = model.classify(picture, task="how many")
    torch.testing.assert_close(model.merge(["how many"]).classify(picture, task="how many"), expected)
    assert main(["experts", str(run), "--task", "how many", "--limit", "4", "--json"]) == 0
