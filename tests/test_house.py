"""The rules of the house hold in every file, and each rule notices a small file that breaks it."""

import dataclasses
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests import house, house_tree
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


def test_only_the_kinds_of_answers_ask_which_kind_it_is() -> None:
    assert_none(line for source in PACKAGE for line in house.kinds_of_answer_by_name(source))


def test_imports_name_the_whole_path() -> None:
    assert_none(line for source in PACKAGE for line in house.relative_imports(source))


def test_files_are_short() -> None:
    assert_none(line for source in EVERYTHING for line in house.long_files(source, 350))


def test_examples_are_shorter() -> None:
    assert_none(line for source in house.read_sources(ROOT, "examples") for line in house.long_files(source, 59))


def test_functions_are_short() -> None:
    assert_none(line for source in EVERYTHING for line in house.long_functions(source, 60))


def test_classes_are_short() -> None:
    assert_none(line for source in EVERYTHING for line in house.long_classes(source, 250))


def test_folders_are_small() -> None:
    assert_none(house_tree.crowded_folders(PACKAGE, 15))


def test_no_file_imports_itself_in_a_circle() -> None:
    assert_none(house_tree.import_circles(PACKAGE))


def test_a_class_has_a_name_of_its_own() -> None:
    assert_none(house_tree.same_classes(PACKAGE))


@pytest.mark.parametrize("feature", house_tree.FEATURES)
def test_a_feature_lies_together(feature: str) -> None:
    assert_none(house_tree.scattered(PACKAGE, feature))


@pytest.mark.parametrize(
    ("count", "ceiling"),
    [(house_tree.vague_names, 0), (house_tree.crumbs, 33)],
    ids=["names that say nothing", "crumbs"],
)
def test_what_is_counted_does_not_grow(count: Callable[[Iterable[house.Source]], list[str]], ceiling: int) -> None:
    lines = count(PACKAGE)
    assert len(lines) <= ceiling, "\n" + "\n".join(lines)


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
    [kind for _, kind in inspect.getmembers(config, dataclasses.is_dataclass) if kind.__module__.startswith(PARTS)],
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
        (house.wrong_imports, "uniperceiver/interference/a.py", "from uniperceiver.model.model import Generalist"),
        (house.wrong_imports, "uniperceiver/new/a.py", ""),
        (house.kinds_of_answer_by_name, "uniperceiver/data/a.py", "x = task.candidates == 'labels'"),
        (house.kinds_of_answer_by_name, "uniperceiver/data/a.py", "x = 'next' != data.task.read_at"),
        (house.kinds_of_answer_by_name, "uniperceiver/data/a.py", "x = task.read_at in ('masked', 'next')"),
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
        (house.kinds_of_answer_by_name, "uniperceiver/tasks/answers/a.py", "x = task.read_at == 'masked'"),
        (house.kinds_of_answer_by_name, "uniperceiver/data/a.py", "x = candidates == 'labels' or task.candidates"),
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
    source = house.parse("a.py", "@frozen\nclass A:\n    x: int\n\n    class B:\n        y: int\n")
    assert list(house.long_classes(source, 5)) == []
    assert list(house.long_classes(source, 4)) == ["a.py:2: A has 5 lines, more than 4; split it"]


def test_a_field_counts_as_read_only_where_it_is_read() -> None:
    source = house.parse("a.py", "run.written = recipe.read\nnamed = 1\n")
    assert house.unread_fields(["read", "written", "named"], [source]) == {"written", "named"}


def tree(**texts: str) -> list[house.Source]:
    """Files of the package by name; `__` in it stands for a slash."""
    return [
        house.parse(f"uniperceiver/{name.replace('__', '/') if name != '__init__' else name}.py", text)
        for name, text in texts.items()
    ]


def test_a_crowded_folder_is_noticed() -> None:
    sources = tree(a__x="", a__y="", a__b__z="", b__x="")
    assert list(house_tree.crowded_folders(sources, 2)) == []
    (line,) = house_tree.crowded_folders(sources, 1)
    assert line.startswith("uniperceiver/a: 2 files, more than 1")


@pytest.mark.parametrize(
    "circle",
    [
        tree(a="from uniperceiver.b import B", b="import uniperceiver.a"),
        tree(a="from uniperceiver import b", b="from uniperceiver import c", c="from uniperceiver.a import A"),
        tree(a="try:\n    from uniperceiver.b import B\nexcept ImportError:\n    B = None", b="import uniperceiver.a"),
    ],
    ids=["two files", "three files", "inside a statement"],
)
def test_a_circle_of_imports_is_noticed(circle: list[house.Source]) -> None:
    (line,) = house_tree.import_circles(circle)
    assert line.endswith(line.split(":")[0])
    assert line.count("->") == len(circle)


@pytest.mark.parametrize(
    "waits",
    [
        "def f() -> None:\n    import uniperceiver.a",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import uniperceiver.a",
        "import torch",
    ],
)
def test_imports_that_wait_are_no_circle(waits: str) -> None:
    assert list(house_tree.import_circles(tree(a="import uniperceiver.b", b=waits))) == []


def test_two_classes_of_one_name_are_noticed() -> None:
    sources = tree(
        a="class A: ...\nclass _B: ...", b="class A: ...\nclass _B: ...", c="def f() -> None:\n    class A: ..."
    )
    (line,) = house_tree.same_classes(sources)
    assert line.startswith("uniperceiver/a.py: class A is also in uniperceiver/b.py")


def test_a_scattered_feature_is_noticed() -> None:
    there = tree(studies__plan="", studies__page="", cli__study="", report__study_page="")
    assert list(house_tree.scattered(there, "studies")) == []
    (line,) = house_tree.scattered([*there, *tree(runs__study_cells="")], "studies")
    assert line.startswith("studies: lies in runs, studies, more than 1")
    assert house_tree.folders_of(there, "tud") == []


def test_names_that_say_nothing_are_noticed() -> None:
    text = """
for one in range(3): print(one)
def told(each: int, *, known: int = 2) -> None:
    x = [found for found in y]
    other.given = each
"""
    lines = [line.split(":")[1:] for line in house_tree.vague_names(tree(a=text))]
    assert sorted((int(line), name.split("'")[1]) for line, name, *_ in lines) == [
        (2, "one"), (3, "each"), (3, "known"), (3, "told"), (4, "found"),
    ]  # fmt: skip


def test_crumbs_are_noticed() -> None:
    text = """
def _short(x: int) -> int:
    return x
def _twice() -> int:
    return 2
def _long() -> int:
    x = 1
    y = 2
    z = 3
    return x + y + z
def public() -> int:
    return _short(_twice() + _twice() + _long())
class A:
    def _of(self) -> int: ...
    def __len__(self) -> int:
        return self._of()
"""
    names = [line.split(": ")[1].split()[0] for line in house_tree.crumbs(tree(a=text))]
    assert names == ["_short", "_of"]
