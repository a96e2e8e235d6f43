"""Boxes in tables: a row per box, or a column with all things of a picture."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.drawn import png, write_picture
from uniperceiver.data.formats import Source, class_names, labels_there, notes_of, open_source
from uniperceiver.errors import BrokenSample, UserError

CSV = """image,x0,y0,x1,y1,kind
a.png,10,5,30,15,owl
b.png,,,,,
a.png,1,2,3,4,hot_dog
c.png,50,30,70,39,owl
"""
BOX = {"image": "image", "box": ["x0", "y0", "x1", "y1"], "label": "kind"}
OBJECTS = [
    {
        "image": "a.png",
        "objects": {"bbox": [[10, 5, 20, 10], [1, 2, 2, 2]], "category": ["owl", "hot_dog"], "id": [3, 4]},
    },
    {"image": "b.png", "objects": {"bbox": [], "category": []}},
    {"image": "c.png", "objects": [{"bbox": [50, 30, 20, 9], "label": "owl", "iscrowd": 1, "area": 9.5}]},
]


def table(root: Path, content: str, **keys: Any) -> Source:
    """A source of that table and three pictures."""
    for name in ("a", "b", "c"):
        write_picture(root / f"{name}.png")
    suffix = keys.setdefault("format", "csv")
    (root / f"things.{suffix}").write_text(content)
    return open_source({"path": f"things.{suffix}", **keys}, "w", root)


def lines(rows: list[Any]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in rows)


def check(source: Source) -> None:
    """The three pictures of all forms of these data."""
    source = pickle.loads(pickle.dumps(source))
    assert class_names(source) == ("hot_dog", "owl")
    assert source.classes == (("hot dog",), ("owl",))
    assert labels_there(source) == {0, 1}
    first, second, third = (source.read(index) for index in range(3))
    assert first.boxes is not None
    assert first.classes is not None
    assert first.boxes.tolist() == [[10, 5, 30, 15], [1, 2, 3, 4]]
    assert first.classes.tolist() == [1, 0]
    assert first.label is None
    assert second.boxes is not None
    assert second.boxes.shape == (0, 4)
    assert third.boxes is not None
    assert third.boxes.tolist() == [[50, 30, 60, 39]]
    assert first.image == png()


def test_a_row_per_box(tmp_path: Path) -> None:
    source = table(tmp_path, CSV, **BOX)
    check(source)
    assert [source.read(index).id for index in range(3)] == ["things.csv:2", "things.csv:3", "things.csv:5"]
    assert not notes_of(source)


def test_a_row_per_picture(tmp_path: Path) -> None:
    source = table(tmp_path, lines(OBJECTS), format="jsonl", image="image", objects="objects")
    check(source)
    third = source.read(2)
    assert third.crowd is not None
    assert third.areas is not None
    assert third.crowd.tolist() == [True]
    assert third.areas.tolist() == [9.5]


def test_classes_of_a_column_of_things(tmp_path: Path) -> None:
    keys = {"format": "jsonl", "image": "image", "objects": "objects"}
    source = table(tmp_path, lines(OBJECTS), **keys, classes=["owl", "cat", "hot_dog"])
    assert source.read(0).classes.tolist() == [0, 2]  # type: ignore[union-attr]
    with pytest.raises(
        UserError, match=r"^w: things\.jsonl:1: class 'hot_dog' is not in `classes`; did you mean 'hot_dogs'\?"
    ):
        table(tmp_path, lines(OBJECTS), **keys, classes=["owl", "hot_dogs"])


def test_a_cell_of_json(tmp_path: Path) -> None:
    cells = [f"{row['image']}\t{json.dumps(row['objects'])}" for row in OBJECTS]
    check(table(tmp_path, "\n".join(["image\tobjects", *cells]), format="tsv", image="image", objects="objects"))


@pytest.mark.parametrize("form", ["parquet", "huggingface"])
def test_columns_as_hugging_face_writes_them(tmp_path: Path, form: str) -> None:
    import datasets

    for name in ("a", "b", "c"):
        write_picture(tmp_path / f"{name}.png")
    thing = {
        "bbox": datasets.Sequence(datasets.Value("float32"), length=4),
        "category": datasets.ClassLabel(names=["hot_dog", "owl"]),
    }
    features = datasets.Features({"image": datasets.Image(), "objects": datasets.Sequence(thing)})
    rows = {
        "image": [str(tmp_path / f"{name}.png") for name in ("a", "b", "c")],
        "objects": [
            {"bbox": [[10, 5, 20, 10], [1, 2, 2, 2]], "category": [1, 0]},
            {"bbox": [], "category": []},
            {"bbox": [[50, 30, 20, 9]], "category": [1]},
        ],
    }
    dataset = datasets.Dataset.from_dict(rows, features=features)
    if form == "parquet":
        dataset.to_parquet(tmp_path / "things.parquet")
        check(
            open_source(
                {"format": form, "path": "things.parquet", "image": "image", "objects": "objects"}, "w", tmp_path
            )
        )
    else:
        dataset.save_to_disk(tmp_path / "saved")
        check(open_source({"format": form, "path": "saved", "image": "image", "objects": "objects"}, "w", tmp_path))


@pytest.mark.parametrize(
    ("form", "numbers"),
    [("xywh", "10,5,20,10"), ("cxcywh", "20,10,20,10"), ("xyxy", "10,5,30,15"), (None, "10,5,30,15")],
)
def test_forms_of_a_box(tmp_path: Path, form: str | None, numbers: str) -> None:
    source = table(tmp_path, f"image,x0,y0,x1,y1,kind\na.png,{numbers},owl\n", **BOX, box_form=form)
    assert source.read(0).boxes.tolist() == [[10, 5, 30, 15]]  # type: ignore[union-attr]


def test_boxes_in_shares(tmp_path: Path) -> None:
    text = "image,x0,y0,x1,y1,kind\na.png,0.5,0.25,1.0,0.75,owl\n"
    assert table(tmp_path, text, **BOX, box_shares=True).read(0).boxes.tolist() == [[30, 10, 60, 30]]  # type: ignore[union-attr]
    with pytest.raises(UserError, match=r"are these shares of the picture\? .* box_shares: true in a table"):
        table(tmp_path, text, **BOX)


@pytest.mark.parametrize(
    ("objects", "reason"),
    [
        ({"bbox": [[1, 2, 3]], "category": ["owl"]}, "row things.jsonl:1: a box that is [1, 2, 3], not four numbers"),
        ({"bbox": [[1, 2, 3, None]], "category": ["owl"]}, "not four numbers"),
        ({"bbox": [[1, 2, 3, 4]], "category": [None]}, "a thing without a class"),
        ({"bbox": [[1, 2, 3, 4]], "category": []}, "objects of different lengths (1 of bbox, 0 of category)"),
        ([3], "a thing that is 3, no mapping"),
        ("x", "objects that are neither lists nor JSON"),
        (3, "objects that are int, neither a mapping nor a list"),
        ([{"label": "owl"}], "a box that is [null], not four numbers"),
    ],
)
def test_a_damaged_row_costs_its_picture(tmp_path: Path, objects: Any, reason: str) -> None:
    rows = [{"image": "a.png", "objects": objects}, OBJECTS[2]]
    source = table(tmp_path, lines(rows), format="jsonl", image="image", objects="objects")
    with pytest.raises(BrokenSample) as error:
        source.read(0)
    assert reason in str(error.value)
    assert len(source.read(1).boxes) == 1  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"box_form": "xywh"}, "keys 'box_form' and 'box_shares' need key 'box' or 'objects'"),
        (
            {**BOX, "objects": "kind"},
            "keys 'box' (a row per thing) and 'objects' (a row per picture): give one of them",
        ),
        ({**BOX, "label": None}, "key 'box' needs key 'label': the column with the class of the thing in the box"),
        ({"objects": "kind", "label": "kind"}, "key 'objects' has the classes in its own column"),
        ({**BOX, "text": "kind"}, "boxes need key 'image', the column with their picture, and no text, clip"),
        ({**BOX, "classes": ["owl"]}, "things.csv:4: class 'hot_dog' is not in `classes`"),
    ],
)
def test_what_is_refused(tmp_path: Path, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        table(tmp_path, CSV, **({"image": "image"} | {key: value for key, value in keys.items() if value is not None}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_sides_where_corners_are_meant(tmp_path: Path) -> None:
    rows = "".join(f"a.png,{30 + n},{20 + n},5,6,owl\n" for n in range(4))
    with pytest.raises(
        UserError,
        match=r"4 of 4 boxes end before they begin, such as row things\.csv:2: are these x, y, width and height\?",
    ):
        table(tmp_path, f"image,x0,y0,x1,y1,kind\n{rows}", **BOX)


def test_sides_where_corners_are_meant_in_shares(tmp_path: Path) -> None:
    rows = "".join(f"a.png,{0.5 + n / 20},0.6,0.2,0.3,owl\n" for n in range(4))
    with pytest.raises(UserError, match=r"4 of 4 boxes end before they begin, .*are these x, y, width and height\?"):
        table(tmp_path, f"image,x0,y0,x1,y1,kind\n{rows}", **BOX, box_shares=True)


def test_a_table_of_which_no_box_can_be_read_says_why(tmp_path: Path) -> None:
    rows = [{"image": "a.png", "objects": [{"polygon": [1, 2], "label": "owl"}]}]
    with pytest.raises(UserError, match=r"no box can be read; the first: row things\.jsonl:1: a box that is \[null\]"):
        table(tmp_path, lines(rows), format="jsonl", image="image", objects="objects")


def test_classes_by_number(tmp_path: Path) -> None:
    text = "image,x0,y0,x1,y1,kind\na.png,10,5,30,15,1\n"
    source = table(tmp_path, text, **BOX, classes=["owl", "cat"])
    assert source.read(0).classes.tolist() == [1]  # type: ignore[union-attr]
