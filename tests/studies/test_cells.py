"""What is kept of a run of a study, and which runs had the same data."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from uniperceiver.studies.cells import _last_lines, other_data, step_seconds


def outcome(arm: str, seed: int, samples: int, *, fraction: float = 1.0, task: str = "t") -> Any:
    recipe = SimpleNamespace(seed=seed, tune=SimpleNamespace(fraction=fraction), tasks={"t": 1, "u": 2})
    return SimpleNamespace(arm=arm, seed=seed, recipe=recipe, data={task: {"samples": samples}})


@pytest.mark.parametrize(
    ("seeds", "fraction", "task", "lines"),
    [
        ((0, 0), 1.0, "t", 1),
        ((0, 1), 1.0, "t", 1),  # the data do not depend on the seed
        ((0, 0), 0.5, "t", 1),
        ((0, 1), 0.5, "t", 0),  # but the part of them that is drawn does
        ((0, 0), 1.0, "u", 0),
    ],
)
def test_runs_on_the_same_data_must_have_had_the_same(
    seeds: tuple[int, int], fraction: float, task: str, lines: int
) -> None:
    first = outcome("one", seeds[0], 3, fraction=fraction)
    second = outcome("two", seeds[1], 4, fraction=fraction, task=task)
    said = other_data([first, second])
    assert len(said) == lines
    start = f"two, seed {seeds[1]}: its data of task 't' were others than those of one, seed {seeds[0]};"
    assert all(line.startswith(start) for line in said)
    assert not other_data([first, first])


def test_the_last_lines_of_a_run_are_those_that_say_something(tmp_path: Path) -> None:
    path = tmp_path / "run.log"
    assert _last_lines(path) == []
    path.write_text("first \n    ~~~^^^\n\n  second\rthird\n")
    assert _last_lines(path) == ["first", "  second", "third"]
    path.write_text("".join(f"line {number}\n" for number in range(30)))
    assert _last_lines(path) == [f"line {number}" for number in range(10, 30)]


def test_two_lines_of_the_same_step_tell_no_time() -> None:
    """As where a run that had ended goes on."""
    times = [(2, 0.0), (4, 3.0), (4, 90.0), (6, 94.0)]
    log = [{"step": step, "event": "train", "time": time} for step, time in times]
    assert step_seconds(log) == pytest.approx(7 / 4)
    assert step_seconds([log[1], log[2]]) is None
