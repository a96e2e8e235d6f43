"""Measuring while training: it changes nothing, reuses the gradients of mixed steps, and is written down."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.small_run import assert_same, log_lines, small_recipe, train
from uniperceiver.errors import UserError
from uniperceiver.interference.records import read_measurements
from uniperceiver.runs.interference.callback import RepeatableBatches, batches_of_each_task
from uniperceiver.training.log import read_log

TASKS = ("colours", "words", "captions")
WATCH: dict[str, Any] = {"watch": True, "every": 3, "batches": 2}
MODES: dict[str, dict[str, Any]] = {
    "mixed": {"sampling": {"tasks_per_step": 3}},
    "unmixed": {"sampling": {"mode": "unmixed", "tasks_per_step": 2}},
    "one task in a step": {"sampling": {"tasks_per_step": 1}},
    "accumulated": {"sampling": {"tasks_per_step": 2}, "optimiser__accumulate": 2},
    "combined": {"sampling": {"tasks_per_step": 3}, "balance": {"method": "pcgrad"}},
    "losses first": {"sampling": {"tasks_per_step": 3}, "balance": {"method": "famo"}},
    "float16": {"sampling": {"tasks_per_step": 3}, "optimiser__precision": "float16"},
    "again": {"sampling": {"tasks_per_step": 3}, "optimiser__recompute": True},
}


@pytest.mark.parametrize("mode", MODES)
def test_training_is_the_same_bit_for_bit_and_measured(tmp_path: Path, mode: str) -> None:
    settings = {"steps": 7, **MODES[mode]}
    watched = train(tmp_path / "watched", small_recipe(TASKS, **settings, interference=WATCH))
    plain = train(tmp_path / "plain", small_recipe(TASKS, **settings))
    assert_same(watched, plain)
    lines = log_lines(tmp_path / "watched", "interference")
    assert [line["step"] for line in lines] == [3, 6]
    assert all(0 < line["overhead"] < 1 for line in lines)
    measured = read_measurements(tmp_path / "watched", read_log(tmp_path / "watched"))
    assert [measurement.step for measurement in measured] == [3, 6]
    assert np.isfinite(measured[-1].layers[0].estimate.cosine_KK).any()


def test_what_a_method_does_with_gradients_changes_no_figure(tmp_path: Path) -> None:
    """Without any learning, all methods see the same gradients."""
    matrices = []
    for method in ("fixed", "pcgrad", "random_weights", "famo"):
        still = {"steps": 20, "sampling": {"tasks_per_step": 3}, "optimiser": {"lr": 1e-12, "weight_decay": 0.0}}
        recipe = small_recipe(TASKS[:2], **still, balance={"method": method}, interference={**WATCH, "every": 20})
        train(tmp_path / method, recipe)
        (measured,) = read_measurements(tmp_path / method, read_log(tmp_path / method))
        matrices.append(measured.layers[0].estimate.matrix_KK)
        assert measured.batches == 20
    for matrix_KK in matrices[1:]:
        np.testing.assert_allclose(matrix_KK, matrices[0], rtol=1e-3)


def test_what_cannot_be_measured_stops_no_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    without = {**WATCH, "parameters": "tokenizer.patches.project.weight"}
    run = train(tmp_path, small_recipe(TASKS, steps=4, sampling={"mode": "unmixed"}, interference=without))
    assert run.state.step == 4
    assert "step 3: interference was not measured: task 'words': has no gradient on" in capsys.readouterr().err
    assert any("was not measured" in line["text"] for line in log_lines(tmp_path, "note"))


def test_it_goes_on_after_a_stop(tmp_path: Path) -> None:
    recipe = small_recipe(TASKS, steps=7, sampling={"tasks_per_step": 3}, interference=WATCH)
    train(tmp_path / "stopped", recipe, stop_after=4)
    resumed = train(tmp_path / "stopped", recipe)
    assert_same(resumed, train(tmp_path / "whole", recipe))
    lines = log_lines(tmp_path / "stopped", "interference")
    assert [(line["step"], line["batches"]) for line in lines] == [(3, 3), (6, 2)]  # of two steps that were looked at


def test_one_task_and_unknown_parameters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"interference\.watch: interference is between tasks, and the recipe has one"):
        train(tmp_path / "one", small_recipe(("words",), interference=WATCH))
    with pytest.raises(UserError, match=r"did you mean 'head\.linear\.weight'"):
        train(tmp_path / "two", small_recipe(TASKS, interference={**WATCH, "parameters": "head.liner.weight"}))
    few = small_recipe(TASKS, sampling={"mode": "unmixed"}, interference={**WATCH, "batches": 5})
    with pytest.raises(UserError, match=r"tasks\.colours: its 12 samples are 4 batches of 3; ask for fewer"):
        train(tmp_path / "few", few)


def test_parameters_that_are_not_trained_are_refused(tmp_path: Path) -> None:
    train(tmp_path / "base", small_recipe(TASKS))
    recipe = small_recipe(TASKS, model={"start": str(tmp_path / "base")}, tune={"method": "prompt"}, interference=WATCH)
    with pytest.raises(UserError, match="is not trained here; choose parameters that are"):
        train(tmp_path / "tuned", recipe)


def mixture_with_stages(*sets: tuple[int, int, int]) -> Any:
    """Tasks of (samples, batch at first, batch at the end)."""
    return SimpleNamespace(
        sets=[
            SimpleNamespace(source=range(samples), stages=(SimpleNamespace(batch=early), SimpleNamespace(batch=late)))
            for samples, early, late in sets
        ]
    )


@pytest.mark.parametrize(
    ("sets", "asked", "expected"),
    [
        ([(40, 2, 4), (30, 9, 5)], None, 6),
        ([(40, 2, 4), (30, 9, 5)], 3, 3),
        ([(10, 2, 5), (8, 8, 1)], None, 2),  # not the task of the fewest samples
        ([(4000, 2, 4), (3000, 9, 5)], None, 100),
        ([(4000, 2, 4), (3000, 9, 5)], 200, 200),
    ],
)
def test_batches_are_as_many_as_the_smallest_task_has_at_the_end(
    sets: list[tuple[int, int, int]], asked: int | None, expected: int
) -> None:
    assert batches_of_each_task(mixture_with_stages(*sets), asked) == expected


@pytest.mark.parametrize(("sets", "asked"), [([(40, 2, 4), (30, 9, 5)], 7), ([(40, 2, 4), (9, 1, 5)], None)])
def test_fewer_batches_than_asked_for_or_than_two_are_refused(
    sets: list[tuple[int, int, int]], asked: int | None
) -> None:
    mixture = mixture_with_stages(*sets)
    for one in mixture.sets:
        one.task = SimpleNamespace(name="small")
    with pytest.raises(UserError):
        batches_of_each_task(mixture, asked)


def test_repeatable_batches_have_the_sizes_that_training_ends_with() -> None:
    mixture = mixture_with_stages((40, 2, 4), (30, 9, 5))
    batches: Any = RepeatableBatches(model=Any, objective=Any, mixture=mixture, batches=2, workers=0)  # type: ignore[arg-type]
    plans = list(batches._plans())
    assert [(plan.step, plan.place, plan.index, plan.start, plan.count, plan.stage) for plan in plans] == [
        (0, 0, 0, 0, 4, 1),
        (0, 1, 1, 0, 5, 1),
        (1, 0, 0, 4, 4, 1),
        (1, 1, 1, 5, 5, 1),
    ]
