"""Lists of classes: names, and what is read of them."""

import json
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import class_names, open_source
from uniperceiver.data.formats.class_list import read_classes
from uniperceiver.errors import UserError

CAT, DOG = ("n01", ("cat",)), ("n02", ("dog",))


@pytest.mark.parametrize(
    ("name", "written", "classes"),
    [
        ("c.txt", "hot_dog\nowl\n", [("hot_dog", ("hot dog",)), ("owl", ("owl",))]),
        ("c.txt", "n02\tdog\nn01\tcat\n", [DOG, CAT]),
        (
            "c.txt",
            "n01440764 tench, Tinca tinca\nn01443537 goldfish\n",
            [("n01440764", ("tench, Tinca tinca",)), ("n01443537", ("goldfish",))],
        ),
        ("c.json", ["hot_dog", "owl"], [("hot_dog", ("hot dog",)), ("owl", ("owl",))]),
        ("c.json", {"n02": "dog", "n01": ["cat", "kitty"]}, [DOG, ("n01", ("cat", "kitty"))]),
        ("c.json", {"dog": 1, "cat": 0}, [("cat", ("cat",)), ("dog", ("dog",))]),
        ("c.json", {"cat": 2, "dog": 0, "ant": 1}, [(name, (name,)) for name in ("dog", "ant", "cat")]),
        ("c.json", {"1": "dog", "0": "cat"}, [("cat", ("cat",)), ("dog", ("dog",))]),
        ("c.json", {str(n): f"c{n}" for n in range(12)}, [(f"c{n}", (f"c{n}",)) for n in range(12)]),
        ("c.json", {"1": ["n02", "dog"], "0": ["n01", "cat"]}, [CAT, DOG]),
    ],
)
def test_forms_of_a_list(tmp_path: Path, name: str, written: Any, classes: list[tuple[str, tuple[str, ...]]]) -> None:
    (tmp_path / name).write_text(written if isinstance(written, str) else json.dumps(written))
    listed = read_classes(tmp_path, name, "w")
    assert list(zip(listed.names, listed.texts, strict=True)) == classes


@pytest.mark.parametrize(
    ("name", "written", "message"),
    [
        ("c.txt", "a\tb\nc\n", r"c\.txt:2: write a name on each line, or name, tab and text on each"),
        ("c.txt", "a\tb\tc\n", r"c\.txt:1: write"),
        ("c.json", "{}", "is no list of classes; write a list of names, {name: text}"),
        ("c.json", '{"a": 1, "b": 2}', "the indices of 2 classes must be 0 to 1"),
        ("c.json", '{"1": "a", "2": "b"}', "the indices of 2 classes must be 0 to 1"),
        ("c.json", '{"a": {}}', "is no list of classes"),
        ("c.json", '["a", "a"]', "names 'a' twice"),
    ],
)
def test_what_is_no_list(tmp_path: Path, name: str, written: str, message: str) -> None:
    (tmp_path / name).write_text(written)
    with pytest.raises(UserError, match=f"^w: key 'classes'.*{message}"):
        read_classes(tmp_path, name, "w")


def test_every_format_with_classes_reads_their_texts(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("n02\tdog\nn01\tcat\n")
    (tmp_path / "f/n01").mkdir(parents=True)
    (tmp_path / "f/n01/a.png").write_bytes(b"A")
    (tmp_path / "t.csv").write_text("image,label\nf/n01/a.png,n01\n")
    (tmp_path / "l.txt").write_text("f/n01/a.png\tn01\n")
    for spec in (
        {"format": "folder", "path": "f"},
        {"format": "csv", "path": "t.csv", "image": "image", "label": "label"},
        {"format": "files", "path": "l.txt"},
    ):
        source = open_source({**spec, "classes": "c.txt"}, "w", tmp_path)
        assert (class_names(source), source.classes) == (("n02", "n01"), (("dog",), ("cat",)))
        assert source.read(0).label == 1
        assert list(source.texts())[:2] == ["dog", "cat"]
