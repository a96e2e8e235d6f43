"""The rules of the house hold in every file, and each rule notices a small file that breaks it."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests import house
from uniperceiver import config
from uniperceiver.moe.balance import LOSSES

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = house.read_sources(ROOT, house.PACKAGE)
EVERYTHING = [*PACKAGE, *house.read_sources(ROOT, "tests", "examples", "benchmarks", "soak")]


def assert_none(violations: Iterable[str]) -> None:
    lines = list(violations)
    assert not lines, "\n" + "\n".join(lines)


def test_there_are_files_to_look_at() -> None:
    assert {"uniperceiver/config/recipe.py", "uniperceiver/tasks/task.py"} <= {source.path for source in PACKAGE}


def test_imports_go_one_way() -> None:
    assert_none(line for source in PACKAGE for line in house.wrong_imports(source))


def test_imports_name_the_whole_path() -> None:
    assert_none(line for source in PACKAGE for line in house.relative_imports(source))


def test_files_are_short() -> None:
    assert_none(line for source in EVERYTHING for line in house.long_files(source, 350))


def test_examples_are_shorter() -> None:
    assert_none(line for source in house.read_sources(ROOT, "examples") for line in house.long_files(source, 59))


def test_functions_are_short() -> None:
    assert_none(line for source in EVERYTHING for line in house.long_functions(source, 60))


def test_functions_are_annotated() -> None:
    assert_none(line for source in EVERYTHING for line in house.missing_annotations(source))


def test_only_the_command_line_prints() -> None:
    assert_none(line for source in PACKAGE for line in house.prints(source))


def test_no_error_is_swallowed() -> None:
    assert_none(line for source in EVERYTHING for line in house.swallowed_errors(source))


def test_nothing_is_pickled() -> None:
    assert_none(line for source in PACKAGE for line in house.pickles(source))


def test_modules_have_no_state() -> None:
    assert_none(line for source in PACKAGE for line in house.module_state(source))


PARTS = f"{config.__name__}."


@pytest.mark.parametrize(
    "part",
    [each for _, each in inspect.getmembers(config, dataclasses.is_dataclass) if each.__module__.startswith(PARTS)],
    ids=lambda part: part.__name__,
)
def test_every_knob_is_read(part: type) -> None:
    others = [source for source in PACKAGE if not source.path.startswith("uniperceiver/config/")]
    fields = {field.name for field in dataclasses.fields(part)} - set(LOSSES)  # coefficients are read by name
    unread = house.unread_fields(fields, others)
    assert not unread, f"nothing reads {part.__name__}.{sorted(unread)}; use it or remove it"


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (house.wrong_imports, "uniperceiver/tasks/a.py", "from uniperceiver.model.model import Model"),
        (house.wrong_imports, "uniperceiver/tasks/a.py", "import uniperceiver.model.model"),
        (house.wrong_imports, "uniperceiver/tasks/a.py", "from uniperceiver import config"),
        (house.wrong_imports, "uniperceiver/tasks/a.py", "def late():\n    from uniperceiver import load"),
        (house.wrong_imports, "uniperceiver/model/a.py", "from uniperceiver.config import Recipe"),
        (house.wrong_imports, "uniperceiver/records.py", "import uniperceiver.tasks"),
        (house.wrong_imports, "uniperceiver/new/a.py", ""),
        (house.relative_imports, "uniperceiver/data/a.py", "from ..tasks import task"),
        (house.missing_annotations, "a.py", "def f(x) -> int: ..."),
        (house.missing_annotations, "a.py", "def f(x: int): ..."),
        (house.missing_annotations, "a.py", "class A:\n    def __init__(self): ..."),
        (house.missing_annotations, "a.py", "def f(*rest, **more: int) -> int: ..."),
        (house.missing_annotations, "a.py", "class A:\n    @staticmethod\n    def f(x) -> int: ..."),
        (house.prints, "uniperceiver/data/a.py", "print(1)"),
        (house.swallowed_errors, "a.py", "try:\n    f()\nexcept:\n    raise"),
        (house.swallowed_errors, "a.py", "try:\n    f()\nexcept Exception:\n    pass"),
        (house.swallowed_errors, "a.py", "try:\n    f()\nexcept (OSError, BaseException):\n    pass"),
        (house.pickles, "a.py", "import pickle"),
        (house.pickles, "a.py", "from joblib import dump"),
        (house.pickles, "a.py", "import torch\ntorch.load('a.pt')"),
        (house.pickles, "a.py", "import torch\ntorch.load('a.pt', weights_only=True)"),
        (house.pickles, house.READS_TORCH_FILES, "import torch\ntorch.load('a.pt')"),
        (house.pickles, house.READS_TORCH_FILES, "import torch\ntorch.load('a.pt', weights_only=False)"),
        (house.pickles, house.READS_TORCH_FILES, "import torch\ntorch.load('a.pt', weights_only=safe)"),
        (house.pickles, "a.py", "from torch import load"),
        (house.pickles, "a.py", "from pickle import Unpickler"),
        (house.pickles, "a.py", "np.load('a.npy', allow_pickle=True)"),
        (house.module_state, "a.py", "x = 0\ndef f() -> None:\n    global x\n    x = 1"),
    ],
)
def test_a_rule_notices(rule: Callable[[house.Source], Iterable[str]], path: str, text: str) -> None:
    (line,) = rule(house.parse(path, text))
    assert line.startswith(path)


@pytest.mark.parametrize(
    ("rule", "path", "text"),
    [
        (house.wrong_imports, "uniperceiver/tasks/a.py", "import torch\nfrom uniperceiver.records import Batch"),
        (house.wrong_imports, "uniperceiver/tasks/a.py", "from uniperceiver.tasks.task import Task"),
        (house.wrong_imports, "uniperceiver/moe/a.py", "from uniperceiver.config import MoEConfig"),
        (house.wrong_imports, "uniperceiver/cli/train.py", "from uniperceiver.training.loop import train"),
        (house.relative_imports, "uniperceiver/data/a.py", "from . import mix"),
        (house.missing_annotations, "a.py", "class A:\n    def f(self, x: int) -> int: ...\nf = lambda x: x"),
        (house.prints, "uniperceiver/cli.py", "print(1)"),
        (house.prints, "uniperceiver/report/a.py", "console.print(1)"),
        (house.swallowed_errors, "a.py", "try:\n    f()\nexcept KeyError:\n    pass"),
        (house.swallowed_errors, "a.py", "try:\n    f()\nexcept Exception:\n    clean()\n    raise"),
        (house.pickles, "a.py", "np.load('a.npy', allow_pickle=False)\njson.load(file)"),
        (house.pickles, "a.py", "from pickle import UnpicklingError"),
        (house.pickles, house.READS_TORCH_FILES, "import torch\ntorch.load('a.pt', weights_only=True)"),
        (house.module_state, "a.py", "def f() -> None:\n    x = 0\n    def g() -> None:\n        nonlocal x"),
    ],
)
def test_a_rule_lets_pass(rule: Callable[[house.Source], Iterable[str]], path: str, text: str) -> None:
    assert list(rule(house.parse(path, text))) == []


def test_lengths_are_counted() -> None:
    source = house.parse("a.py", "@cache\ndef f(x: int) -> int:\n    y = x\n    return y\n\n\nz = f(1)\n")
    assert list(house.long_files(source, 7)) == []
    assert list(house.long_files(source, 6)) == ["a.py: 7 lines, more than 6; split it by meaning"]
    assert list(house.long_functions(source, 3)) == []
    assert list(house.long_functions(source, 2)) == ["a.py:2: f has 3 lines, more than 2; split it"]


def test_a_field_counts_as_read_only_where_it_is_read() -> None:
    source = house.parse("a.py", "run.written = recipe.read\nnamed = 1\n")
    assert house.unread_fields(["read", "written", "named"], [source]) == {"written", "named"}
