"""Public names are there, those that a few lines ask for have examples that run, and the process stays as it is."""

import doctest
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import uniperceiver
from tests.small_run import small_recipe, values_of, write_recipe
from uniperceiver import UserError, train

EXAMPLES = ("train", "evaluate", "load", "UniPerceiver", "Task", "read_recipe", "Recipe", "tune_recipe")


def test_every_public_name_is_there_and_documented() -> None:
    assert set(uniperceiver.__all__) <= set(dir(uniperceiver))
    for name in uniperceiver.__all__:
        assert getattr(uniperceiver, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'traim'"):
        _ = uniperceiver.traim


def test_figures_are_there_without_an_import_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(uniperceiver, "figures", raising=False)  # as before anybody has imported them
    assert "figures" in dir(uniperceiver)
    assert uniperceiver.figures.save_figures


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, as the later ones use the run of the first."""
    monkeypatch.chdir(tmp_path)
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    for name in EXAMPLES:
        tests = [test for test in finder.find(getattr(uniperceiver, name), name, globs={}) if test.examples]
        assert len(tests) == 1, f"{name} has no example"
        lines: list[str] = []
        runner.run(tests[0], out=lines.append)
        assert not runner.failures, "".join(lines)


def test_a_recipe_is_a_path_or_a_record(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent.yaml: no such file"):
        train(tmp_path / "absent.yaml", tmp_path / "run")
    with pytest.raises(UserError, match="overrides: are for a recipe's file"):
        train(small_recipe(), tmp_path / "run", overrides={"steps": "3"})


def test_a_slip_in_a_call_is_one_line(trained: Path, tmp_path: Path) -> None:
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: uniperceiver.load(trained, "abacus"), "device 'abacus': "),
        (lambda: uniperceiver.load(tmp_path / "absent"), "neither a saved model"),
        (lambda: uniperceiver.evaluate(trained, splits="vale"), "no split 'vale'; did you mean 'val'"),
        (lambda: uniperceiver.evaluate(trained, data=tmp_path), "is a folder; give a file: the paths"),
        (lambda: uniperceiver.read_recipe("a\0b"), "no such file"),
    ]
    for call, message in calls:
        with pytest.raises(UserError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"inputs='image' is a text; give a tuple, such as \('image',\)"):
        uniperceiver.Task(name="x", inputs="image", candidates="labels", temperature="img_cls")  # type: ignore[arg-type]
    path = write_recipe(tmp_path / "r.yaml", values_of())
    assert uniperceiver.read_recipe(path, {"steps": 2, "optimiser.lr": "3e-4"}).steps == 2


PROGRAM = """
import functools, os, signal, sys, torch
import torch._dynamo
from pathlib import Path
from tests.small_run import small_recipe, values_of, write_recipe
from uniperceiver import evaluate, train

def process():
    return {
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "numbers": (torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()),
        "signals": [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)],
        "folder": os.getcwd(),
        **{f"dynamo.{name}": value for name, value in torch._dynamo.config.get_config_copy().items()},
        **os.environ,
    }

torch.compile = functools.partial(torch.compile, backend="eager")  # which has torch's limits, but compiles no C++
before = process()
folder = Path(sys.argv[1])
recipe = small_recipe(("colours",), steps=1, threads=3, optimiser__compile=True)
train(recipe, folder, quiet=True)
evaluate(folder, quiet=True)
after = process()
assert after == before, [name for name in after if after[name] != before.get(name)]
assert "uniperceiver.cli" not in sys.modules
print("as before")
"""


@pytest.mark.slow
def test_a_run_leaves_the_process_as_it_is(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "as before\n", done.stderr[-2000:]
