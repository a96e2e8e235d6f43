"""Shapes, dropped tokens, even turns and budgets: a run that is stopped comes to the same state, bit for bit."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.small_run import assert_same, small_recipe, train
from uniperceiver import Recipe
from uniperceiver.streams import numpy_stream
from uniperceiver.training.loop import Run

STEPS = 12
STOPS = sorted({int(step) for step in numpy_stream(0, "stops").integers(1, STEPS, 12)})
CLIPS = [{"drop": 0.75, "frames": 4}, {"size": 16, "weight": 2}, {"frames": 1, "batch": 4}]


def recipe(order: str, workers: int) -> Recipe:
    mode = {"mode": "unmixed", "tasks_per_step": 1} if order == "even" else {"mode": "mixed", "tasks_per_step": 2}
    return small_recipe(
        ("clip_captions", "colours", "words"),
        steps=STEPS,
        sampling={**mode, "order": order, "tokens": 512, "round": 8},
        data__workers=workers,
        model__patch=8,
        tasks__clip_captions__batch=32,
        tasks__clip_captions__shapes=CLIPS,
        tasks__colours__batch=32,
        tasks__colours__drop=0.5,
        tasks__words__batch=32,
        tasks__words__shapes=[{"length": 24}, {"length": 40}],
        **({"tasks__words__lr": 0.3} if order == "even" else {}),
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Run]:
    """The run that nobody stops, by order."""
    runs = {order: train(tmp_path_factory.mktemp(order) / "run", recipe(order, 0)) for order in ("even", "random")}
    return lambda order: runs[order]


def test_all_shapes_occur(whole: Callable[[str], Run]) -> None:
    for order in ("even", "random"):
        plans = [plan for step in range(STEPS) for plan in whole(order).mixture.plans(step, [0, 0, 0])]
        assert len({(plan.index, plan.stage) for plan in plans}) >= 5
    assert len(STOPS) >= 6


@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("order", ["even", "random"])
def test_a_stop_at_any_step_changes_nothing(order: str, stop: int, whole: Callable[[str], Run], tmp_path: Path) -> None:
    train(tmp_path / "run", recipe(order, 0), stop_after=stop)
    assert_same(train(tmp_path / "run", recipe(order, 0)), whole(order))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize("stop", STOPS[:3])
def test_nor_do_workers(stop: int, whole: Callable[[str], Run], tmp_path: Path) -> None:
    train(tmp_path / "run", recipe("even", 2), stop_after=stop)
    assert_same(train(tmp_path / "run", recipe("even", 2)), whole("even"))
