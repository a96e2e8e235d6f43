"""Pascal VOC: what people have in such files, and what is wrong in them."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.drawn import write_picture
from uniperceiver.data.formats import class_names, labels_there, notes_of, open_source
from uniperceiver.data.formats.objects.pictures import MarkedPictures
from uniperceiver.errors import BrokenSample, UserError

SIZE = "<size><width>60</width><height>40</height><depth>3</depth></size>"


def thing(name: str = "owl", box: tuple[Any, ...] = (11, 6, 30, 15), more: str = "") -> str:
    corners = "".join(
        f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
    )
    return f"<object><name>{name}</name>{more}<bndbox>{corners}</bndbox></object>"


def voc(root: Path, files: dict[str, str], size: str = SIZE, **keys: Any) -> MarkedPictures:
    """The opened folder: pictures a, b and c, and XML files with these things."""
    for name in ("a", "b", "c"):
        write_picture(root / "images" / f"{name}.png")
    (root / "xml").mkdir(exist_ok=True)
    for name, things in files.items():
        text = (
            things
            if things.startswith("<?")
            else f"<annotation><filename>{name}.jpg</filename>{size}{things}</annotation>"
        )
        (root / "xml" / f"{name}.xml").write_text(text)
    source = open_source({"format": "voc", "path": "xml", "images": "images", **keys}, "w", root)
    assert isinstance(source, MarkedPictures)
    return source


def test_things_of_several_files(tmp_path: Path) -> None:
    difficult = "<difficult>1</difficult>"
    files = {
        "a": thing("owl") + thing("hot_dog", (1, 1, 60, 40), difficult),
        "b": "",
        "c": thing("hot_dog", (1.5, 2, 3, 4)),
    }
    source = pickle.loads(pickle.dumps(voc(tmp_path, files)))
    assert class_names(source) == ("hot_dog", "owl")
    assert labels_there(source) == {0, 1}
    first, second, third = (source.read(index) for index in range(3))
    assert (first.id, first.boxes.tolist()) == ("a.png", [[10, 5, 30, 15], [0, 0, 60, 40]])
    assert first.classes.tolist() == [1, 0]
    assert first.crowd.tolist() == [False, True]
    assert second.boxes.shape == (0, 4)
    assert third.boxes.tolist() == [[0.5, 1, 3, 4]]
    assert first.masks is None


def test_swapped_corners_are_turned_and_files_of_no_size_are_read(tmp_path: Path) -> None:
    source = voc(tmp_path, {"a": thing(box=(30, 15, 11, 6))}, size="")
    assert source.read(0).boxes.tolist() == [[11 - 1, 6 - 1, 30, 15]]  # type: ignore[union-attr]
    notes = notes_of(source)
    assert any("1 boxes have their corners swapped, and are turned (object a.xml)" in note for note in notes)
    assert any("2 pictures have no XML file and are left out" in note for note in notes)


def test_a_file_is_of_the_picture_of_its_own_name_and_else_of_the_one_that_it_names(tmp_path: Path) -> None:
    """Whoever renames pictures and files alike leaves the former names inside the files."""
    renamed = "<?xml version='1.0'?><annotation><filename>{}</filename>" + SIZE + "{}</annotation>"
    files = {
        "a": renamed.format("b.png", thing("owl")),
        "b": renamed.format("a.png", thing("cat")),
        "000001": renamed.format("somewhere/c.jpg", thing("dog")),
    }
    source = voc(tmp_path, files)
    names, samples = class_names(source), [source.read(index) for index in range(3)]
    assert names is not None
    assert {sample.id: names[sample.classes[0]] for sample in samples} == {  # type: ignore[index]
        "a.png": "owl",
        "b.png": "cat",
        "c.png": "dog",
    }


@pytest.mark.parametrize(
    "text", ['<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x "y">]><annotation/>', "<?x ?><!doctype a><a/>"]
)
def test_declarations_are_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        UserError, match=r"^w: .*a\.xml: declares a document type or entities, which no such file needs; remove it$"
    ):
        voc(tmp_path, {"a": text})


@pytest.mark.parametrize(
    ("things", "reason"),
    [
        ("<?xml version='1.0'?><annotation><object>", "object a.xml: not valid XML"),
        (thing(""), "object a.xml: an object without a name"),
        (thing(box=(1, 2, "x", 4)), "an object of class 'owl' without xmin, ymin, xmax, ymax as numbers"),
        (thing(box=(1, 2, "nan", 4)), "as numbers"),
        ("<object><name>owl</name></object>", "as numbers"),
    ],
)
def test_a_damaged_file_costs_its_picture(tmp_path: Path, things: str, reason: str) -> None:
    source = voc(tmp_path, {"a": things, "b": thing()})
    with pytest.raises(BrokenSample) as error:
        source.read(0)
    assert reason in str(error.value)
    assert len(source.read(1).boxes) == 1  # type: ignore[arg-type]


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^w: a\.xml: class 'owl' is not in `classes`; did you mean 'owls'\?"):
        voc(tmp_path, {"a": thing()}, classes=["owls"])
    with pytest.raises(UserError, match=r"holds no picture of .*, not even z\.jpg"):
        voc(tmp_path / "other", {"z": thing()})
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no \.xml file in this folder"):
        open_source({"format": "voc", "path": "empty", "images": "images"}, "w", tmp_path)


def test_chosen_classes_have_their_order(tmp_path: Path) -> None:
    source = voc(tmp_path, {"a": thing("owl") + thing("cat")}, classes=["owl", "dog", "cat"])
    assert class_names(source) == ("owl", "dog", "cat")
    assert source.read(0).classes.tolist() == [0, 2]  # type: ignore[union-attr]


def test_smaller_copies(tmp_path: Path) -> None:
    size = SIZE.replace("60", "120").replace("40", "80")
    with pytest.raises(
        UserError, match=r"its boxes are for 120 x 80 pixels, the picture has 60 x 40; .* set rescale: true"
    ):
        voc(tmp_path, {"a": thing()}, size)
    sample = voc(tmp_path, {"a": thing(box=(11, 7, 40, 20))}, size, rescale=True).read(0)
    assert sample.boxes is not None
    assert sample.boxes.tolist() == [[5, 3, 20, 10]]


def test_pictures_of_one_name(tmp_path: Path) -> None:
    """Of a.jpg and a.png, a.xml is about the one that it names; two files about one picture are refused."""
    write_picture(tmp_path / "images" / "a.jpg")
    source = voc(tmp_path, {"a": thing()})
    assert source.read(0).id == "a.jpg"
    assert any("3 pictures have no XML file and are left out" in note for note in notes_of(source))
    (tmp_path / "xml" / "a.xml").write_text(f"<annotation><filename>z.jpg</filename>{SIZE}{thing()}</annotation>")
    with pytest.raises(
        UserError, match=r"^w: .*a\.xml: may be about a\.jpg or a\.png; move all but one, or name it in "
    ):
        open_source({"format": "voc", "path": "xml", "images": "images"}, "w", tmp_path)
    for folder in ("one", "two"):
        text = f"<annotation><filename>{folder}/b.png</filename>{SIZE}{thing()}</annotation>"
        (tmp_path / "xml" / f"{folder}_b.xml").write_text(text)
    (tmp_path / "xml" / "a.xml").unlink()
    with pytest.raises(
        UserError, match=r"one_b\.xml and two_b\.xml are both about b\.png; remove one, or where pictures"
    ):
        open_source({"format": "voc", "path": "xml", "images": "images"}, "w", tmp_path)
