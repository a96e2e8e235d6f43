"""Runs that are stopped and continued, checkpoints that are kept, and what is written down on the way."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.small_run import log_lines, same_tensors, small_recipe, train, values_of, write_recipe
from uniperceiver import load
from uniperceiver.commands.recipe import read_recipe
from uniperceiver.commands.run import prepare_run
from uniperceiver.errors import UserError
from uniperceiver.training import checkpoint
from uniperceiver.training.loop import Run
from uniperceiver.training.state import pack
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


def assert_same(one: Run, other: Run) -> None:
    """Two runs have come to the same weights, moments, averages and counters."""
    names = [each.task.name for each in one.mixture.sets]
    groups, counters = pack(one.state, names)
    others, other_counters = pack(other.state, names)
    assert counters == other_counters
    assert groups.keys() == others.keys()
    for group in groups:
        assert same_tensors(groups[group], others[group]), group
    assert len(groups["optimiser"]) > 10


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


def checkpoints(folder: Path) -> list[str]:
    return [path.name for path in checkpoint.list_checkpoints(folder / "checkpoints")]


def test_the_newest_and_the_best_checkpoints_stay(tmp_path: Path) -> None:
    scores = iter([3.0, 1.0, float("nan"), 2.0, 5.0, 4.0])
    recipe = small_recipe(steps=6, checkpoint__every=1, checkpoint__keep=2, evaluation__every=1)
    run = prepare_run(recipe, tmp_path, tmp_path / "run", quiet=True)
    object.__setattr__(run.callbacks, "evaluate", lambda state, stop, log: (next(scores), {}))
    run.train()
    assert checkpoints(tmp_path / "run") == ["step-000002", "step-000005", "step-000006"]
    assert run.state.best == {"step": 2, "score": 1.0}


def test_a_first_score_that_is_not_a_number_is_not_the_best_for_ever(tmp_path: Path) -> None:
    scores = iter([float("nan"), 2.0])
    run = prepare_run(small_recipe(steps=2, evaluation__every=1), tmp_path, tmp_path / "run", quiet=True)
    object.__setattr__(run.callbacks, "evaluate", lambda state, stop, log: (next(scores), {}))
    run.train()
    assert run.state.best == {"step": 2, "score": 2.0}


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_checkpoint_is_passed_over_and_said(
    tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = small_recipe(steps=6, checkpoint__every=2, checkpoint__keep=2)
    whole = train(tmp_path / "whole", recipe)
    folder = tmp_path / "parts"
    train(folder, recipe, stop_after=4)
    path = folder / "checkpoints" / "step-000004" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data if damage == "flipped" else data[:-9])
    # The next save, at a step before the damaged one, must not lose its place to it.
    train(folder, small_recipe(steps=6, checkpoint__every=100, checkpoint__keep=1), stop_after=3)
    assert "not used: " in " ".join(capsys.readouterr().err.split())
    assert checkpoints(folder) == ["step-000003"]
    assert_same(whole, train(folder, recipe))
    notes = [line["text"] for line in log_lines(folder, "note")]
    assert any("step-000004" in note and note.startswith("not used") for note in notes)


def test_when_every_checkpoint_is_damaged_nothing_starts_again(tmp_path: Path) -> None:
    recipe = small_recipe(steps=2)
    train(tmp_path / "run", recipe)
    state = tmp_path / "run" / "checkpoints" / "step-000002" / "state.json"
    state.write_text("{")
    with pytest.raises(UserError, match="none of its 1 checkpoints is whole; restore one"):
        train(tmp_path / "run", small_recipe(steps=3))
    assert state.read_text() == "{"


def test_a_checkpoint_of_another_size_is_refused_and_kept(tmp_path: Path) -> None:
    small = small_recipe(steps=2)
    train(tmp_path / "small", small)
    train(tmp_path / "wide", small_recipe(steps=2, model__width=32))
    (tmp_path / "small" / "checkpoints").rename(tmp_path / "others")
    (tmp_path / "wide" / "checkpoints").rename(tmp_path / "small" / "checkpoints")
    files = sorted((tmp_path / "small" / "checkpoints").rglob("*.safetensors"))
    before = [file.read_bytes() for file in files]
    with pytest.raises(
        UserError, match=r"step-000002: is of another size: '\S+' is \(32.* the recipe's model; use the"
    ):
        train(tmp_path / "small", small)
    assert [file.read_bytes() for file in files] == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", 1),
        ("model__layers", 2),
        ("optimiser__lr", 0.5),
        ("sampling__mode", "unmixed"),
        ("candidates__sample", 3),
        ("tasks__colours__batch", 4),
        ("tasks__colours__train__items", 13),
        ("tasks__colours__augment__flip", 0.5),
    ],
)
def test_a_changed_recipe_is_refused(tmp_path: Path, key: str, value: Any) -> None:
    train(tmp_path / "run", small_recipe(steps=1))
    before = (tmp_path / "run" / "recipe.yaml").read_bytes()
    dotted = key.replace("__", r"\.")
    with pytest.raises(
        UserError, match=f"run: holds a run with {dotted}=.* the recipe says {value!r}; use another --out"
    ):
        prepare_run(small_recipe(steps=1, **{key: value}), tmp_path, tmp_path / "run")
    assert (tmp_path / "run" / "recipe.yaml").read_bytes() == before


def test_another_order_of_the_tasks_is_refused(tmp_path: Path) -> None:
    train(tmp_path / "run", small_recipe(steps=1))
    with pytest.raises(UserError, match="the tasks in the order colours, captions; keep that order"):
        prepare_run(small_recipe(("captions", "colours"), steps=1), tmp_path, tmp_path / "run")


def test_what_does_not_change_the_result_may_change(tmp_path: Path) -> None:
    train(tmp_path / "run", small_recipe(steps=1))
    changes = {"data__max_broken": 0.5, "evaluation__batch": 3, "log__every": 2, "checkpoint__keep": 5, "threads": 1}
    run = train(tmp_path / "run", small_recipe(steps=2, **changes))
    assert run.state.step == 2


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
