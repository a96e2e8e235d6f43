"""The benchmark of the demo: what it measures of a run, and that a missed goal is one."""

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.demo import GOALS, RIGHT, DemoFigures, figures_of, table, trained
from uniperceiver import read_recipe
from uniperceiver.runs.demo_examples import DemoAnswer

DEMO = Path(__file__).parents[2] / "uniperceiver/recipes/demo.yaml"
RIGHT_ANSWER = DemoAnswer(about="a.png", question="what is it?", answer="red ring", right=True)


def figures(right: int = 10, **values: float) -> DemoFigures:
    answers = [replace(RIGHT_ANSWER, right=place < right) for place in range(10)]
    reached = {"/".join(goal): least for goal, least in GOALS.items()} | values
    return DemoFigures(name="seed-0", values=reached, answers=answers, cpu_seconds=90.0, seconds=60.0)


def test_goals_are_reached_or_missed() -> None:
    assert figures().good
    assert figures(right=RIGHT).good
    assert not figures(right=RIGHT - 1).good
    for goal, least in GOALS.items():
        assert not figures(**{"/".join(goal): least - 0.001}).good, goal


def test_the_table_shows_every_run() -> None:
    lines = table([figures(), figures(right=7)]).splitlines()
    assert len(lines) == 2 + len(GOALS) + 3
    assert lines[-3:] == [
        "| right answers of ten | 9 | 10 | 7 |",
        "| CPU minutes |  | 1.5 | 1.5 |",
        "| minutes |  | 1.0 | 1.0 |",
    ]


@pytest.mark.slow
def test_a_demo_is_trained_and_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = [f"tasks.{task}.{split}.items=8" for task in read_recipe(DEMO).tasks for split in ("train", "val")]
    small = ["model.width=16", "model.layers=1", "model.heads=2", "steps=2", "data.workers=0", "threads=1"]
    made = trained(tmp_path / "seed-3", 3, [*few, *small, "log.tensorboard=false", "evaluation.every=0"])
    assert set(made.values) == {"/".join(goal) for goal in GOALS}
    assert len(made.answers) == 10
    assert not made.good
    assert made.cpu_seconds
    assert "of 10 answers are right" in capsys.readouterr().out
    assert figures_of(tmp_path / "seed-3").values == made.values
