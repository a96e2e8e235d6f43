"""Runs whose names of things are learnt in another way: training, answers, other labels, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from tests.regions_run import region_values
from tests.small_run import train, write_recipe
from uniperceiver import Recipe, load
from uniperceiver.cli import main
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.errors import UserError
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.strict import parse

TERMS = ("sigmoid", "background")


def recipe(tasks: tuple[str, ...] = ("boxes", "captions"), **changes: Any) -> Recipe:
    return parse(Recipe, region_values(tasks, **changes), "recipe of regions")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of each term, with a task of captions beside it, and one of today's."""
    folder = tmp_path_factory.mktemp("terms")
    for term in ("softmax", *TERMS):
        values = region_values(steps=4, tasks__boxes__class_term=term)
        assert main(["train", str(write_recipe(folder / f"{term}.yaml", values)), "--out", str(folder / term)]) == 0
    return folder


def picture() -> Any:
    return ScenesSource(items=20, pixels=32, objects=3).read(0).image


@pytest.mark.parametrize("term", TERMS)
def test_a_run_learns_and_is_measured(runs: Path, term: str) -> None:
    metrics = json.loads((runs / term / "results.json").read_text())["tasks"]["boxes"]["val"]
    assert metrics["loss"] == pytest.approx(metrics["nll"] + metrics["localisation"])
    assert 0 <= metrics["ap"] <= metrics["ap50"] <= 1
    config = json.loads((runs / term / "model/config.json").read_text())
    assert config["tasks"][0]["class_term"] == term
    assert ("name_bias" in config["architecture"]["regions"]) == (term == "sigmoid")


def test_the_default_leaves_no_trace_in_files(runs: Path) -> None:
    assert "class_term" not in (runs / "softmax" / "model/config.json").read_text()
    assert "name_bias" not in (runs / "softmax" / "model/config.json").read_text()


@pytest.mark.parametrize("term", TERMS)
def test_every_name_has_its_score_and_the_background_none(runs: Path, term: str) -> None:
    model = load(runs / term)
    (answer,) = model.detect(picture(), least=0.0)
    assert len(answer) == 5 * 7  # proposals x shapes
    assert "background" not in answer.labels
    assert (answer.scores <= 1).all()
    (other,) = model.detect(picture(), labels=["a cat", ["a dog", "a hound"]], least=0.0)
    assert (len(other), set(other.labels)) == (10, {"a cat", "a dog"})
    (alone,) = model.detect(picture(), labels=["a circle"], least=0.0)  # what is no circle has a name, or none
    assert len(alone) == 5


def test_the_sigmoid_has_a_bias_that_begins_rare_and_is_learnt(runs: Path) -> None:
    weights = load_file(runs / "sigmoid" / "model/model.safetensors")
    (bias,) = (value for name, value in weights.items() if name.endswith("name_bias"))
    assert bias.item() == pytest.approx(-4.595, abs=0.1)
    assert bias.item() != pytest.approx(-4.59512, abs=1e-5)
    answers = load(runs / "sigmoid").detect(picture(), least=0.0)[0]
    assert answers.scores.max() < 0.2


def test_a_label_called_background_is_refused_where_that_is_nothing(runs: Path) -> None:
    with pytest.raises(UserError, match=r"detect: labels: .* give that class another text"):
        load(runs / "background").detect(picture(), labels=["a cat", "background"])
    assert load(runs / "sigmoid").detect(picture(), labels=["a cat", "background"])


@pytest.mark.parametrize(
    ("tasks", "changes", "message"),
    [
        (("boxes",), {"tasks__boxes__class_term": "linear"}, "class_term"),
        (("boxes",), {"tasks__boxes__objectness": "giou"}, "objectness"),
        (("colours",), {"tasks__colours__objectness": "iou"}, "tasks.colours.objectness: .* has no things"),
        (
            ("boxes",),
            {"model__regions__attention": "dense"},
            "model.regions.points: has no effect with model.regions.attention=dense",
        ),
        (("colours",), {"tasks__colours__class_term": "sigmoid"}, "tasks.colours.class_term: .* has no things"),
        (
            ("boxes",),
            {"tasks__boxes__class_term": "sigmoid", "tasks__boxes__label_smoothing": 0.1},
            "tasks.boxes.label_smoothing: .* remove one of the two keys",
        ),
        (
            ("boxes",),
            {"tasks__boxes__class_term": "background", "tasks__boxes__labels": {"circle": "background"}},
            "tasks.boxes: .* give that class another text",
        ),
    ],
)
def test_what_cannot_be_learnt_so_is_refused(
    tmp_path: Path, tasks: tuple[str, ...], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepare_run(recipe(tasks, **changes), tmp_path, tmp_path / "run")


def test_a_start_without_the_bias_is_refused(runs: Path, tmp_path: Path) -> None:
    start = str(runs / "softmax")
    with pytest.raises(UserError, match="its model has no bias of names, which class_term=sigmoid needs"):
        prepare_run(recipe(model__start=start, tasks__boxes__class_term="sigmoid"), tmp_path, tmp_path / "run")
    prepare_run(recipe(model__start=start, tasks__boxes__class_term="background"), tmp_path, tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"tasks__boxes__objectness": "iou"},
        {"model__regions__attention": "dense", "model__regions__points": 4},
        {"model__regions__attention": "dense_rpb", "model__regions__points": 4, "model__regions__denoise": 4},
    ],
)
def test_a_recipe_chooses_objectness_and_attention(runs: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """The model is asked anew, from its files; what was chosen made a difference."""
    train(tmp_path / "run", recipe(steps=3, **changes))
    (answer,) = load(tmp_path / "run").detect(picture(), least=0.0)
    (usual,) = load(runs / "softmax").detect(picture(), least=0.0)
    assert len(answer) == len(usual) == 35
    assert not np.array_equal(answer.scores, usual.scores)
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = [line["boxes/loss"] for line in logged if "boxes/loss" in line]
    assert losses
    assert all(map(math.isfinite, losses))
