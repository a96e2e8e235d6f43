"""COCO captions."""

import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import Source, notes_of, open_source
from uniperceiver.errors import BrokenSample, UserError

IMAGES = [{"id": 7, "file_name": "b.jpg"}, {"id": 3, "file_name": "a.jpg"}, {"id": 900, "file_name": "c.jpg"}]
CAPTIONS = [
    {"id": 1, "image_id": 3, "caption": "first of a \n"},
    {"id": 2, "image_id": 7, "caption": "of b"},
    {"id": 3, "image_id": 3, "caption": "é of a"},
    {"id": 4, "image_id": 3, "caption": "  "},
]


def coco(root: Path, document: Any) -> Source:
    """A source of that document and two images."""
    (root / "images").mkdir(exist_ok=True)
    for name in ("a.jpg", "b.jpg"):
        (root / "images" / name).write_text(name)
    (root / "captions.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return open_source({"format": "coco_captions", "path": "captions.json", "images": "images"}, "w", root)


def test_captions_of_an_image_are_gathered_in_order(tmp_path: Path) -> None:
    source = pickle.loads(pickle.dumps(coco(tmp_path, {"images": IMAGES, "annotations": CAPTIONS})))
    assert source.classes is None
    samples = [source.read(index) for index in range(len(source))]
    assert [sample.id for sample in samples] == ["b.jpg", "a.jpg"]
    assert [sample.captions for sample in samples] == [("of b",), ("first of a", "é of a")]
    assert [sample.image for sample in samples] == [b"b.jpg", b"a.jpg"]
    assert list(source.texts()) == ["of b", "first of a", "é of a"]


def test_whole_numbers_may_be_written_with_a_fraction(tmp_path: Path) -> None:
    floats = [{**caption, "image_id": float(caption["image_id"])} for caption in CAPTIONS]
    source = coco(tmp_path, {"images": [{**IMAGES[0], "id": 7.0}, *IMAGES[1:]], "annotations": floats})
    assert [source.read(index).captions for index in range(2)] == [("of b",), ("first of a", "é of a")]
    assert not any("not in the file" in line for line in notes_of(source))


def test_ids_that_are_numbers_here_and_texts_there(tmp_path: Path) -> None:
    texts = [{**image, "id": str(image["id"])} for image in IMAGES]
    message = "image_id 3 is not among .*; their ids are of another type, such as '3'; write both as numbers, or both"
    with pytest.raises(UserError, match=message):
        coco(tmp_path, {"images": texts, "annotations": CAPTIONS})


def test_a_missing_image_is_a_broken_sample(tmp_path: Path) -> None:
    one_more = [*CAPTIONS, {"image_id": 900, "caption": "of c"}]
    source = coco(tmp_path, {"images": IMAGES, "annotations": one_more})
    with pytest.raises(BrokenSample, match=r"^c\.jpg: "):
        source.read(2)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ('{"images": [', r"captions\.json: not valid JSON .*is the file complete"),
        ([], "no list 'images'; expected COCO captions"),
        ({"images": IMAGES}, "no list 'annotations'"),
        ({"images": [{"id": 1}], "annotations": []}, r"images\[0\] has no 'file_name'"),
        ({"images": [*IMAGES, IMAGES[0]], "annotations": []}, r"images\[3\]: id 7 stands there twice"),
        ({"images": IMAGES, "annotations": []}, "no image has a caption"),
        ({"images": IMAGES, "annotations": [{"image_id": 7, "bbox": [1]}]}, "instances file"),
        ({"images": IMAGES, "annotations": [{"image_id": 8, "caption": "x"}]}, r"annotations\[0\]: image_id 8 is not"),
        ({"images": IMAGES, "annotations": [{"image_id": 900, "caption": "x"}]}, r"holds no image .*not even c\.jpg"),
    ],
)
def test_what_is_no_captions_file(tmp_path: Path, document: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^w: .*{message}"):
        coco(tmp_path, document)


def test_a_missing_image_folder(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text("{}")
    with pytest.raises(UserError, match=r"^w: images: .*imgs: no such file or folder"):
        open_source({"format": "coco_captions", "path": "c.json", "images": "imgs"}, "w", tmp_path)


def test_each_image_is_looked_for_in_all_folders(tmp_path: Path) -> None:
    for name in ("one/a.jpg", "two/b.jpg", "two/sub/c.jpg", "two/unused.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    files = {1: "b.jpg", 20: "sub/c.jpg", 300: "a.jpg", 4000: "d.jpg"}
    document = {
        "images": [{"id": key, "file_name": name} for key, name in files.items()],
        "annotations": [{"image_id": key, "caption": f"of {key}"} for key in reversed(files)],
    }
    (tmp_path / "c.json").write_text(json.dumps(document))
    spec = {"format": "coco_captions", "path": "c.json", "images": ["one", "two", "one"]}
    source = pickle.loads(pickle.dumps(open_source(spec, "w", tmp_path)))
    samples = [source.read(index) for index in range(3)]
    assert [sample.image for sample in samples] == [b"two/b.jpg", b"two/sub/c.jpg", b"one/a.jpg"]
    assert [sample.captions for sample in samples] == [("of 1",), ("of 20",), ("of 300",)]
    with pytest.raises(BrokenSample, match=r"^d\.jpg: .*one/d\.jpg: cannot be read"):
        source.read(3)
    (tmp_path / "one/b.jpg").write_text("which?")
    with pytest.raises(UserError, match=r"^w: images: b\.jpg is in .*one and in .*two; name only the folder"):
        open_source(spec, "w", tmp_path)
    with pytest.raises(UserError, match=r"^w: key 'images' is an empty list"):
        open_source({**spec, "images": []}, "w", tmp_path)
    (tmp_path / "deep").mkdir()
    with pytest.raises(UserError, match=r"^w: images: .*sub and .*deep hold no image of c\.json, not even b\.jpg"):
        open_source({**spec, "images": ["two/sub", "deep"]}, "w", tmp_path)


def test_half_a_character_breaks_the_sample_that_has_it(tmp_path: Path) -> None:
    captions = [{"image_id": 7, "caption": "half \ud83d"}, {"image_id": 3, "caption": "good"}]
    images = [*IMAGES[:2], {"id": 900, "file_name": "\ud83d.jpg"}]
    source = coco(tmp_path, {"images": images, "annotations": [*captions, {"image_id": 900, "caption": "x"}]})
    for index, name in ((0, r"b\.jpg: a caption is not valid UTF-8"), (2, r"\?\.jpg: .*cannot be read")):
        with pytest.raises(BrokenSample, match=f"^{name}") as caught:
            source.read(index)
        assert str(caught.value).encode()
    assert source.read(1).captions == ("good",)


def test_a_caption_that_is_none_costs_itself_and_is_counted(tmp_path: Path) -> None:
    damaged = [{"image_id": 3, "caption": value} for value in (None, "", "half \ud83d", ["x"])]
    lost = [{"image_id": 3}, {"image_id": 8, "caption": "of nothing"}, "?", {"image_id": 900, "caption": None}]
    source = coco(tmp_path, {"images": [*IMAGES, {"id": 5}, None], "annotations": [*CAPTIONS, *damaged, *lost]})
    assert [source.read(index).captions for index in range(2)] == [("of b",), ("first of a", "é of a")]
    assert [note.removeprefix(f"{tmp_path}/captions.json: ") for note in notes_of(source)] == [
        "8 captions are empty or damaged and left out",
        "left out, being of images that are not in the file: 2 captions",
        "2 images without id or file_name are left out",
        "1 of 3 images have no caption and are left out",
    ]
