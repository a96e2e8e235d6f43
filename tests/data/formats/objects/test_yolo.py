"""YOLO folders: what people have in them, and what is wrong in them."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.drawn import write_picture
from uniperceiver.data.formats import class_names, labels_there, notes_of, open_source
from uniperceiver.data.formats.objects.pictures import MarkedPictures
from uniperceiver.errors import BrokenSample, UserError

YAML = "train: images/train\nval: images/val\nnames: [red_cell, platelet]\n"


def yolo(root: Path, lines: dict[str, str | bytes], yaml: str = YAML, **keys: Any) -> MarkedPictures:
    """The opened folder: pictures a, b and c, and these text files."""
    for name in ("a", "b", "c"):
        write_picture(root / "images" / "train" / f"{name}.png")
    for name, text in lines.items():
        file = root / "labels" / "train" / f"{name}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    (root / "data.yaml").write_text(yaml)
    source = open_source({"format": "yolo", "path": "data.yaml", **keys}, "w", root)
    assert isinstance(source, MarkedPictures)
    return source


def test_boxes_polygons_and_pictures_of_nothing(tmp_path: Path) -> None:
    text = "0 0.5 0.5 0.5 0.5\n1 0.1 0.25 0.5 0.25 0.5 0.75 0.1 0.75\n"
    source = pickle.loads(pickle.dumps(yolo(tmp_path, {"a": text, "b": ""})))
    assert class_names(source) == ("red_cell", "platelet")
    assert source.classes == (("red cell",), ("platelet",))
    assert labels_there(source) == {0, 1}
    first, second, third = (source.read(index) for index in range(3))
    assert (first.id, first.boxes.tolist()) == ("a.png", [[15, 10, 45, 30], [6, 10, 30, 30]])
    assert first.classes.tolist() == [0, 1]
    assert first.masks[0] is None
    mask_HW = first.masks[1]
    assert mask_HW.shape == (40, 60)
    assert mask_HW[10:30, 6:30].all()
    assert mask_HW.sum() == 20 * 24
    assert second.boxes.shape == third.boxes.shape == (0, 4)
    assert set(notes_of(source)) == {
        f"{tmp_path / 'data.yaml'}: 1 of 3 pictures have no text file and are taken for pictures of nothing",
        f"{tmp_path / 'data.yaml'}: 1 text files are empty: pictures of nothing",
        f"{tmp_path / 'data.yaml'}: 1 things have no outline: where masks are asked for, they have none (line a.txt:1)",
    }


def test_only_the_last_folder_of_images_has_labels_beside_it(tmp_path: Path) -> None:
    """Data may lie in a folder that is called images itself."""
    source = yolo(tmp_path / "images" / "cells", {"a": "1 0.5 0.5 0.5 0.5", "b": "", "c": "0 0.5 0.5 0.1 0.1"})
    assert [len(source.read(index).boxes) for index in range(3)] == [1, 0, 1]  # type: ignore[arg-type]


def test_text_files_of_windows(tmp_path: Path) -> None:
    source = yolo(tmp_path, {"a": b"\xef\xbb\xbf0 0.5 0.5 0.5 0.5\r\n\r\n1 0.5 0.5 0.1 0.1\r\n", "d": "0 0 0 1 1"})
    assert source.read(0).classes.tolist() == [0, 1]  # type: ignore[union-attr]
    assert any("1 text files have no picture" in note for note in notes_of(source))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0 0.5 0.5 0.5", "line a.txt:1: 4 numbers; a box has 5, a polygon 7 or more"),
        ("0 0.5 0.5 0.5 0.5 0.9", "6 numbers; a box has 5"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "8 numbers; a box has 5"),
        ("0 0.5 0.5 1.5 0.5", "a coordinate above 1; these are shares"),
        ("0 30 20 10 10", "a coordinate above 1; these are shares"),
        ("0 -0.3 0.5 0.1 0.1", "a coordinate below 0; these are shares"),
        ("cell 0.5 0.5 0.5 0.5", "holds what is no number"),
        ("0 0.5 nan 0.5 0.5", "holds a number that is not finite, or no class first"),
        ("0.5 0.5 0.5 0.5 0.5", "or no class first"),
        ("-1 0.5 0.5 0.5 0.5", "or no class first"),
    ],
)
def test_a_line_that_is_none_costs_its_picture(tmp_path: Path, line: str, reason: str) -> None:
    source = yolo(tmp_path, {"a": line, "b": "0 0.5 0.5 0.5 0.5"})
    with pytest.raises(BrokenSample, match=r"^a\.png: line a\.txt:1: ") as error:
        source.read(0)
    assert reason in str(error.value)
    assert len(source.read(1).boxes) == 1  # type: ignore[arg-type]


def test_coordinates_that_were_rounded_are_clipped(tmp_path: Path) -> None:
    lines = "0 1.005 0.5 0.5 0.5\n0 0.25 0.5 0.5001 1.001\n1 0.5 0.5 0 0.1\n1 -0.001 0.1 0.5 0.1 0.5 0.3\n"
    source = yolo(tmp_path, {"a": lines})
    sample = source.read(0)
    assert sample.boxes is not None
    assert sample.boxes[0].tolist() == pytest.approx([45.3, 10, 60, 30])
    assert sample.boxes[1].tolist() == pytest.approx([0, 0, 30.003, 40])
    assert sample.boxes[2].tolist() == pytest.approx([0, 4, 30, 12])
    notes = notes_of(source)
    assert any("1 boxes reach out of their picture and are clipped (line a.txt:1)" in note for note in notes)
    assert any("1 boxes without width or height are left out (line a.txt:3)" in note for note in notes)


@pytest.mark.parametrize(
    ("lines", "yaml", "keys", "message"),
    [
        ({"a": "2 0.5 0.5 0.1 0.1\n0 0.1 0.1 0.1 0.1"}, YAML, {}, "1 things are of classes without a name"),
        ({}, YAML, {}, "no picture has a text file, not even "),
        ({"a": ""}, YAML, {"split": "test"}, "no split 'test'; there are train, val"),
        ({"a": ""}, YAML.replace("images/train", "images/none"), {}, "no such file or folder"),
        ({"a": ""}, "train: images/train\n", {}, "'names' must be a list, or a mapping of numbers to names"),
        ({"a": ""}, "train: images/train\nnames: {0: a, 2: b}\n", {}, "the numbers of names must be 0 to 1"),
        ({"a": ""}, "train: images/train\nnames: [a, a]\n", {}, "names: 'a' stands there twice"),
        ({"a": ""}, YAML, {"classes": ["platelet", "red_cel"]}, "names 'red_cel', which is no class of data.yaml: "),
        (
            {"a": "0 0.7 0.5 0.9 0.9\n0 0.1 0.1 0.7 0.9\n0 0.3 0.4 0.5 0.6\n"},
            YAML,
            {},
            "2 of 3 boxes reach out of their picture, such as line a.txt:1: are these x0 y0 x1 y1, or x, y, width and "
            "height? Boxes here are centre, width and height",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path: Path, lines: Any, yaml: str, keys: Any, message: str) -> None:
    with pytest.raises(UserError) as error:
        yolo(tmp_path, lines, yaml, **keys)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_forms_of_data_yaml(tmp_path: Path) -> None:
    """Names by number, ../ before a path, a path of another machine, a list of folders, a file that lists pictures."""
    line = {"a": "1 0.5 0.5 0.5 0.5"}
    names = "names: {1: platelet, 0: red_cell}\n"
    assert class_names(yolo(tmp_path, line, f"train: ../images/train\n{names}")) == ("red_cell", "platelet")
    assert len(yolo(tmp_path, line, f"path: /no/such/folder\ntrain: [images/train]\n{names}")) == 3
    (tmp_path / "few.txt").write_text("images/train/b.png\n./images/train/a.png\n")
    few = yolo(tmp_path, line, f"train: few.txt\n{names}")
    assert [few.read(index).id for index in range(2)] == ["b.png", "a.png"]
    folder = open_source({"format": "yolo", "path": ".", "classes": ["x", "y"]}, "w", tmp_path)
    assert folder.read(0).id == "a.png"
    assert folder.read(0).classes.tolist() == [1]  # type: ignore[union-attr]
    with pytest.raises(UserError, match="key 'classes' is missing; give the names, or give data"):
        open_source({"format": "yolo", "path": "."}, "w", tmp_path)


def test_names_by_number_stand_in_the_order_of_numbers(tmp_path: Path) -> None:
    names = "".join(f"  {number}: c{number}\n" for number in reversed(range(11)))
    source = yolo(tmp_path, {"a": "10 0.5 0.5 0.5 0.5\n2 0.5 0.5 0.1 0.1"}, f"train: images/train\nnames:\n{names}")
    assert class_names(source) == tuple(f"c{number}" for number in range(11))


@pytest.mark.parametrize("path", ["path: data\n", "path: other\n"])
def test_a_split_is_looked_for_below_key_path_and_beside_the_file(tmp_path: Path, path: str) -> None:
    """Key path names the folder of the data, or one that has none of them."""
    (tmp_path / "other").mkdir()
    for name in ("data", "."):
        yolo(tmp_path / name, {"a": "0 0.5 0.5 0.5 0.5"})
    write_picture(tmp_path / "data" / "images" / "train" / "d.png")  # there alone
    (tmp_path / "data.yaml").write_text(path + YAML)
    source = open_source({"format": "yolo", "path": "data.yaml"}, "w", tmp_path)
    assert len(source) == (4 if path == "path: data\n" else 3)


def test_the_names_of_a_tool_beside_its_text_files_are_no_text_file(tmp_path: Path) -> None:
    source = yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5", "b": "", "c": "", "classes": "red_cell\nplatelet\n"})
    assert notes_of(source) == (f"{tmp_path / 'data.yaml'}: 2 text files are empty: pictures of nothing",)


def test_shares_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    source = yolo(tmp_path, {"a": "0 0.5 0.25 0.5 0.5"})
    write_picture(tmp_path / "images" / "train" / "a.png", orientation=6)
    assert source.read(0).boxes.tolist() == [[10, 0, 30, 30]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("classes", "names", "labels"),
    [
        (["platelet", "red_cell"], ("platelet", "red_cell"), [1, 0]),  # by name, whatever their order
        (["platelet"], ("platelet",), [0]),  # the others are left out
        (["erythrocyte", "thrombocyte"], ("erythrocyte", "thrombocyte"), [0, 1]),  # other names for the same
    ],
)
def test_own_classes_are_those_of_the_file_by_name(
    tmp_path: Path, classes: list[str], names: tuple[str, ...], labels: list[int]
) -> None:
    source = yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.1 0.1\n"}, classes=classes)
    assert class_names(source) == names
    assert source.read(0).classes.tolist() == labels  # type: ignore[union-attr]
    left_out = [note for note in notes_of(source) if "of other categories and left out (line a.txt:1)" in note]
    assert len(left_out) == (len(classes) == 1)


def test_pictures_that_share_a_text_file_are_said(tmp_path: Path) -> None:
    write_picture(tmp_path / "images" / "train" / "a.jpg")
    source = yolo(tmp_path, {"a": "0 0.5 0.5 0.5 0.5"})
    assert [len(source.read(index).boxes) for index in range(2)] == [1, 1]  # type: ignore[arg-type]
    assert any("1 text files are those of several pictures each, as of a.jpg and a.png" in x for x in notes_of(source))
