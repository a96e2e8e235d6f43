"""The public figures: every name is there, and every function has an example that runs."""

import doctest
import inspect
from pathlib import Path

import pytest

import uniperceiver
from uniperceiver import figures

WITHOUT_EXAMPLE = {"expert_panels", "image_of", "read_interference", "read_series", "save_figures"}  # they draw nothing
FUNCTIONS = [name for name in figures.__all__ if inspect.isfunction(getattr(figures, name))]


def run_example(function: object, name: str) -> int:
    """Run the example in a docstring; how many lines it has."""
    runner = doctest.DocTestRunner()
    count = 0
    for test in doctest.DocTestFinder(recurse=False).find(function, name, globs={}):
        lines: list[str] = []
        runner.run(test, out=lines.append)
        assert not runner.failures, "".join(lines)
        count += len(test.examples)
    return count


def test_every_name_is_there_and_documented() -> None:
    for name in figures.__all__:
        assert getattr(figures, name).__doc__, name


@pytest.mark.parametrize("name", sorted({*FUNCTIONS} - WITHOUT_EXAMPLE - {"run_figures"}))
def test_an_example_runs(name: str) -> None:
    assert run_example(getattr(figures, name), name)


def test_a_run_is_drawn_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_example(uniperceiver.train, "train")
    assert run_example(figures.run_figures, "run_figures")
    assert {path.suffix for path in (tmp_path / "runs/tiny/figures").iterdir()} == {".pdf", ".png"}
