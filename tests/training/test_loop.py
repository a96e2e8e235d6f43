"""Runs that are stopped and continued, checkpoints that are kept, and what is written down on the way."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.small_run import assert_same, log_lines, same_tensors, small_recipe, train, values_of, write_recipe
from uniperceiver import load
from uniperceiver.config import read_recipe
from uniperceiver.optimisation.adamw import learning_rate
from uniperceiver.runs.prepare import prepare_run
from uniperceiver.training.loop import Run
from uniperceiver.training.stop import Stopped

PLAIN: dict[str, Any] = {}
EVERYTHING = {
    "optimiser__accumulate": 2,
    "optimiser__ema": 0.9,
    "optimiser__precision": "bfloat16",
    "candidates__sample": 20,
    "evaluation__every": 2,
    "tasks__colours__augment": {
        "crop": 0.5,
        "flip": 0.5,
        "randaugment": 1,
        "erasing": 0.5,
        "mixup": 0.2,
        "cutmix": 0.2,
    },
    "tasks__colours__late": {"size": 40, "batch": 2},
    "late_from": 0.5,
}
MUON = {"optimiser__kind": "muon", "model__stem": "conv", "moe": {"condition": "token", "experts": 3}}


def figures(folder: Path) -> list[tuple[int, str, Any, Any]]:
    """What a run's log says of every step, without times."""
    return [
        (line["step"], line["event"], line.get("captions/loss"), line.get("score"))
        for event in ("train", "evaluate")
        for line in log_lines(folder, event)
    ]


@pytest.mark.parametrize(
    ("mode", "changes", "stops"),
    [
        ("mixed", PLAIN, (0,)),
        ("unmixed", PLAIN, (1, 2)),
        ("mixed", EVERYTHING, (3,)),
        ("unmixed", EVERYTHING, (2,)),
        ("mixed", MUON, (2,)),
        pytest.param("unmixed", PLAIN, (3,), marks=pytest.mark.slow),
        pytest.param("mixed", PLAIN, (1, 2, 3), marks=pytest.mark.slow),
        pytest.param("mixed", EVERYTHING, (0, 2, 2, 3), marks=pytest.mark.slow),
        pytest.param("unmixed", EVERYTHING, (1,), marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(
    tmp_path: Path, mode: str, changes: Mapping[str, Any], stops: tuple[int, ...]
) -> None:
    recipe = small_recipe(sampling__mode=mode, **changes)
    whole = train(tmp_path / "whole", recipe)
    for stop in stops:
        stopped = train(tmp_path / "parts", recipe, stop_after=stop)
        assert stopped.state.step == stop
    parts = train(tmp_path / "parts", recipe)
    assert_same(whole, parts)
    assert figures(tmp_path / "whole") == figures(tmp_path / "parts")
    assert [line["step"] for line in log_lines(tmp_path / "parts", "train")] == [1, 2, 3, 4]
    assert sum(whole.state.consumed) > 0


def test_another_seed_makes_another_run(tmp_path: Path) -> None:
    one, other = (train(tmp_path / str(seed), small_recipe(seed=seed)) for seed in (0, 1))
    assert not same_tensors(dict(one.state.model.named_parameters()), dict(other.state.model.named_parameters()))


def test_workers_may_change_when_a_run_goes_on(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", small_recipe())
    train(tmp_path / "parts", small_recipe(), stop_after=1)
    train(tmp_path / "parts", small_recipe(data__workers=1), stop_after=2)
    assert_same(whole, train(tmp_path / "parts", small_recipe(data__workers=2)))


def test_a_stop_in_the_middle_of_an_evaluation_repeats_it(tmp_path: Path) -> None:
    recipe = small_recipe(evaluation__every=2, evaluation__batch=1)
    whole = train(tmp_path / "whole", recipe)
    run = prepare_run(recipe, tmp_path, tmp_path / "parts", quiet=True)
    evaluate = run.callbacks.evaluate
    calls = []

    def stopping(state: Any, stop: Any, log: Any) -> Any:
        stop.requested = True
        calls.append(state.step)
        return evaluate(state, stop, log)

    object.__setattr__(run.callbacks, "evaluate", stopping)
    with pytest.raises(Stopped):
        run.train()
    assert calls == [2]
    assert log_lines(tmp_path / "parts", "evaluate") == []
    assert_same(whole, train(tmp_path / "parts", recipe))
    assert [line["step"] for line in log_lines(tmp_path / "parts", "evaluate")] == [2, 4]


def test_a_killed_run_makes_the_steps_after_its_checkpoint_again(tmp_path: Path) -> None:
    recipe = small_recipe(checkpoint__every=2, steps=5)
    whole = train(tmp_path / "whole", recipe)
    run = prepare_run(recipe, tmp_path, tmp_path / "parts", quiet=True)
    step = run._step

    def killed(work: Any) -> Any:
        if run.state.step == 3:
            raise MemoryError  # nobody handles it: as a killed process, the run saves nothing
        return step(work)

    run._step = killed  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        run.train()
    with (tmp_path / "parts" / "log.jsonl").open("a") as log:
        log.write('{"step": 3, "event": "train", "samples": {"a": 1}')  # cut off in the middle
    assert_same(whole, train(tmp_path / "parts", recipe))
    assert [line["step"] for line in log_lines(tmp_path / "parts", "train")] == [1, 2, 3, 4, 5]


def test_the_model_folder_holds_what_is_evaluated(tmp_path: Path) -> None:
    run = train(tmp_path / "run", small_recipe(optimiser__ema=0.5))
    weights = dict(load(tmp_path / "run").model.named_parameters())
    assert run.state.average is not None
    assert same_tensors({name: each.detach() for name, each in weights.items()}, run.state.average)
    assert not same_tensors(run.state.average, dict(run.state.model.named_parameters()))
    plain = train(tmp_path / "plain", small_recipe())
    assert same_tensors(dict(load(tmp_path / "plain").model.state_dict()), dict(plain.state.model.state_dict()))


def test_a_finished_run_is_left_as_it_is(tmp_path: Path) -> None:
    recipe = small_recipe(evaluation__every=2)
    one = train(tmp_path / "run", recipe)
    before = (tmp_path / "run" / "log.jsonl").read_text()
    assert_same(one, train(tmp_path / "run", recipe))
    after = (tmp_path / "run" / "log.jsonl").read_text()
    assert after.startswith(before)
    assert [json.loads(line)["event"] for line in after.removeprefix(before).splitlines()] == ["note"]


def test_accumulation_is_one_larger_batch(tmp_path: Path) -> None:
    # Same samples, same draws: two batches of 3 give the gradient of one of 6.
    changes: dict[str, Any] = {
        "steps": 1,
        "sampling__tasks_per_step": 1,
        "model__drop_path": 0.0,
        "optimiser__warmup": 0,
    }
    norms = []
    for batch, accumulate in ((3, 2), (6, 1)):
        recipe = small_recipe(("colours",), tasks__colours__batch=batch, optimiser__accumulate=accumulate, **changes)
        train(tmp_path / str(batch), recipe)
        norms.append(log_lines(tmp_path / str(batch), "train")[0]["grad_norm"])
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_a_recipe_file_and_the_same_recipe_from_python_are_one_run(tmp_path: Path) -> None:
    path = write_recipe(tmp_path / "recipe.yaml", values_of(steps=2))
    one = train(tmp_path / "run", read_recipe(path))
    other = train(tmp_path / "run", small_recipe(steps=2))
    assert_same(one, other)


def test_every_step_has_the_learning_rate_of_its_number(trained: Path) -> None:
    """A step is numbered from 0 in the schedule, and from 1 in the log."""
    config = read_recipe(trained / "recipe.yaml").optimiser
    lines = log_lines(trained, "train")
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert [line["lr"] for line in lines] == [learning_rate(line["step"] - 1, 6, config) for line in lines]
    assert lines[0]["lr"] == 0.0


def test_each_group_has_its_own_share_of_the_learning_rate_of_a_step() -> None:
    groups: list[dict[str, float]] = [{}, {"lr_factor": 0.25}, {"lr_factor": 1.0}]
    recipe = small_recipe()
    state = SimpleNamespace(step=2, consumed=[0, 0], model=None, optimiser=SimpleNamespace(param_groups=groups))
    mixture = SimpleNamespace(plans=lambda *given: [], batches_per_step=1)
    callbacks = SimpleNamespace(gradients=None)
    run: Any = SimpleNamespace(
        state=state, recipe=recipe, mixture=mixture, callbacks=callbacks, objective=None, _team=None
    )
    Run._step(run, [])  # of which every sample is broken
    rate = learning_rate(2, recipe.steps, recipe.optimiser)
    assert rate > 0
    assert [group["lr"] for group in groups] == [rate, 0.25 * rate, rate]


@pytest.mark.parametrize(
    ("changes", "between"),
    [({"steps": 1200}, 120), ({"steps": 25}, 10), ({"steps": 1}, 10), ({"evaluation__every": 7}, 7)],
)
def test_a_recipe_that_says_nothing_has_about_ten_evaluations(changes: dict[str, Any], between: int) -> None:
    assert small_recipe(**{"evaluation__every": None} | changes).steps_between_evaluations == between


def test_evaluations_change_nothing_in_training(tmp_path: Path) -> None:
    one = train(tmp_path / "often", small_recipe(**EVERYTHING | {"evaluation__every": 1}))
    other = train(tmp_path / "never", small_recipe(**EVERYTHING | {"evaluation__every": 0}))
    assert (one.state.evaluated, other.state.evaluated) == (4, -1)
    assert same_tensors(dict(one.state.model.state_dict()), dict(other.state.model.state_dict()))
    lines = [log_lines(tmp_path / name, "train") for name in ("often", "never")]
    assert [line["grad_norm"] for line in lines[0]] == [line["grad_norm"] for line in lines[1]]


def test_a_score_that_is_not_a_number_is_never_the_best(tmp_path: Path) -> None:
    run = prepare_run(small_recipe(steps=4, evaluation__every=1), tmp_path, tmp_path / "run", quiet=True)
    scores = iter([float("nan"), 2.0, float("nan"), 3.0])
    run.callbacks = replace(run.callbacks, evaluate=lambda *parts: (next(scores), {}))
    run.train()
    assert run.state.best is not None
    assert (run.state.best["step"], run.state.best["score"]) == (2, 2.0)


def test_what_is_saved_already_is_not_saved_again(tmp_path: Path) -> None:
    """The last step is evaluated, which may be the best: one checkpoint holds both."""
    run = prepare_run(small_recipe(steps=4, evaluation__every=2, checkpoint__every=2), tmp_path, tmp_path / "run")
    save, saved = run.save, []

    def counted() -> None:
        saved.append((run.state.step, run.state.evaluated))
        save()

    run.save = counted  # type: ignore[method-assign]
    run.train()
    assert saved == [(2, 2), (4, 4)]
    run._save_once()
    assert saved == [(2, 2), (4, 4)]


def test_the_loss_that_is_said_is_the_mean_of_the_tasks_own() -> None:
    """Neither losses that balance experts nor those among some of the words are in it."""
    values = {"a/loss": 1.0, "a/balance_loss": 50.0, "b/sampled_loss": 9.0, "b/loss": 2.0, "samples_per_second": 12.3}
    method = SimpleNamespace(shown=lambda: {"a": 0.5})
    optimiser = SimpleNamespace(param_groups=[{"lr": 0.1}])
    run: Any = SimpleNamespace(state=SimpleNamespace(step=7, skipped=0, method=method, optimiser=optimiser))
    said = list[tuple[int, str]]()
    log: Any = SimpleNamespace(line=lambda *given: None, progress=lambda *given: said.append(given))
    window: Any = SimpleNamespace(take=lambda: values)
    figures: Any = SimpleNamespace(take=lambda: ({}, {}))
    Run._log(run, log, window, figures)
    assert said == [(7, "loss 1.500 · 12 samples/s")]
