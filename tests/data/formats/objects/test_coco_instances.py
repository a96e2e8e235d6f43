"""COCO instances: what people have in such files, and what is wrong in them."""

import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.shared import DATA, needs_data
from uniperceiver.data.formats import class_names, labels_there, notes_of, open_source
from uniperceiver.data.formats.objects.outlines import counts_of_text
from uniperceiver.data.formats.objects.pictures import MarkedPictures
from uniperceiver.errors import BrokenSample, UserError

CATEGORIES = [
    {"id": 90, "name": "hot_dog", "supercategory": "none"},
    {"id": 1, "name": "owl"},
    {"id": 3, "name": "unused"},
]
IMAGES = [
    {"id": 7, "file_name": "b.png", "width": 60, "height": 40},
    {"id": 3, "file_name": "a.png", "width": 60, "height": 40},
    {"id": 900, "file_name": "c.png", "width": 60, "height": 40},
]
THING = {"id": 12, "image_id": 3, "category_id": 90, "bbox": [10, 5, 20, 10], "area": 150, "iscrowd": 0}


def thing(**changes: Any) -> dict[str, Any]:
    return {**THING, **changes}


def write(root: Path, document: Any, size: tuple[int, int] = (60, 40), orientation: int = 1) -> None:
    """The file, and its three pictures."""
    (root / "images").mkdir(exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "b.png", "c.png"):
        file = io.BytesIO()
        Image.new("RGB", size, (90, 120, 30)).save(file, "PNG", exif=exif)
        (root / "images" / name).write_bytes(file.getvalue())
    (root / "instances.json").write_text(json.dumps(document))


def coco(root: Path, annotations: list[Any], **more: Any) -> MarkedPictures:
    """The opened file with these annotations."""
    keys = {key: more.pop(key) for key in ("classes", "rescale") if key in more}
    write(root, {"images": IMAGES, "categories": CATEGORIES, "annotations": annotations} | more)
    source = open_source({"format": "coco_instances", "path": "instances.json", "images": "images", **keys}, "w", root)
    assert isinstance(source, MarkedPictures)
    return source


def test_ids_are_names_and_pictures_without_things_are_kept(tmp_path: Path) -> None:
    annotations = [thing(), thing(id=5, image_id=7, category_id=1, bbox=[0, 0, 5, 6]), thing(id=13, bbox=[1, 2, 3, 4])]
    source = pickle.loads(pickle.dumps(coco(tmp_path, annotations)))
    assert class_names(source) == ("owl", "unused", "hot_dog")
    assert source.classes == (("owl",), ("unused",), ("hot dog",))
    assert source.category_ids == {"owl": 1, "unused": 3, "hot_dog": 90}
    assert [json.loads(image) for image in source.image_ids] == [7, 3, 900]
    assert labels_there(source) == {0, 2}
    samples = [source.read(index) for index in range(3)]
    assert [sample.id for sample in samples] == ["b.png", "a.png", "c.png"]
    assert [sample.boxes.tolist() for sample in samples] == [[[0, 0, 5, 6]], [[10, 5, 30, 15], [1, 2, 4, 6]], []]
    assert [sample.classes.tolist() for sample in samples] == [[0], [2, 2], []]
    assert samples[1].areas.tolist() == [150, 150]
    assert samples[1].masks is None
    assert not source.has_masks
    assert list(source.texts()) == ["owl", "unused", "hot dog"]
    assert list(source.names()) == [("b.png",), ("a.png",), ("c.png",)]


def test_chosen_classes_in_an_order_of_ones_own(tmp_path: Path) -> None:
    source = coco(tmp_path, [thing(), thing(id=5, category_id=1)], classes=["hot_dog", "unused"])
    assert class_names(source) == ("hot_dog", "unused")
    assert source.read(1).classes.tolist() == [0]  # type: ignore[union-attr]
    assert any("1 things are of other categories and left out (annotation 5)" in note for note in notes_of(source))
    with pytest.raises(UserError, match=r"'classes' names 'cat', which is no category of instances\.json: 'owl', "):
        coco(tmp_path, [thing()], classes=["cat"])


RING = [10, 5, 30, 5, 30, 15, 10, 15]


def test_outlines_of_every_form(tmp_path: Path) -> None:
    square = np.zeros((40, 60), dtype=bool)
    square[5:15, 10:30] = True
    flat = square.flatten(order="F").tolist()
    counts, last = [0], False
    for value in flat:
        if value != last:
            counts.append(0)
            last = value
        counts[-1] += 1
    from pycocotools import mask as coco_mask

    text = coco_mask.encode(np.asfortranarray(square.astype(np.uint8)))["counts"].decode()
    assert counts_of_text(text).tolist() == counts
    forms = [
        [RING],
        RING,
        {"size": [40, 60], "counts": counts},
        {"size": [40, 60], "counts": text},
        [],
        None,
        [[1, 2, 3, 4]],
    ]
    annotations = [thing(id=n, segmentation=form) for n, form in enumerate(forms)]
    masks = coco(tmp_path, [*annotations, {k: v for k, v in thing(id=9).items() if k != "segmentation"}]).read(1).masks
    assert masks is not None
    assert len(masks) == 8
    for number in range(4):
        assert np.array_equal(masks[number], square)  # type: ignore[arg-type]
    assert [masks[number] for number in range(4, 8)] == [None] * 4


@pytest.mark.parametrize("seed", range(20))
def test_counts_in_text_are_those_of_pycocotools(seed: int) -> None:
    from pycocotools import mask as coco_mask

    rng = np.random.default_rng(seed)
    mask_HW = rng.random((37, 53)) < rng.choice([0.01, 0.5, 0.99])
    encoded = coco_mask.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
    counts_X = counts_of_text(encoded["counts"].decode())
    again = np.repeat(np.arange(len(counts_X)) % 2 == 1, counts_X).reshape(37, 53, order="F")
    assert np.array_equal(again, mask_HW)


@pytest.mark.parametrize(
    ("value", "crowd"), [(0, False), (1, True), (True, True), ("0", False), ("1", True), (None, False)]
)
def test_crowds_in_every_form(tmp_path: Path, value: Any, crowd: bool) -> None:
    source = coco(tmp_path, [thing(iscrowd=value), {k: v for k, v in thing(id=2).items() if k != "iscrowd"}])
    assert source.read(1).crowd.tolist() == [crowd, False]  # type: ignore[union-attr]


def test_boxes_are_clipped_and_dropped_and_counted(tmp_path: Path) -> None:
    annotations = [
        thing(id=1, bbox=[50, 30, 20, 9]),
        thing(id=2, bbox=[5, 5, 0, 9]),
        thing(id=3, bbox=[5, 5, 9, -1]),
        thing(id=4, bbox=[80, 5, 9, 9]),
        thing(id=5, bbox=[0.2, 0, 59.9, 40.1]),
        thing(id=6),
        thing(id=7),
        thing(id=7, bbox=[1, 1, 2, 2]),
        thing(id=8, bbox=[2, 2, 3, 3]),
    ]
    source = coco(tmp_path, annotations)
    sample = source.read(1)
    assert sample.boxes is not None
    boxes = [[50, 30, 60, 39], [0.2, 0, 60, 40], [10, 5, 30, 15], [10, 5, 30, 15], [1, 1, 3, 3], [2, 2, 5, 5]]
    assert sample.boxes.tolist() == boxes
    path = tmp_path / "instances.json"
    assert set(notes_of(source)) == {
        f"{path}: 1 annotations have an id that stands there before (annotation 7)",
        f"{path}: 2 boxes without width or height are left out (annotation 2, 3)",
        f"{path}: 1 boxes outside their picture are left out (annotation 4)",
        f"{path}: 1 boxes reach out of their picture and are clipped (annotation 1)",
        f"{path}: 1 boxes stand there twice, with the same class (annotation 7)",
    }


@pytest.mark.parametrize(
    "box", [[1, 2, 3], [1, 2, 3, float("nan")], [1, 2, 3, float("inf")], "text", None, [1, None, 3, 4]]
)
def test_a_box_that_is_none_costs_its_picture(tmp_path: Path, box: Any) -> None:
    source = coco(tmp_path, [thing(id=812, bbox=box), thing(id=3, image_id=7)])
    with pytest.raises(BrokenSample, match=r"^a\.png: annotation 812: its bbox is .*, not four numbers"):
        source.read(1)
    assert source.read(0).boxes.tolist() == [[10, 5, 30, 15]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ({"size": [40, 60], "counts": [100, 2000]}, "an RLE whose counts add up to 2100, not to 40 x 60 pixels"),
        ({"size": [40, 60], "counts": [3000, -600]}, "an RLE whose counts add up to 2400"),
        ({"size": [60, 40], "counts": [2400]}, "an RLE of 40 x 60 pixels in a picture of 60 x 40"),
        ({"size": [40, 60], "counts": "~~"}, "an RLE that cannot be read"),
        ({"counts": [2400]}, "an RLE that cannot be read"),
        ([[1, 2, 3, 4, 5, "x"]], "a polygon with a coordinate that is no number"),
        ([[1, 2, 3, 4, 5, float("nan")]], "a polygon with a coordinate that is not finite"),
        ([[1, 2, 3, 4, 5, 6, 7]], "a polygon with an odd number of coordinates"),
        ("x", "a segmentation that is neither polygons nor RLE"),
    ],
)
def test_a_damaged_outline_costs_its_picture(tmp_path: Path, outline: Any, message: str) -> None:
    with pytest.raises(BrokenSample, match=rf"^a\.png: annotation 12: {message}"):
        coco(tmp_path, [thing(segmentation=outline)]).read(1)


def test_an_outline_of_another_size_is_scaled(tmp_path: Path) -> None:
    counts = [20 * 81 + 10, 20, *[61, 20] * 39]  # 40 columns of 81 rows, from 20 on
    counts.append(81 * 120 - sum(counts))
    source = coco(tmp_path, [thing(segmentation={"size": [81, 120], "counts": counts}, iscrowd=1)])
    masks = source.read(1).masks
    assert masks is not None
    mask_HW = masks[0]
    assert mask_HW is not None
    assert mask_HW.shape == (40, 60)
    assert abs(int(mask_HW.sum()) - 200) <= 20
    assert any("1 RLEs are of a larger or smaller copy" in note for note in notes_of(source))


def refusal(root: Path, annotations: list[Any], **more: Any) -> str:
    with pytest.raises(UserError) as error:
        coco(root, annotations, **more)
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("w: ")
    return text


def test_corners_instead_of_sides(tmp_path: Path) -> None:
    corners = [thing(id=n, bbox=[30 + n, 20 + n, 50 + n, 30 + n]) for n in range(5)]
    assert "5 of 5 boxes reach out of their picture, such as annotation 0: are these x0 y0 x1 y1?" in refusal(
        tmp_path, corners
    )
    outside = [thing(bbox=[100, 100, 5, 5])]
    assert "are these x0 y0 x1 y1?" in refusal(tmp_path, outside)


def test_shares_instead_of_pixels(tmp_path: Path) -> None:
    shares = [thing(bbox=[0.1, 0.2, 0.5, 0.6])]
    assert "no box has a number above 1.5: are these shares of the picture? Give boxes in pixels" in refusal(
        tmp_path, shares
    )


@pytest.mark.parametrize(
    ("annotations", "more", "message"),
    [
        ([thing(category_id=4)], {}, "1 of 1 annotations are of no category of the file, such as annotations[0]"),
        ([thing(), thing(image_id="3")], {}, "such as annotations[1] of image_id '3': there is 3; write both alike"),
        ([{"image_id": 3, "caption": "x"}], {}, "annotations[0] has no 'category_id'; is this a captions file?"),
        (["x"], {}, "annotations[0] has no 'image_id'"),
        ([thing()], {"images": [*IMAGES, IMAGES[0]]}, "images[3]: id 7 stands there twice"),
        ([thing()], {"images": [{"id": 3}]}, "images[0] has no 'file_name'"),
        ([thing()], {"images": []}, "there is no image"),
        ([thing()], {"categories": [*CATEGORIES, {"id": 1, "name": "x"}]}, "categories[3]: id 1 stands there twice"),
        ([thing()], {"categories": [*CATEGORIES, {"id": 2, "name": "owl"}]}, "[3]: name 'owl' stands there twice"),
        ([thing()], {"categories": []}, "there is no category"),
        ([thing()], {"categories": None}, "no list 'categories'; expected COCO instances"),
        ([thing(category_id=1)], {"classes": ["hot_dog"]}, "no annotation is of a class in key 'classes'"),
    ],
)  # fmt: skip
def test_what_is_refused_at_opening(tmp_path: Path, annotations: list[Any], more: dict[str, Any], message: str) -> None:
    assert message in refusal(tmp_path, annotations, **more)


def opened_with(root: Path, size: tuple[int, int], orientation: int = 1, **keys: Any) -> MarkedPictures:
    """Pictures of another size than the file says."""
    document = {"images": IMAGES, "categories": CATEGORIES, "annotations": [thing(segmentation=[RING])]}
    write(root, document, size, orientation)
    source = open_source({"format": "coco_instances", "path": "instances.json", "images": "images", **keys}, "w", root)
    assert isinstance(source, MarkedPictures)
    return source


def test_boxes_of_a_picture_on_its_side_are_turned_with_it(tmp_path: Path) -> None:
    # Stored 60 x 40 as the file says, shown 40 x 60: turned by a quarter, clockwise.
    sample = opened_with(tmp_path, (60, 40), orientation=6).read(1)
    assert sample.boxes is not None
    assert sample.masks is not None
    assert sample.boxes.tolist() == [[25, 10, 35, 30]]
    mask_HW = sample.masks[0]
    assert mask_HW is not None
    assert mask_HW.shape == (60, 40)
    assert mask_HW[10:30, 25:35].all()
    assert mask_HW.sum() == 200
    # Stored 40 x 60, shown 60 x 40, as the file says: the boxes are upright already.
    upright = opened_with(tmp_path, (40, 60), orientation=6).read(1)
    assert upright.boxes is not None
    assert upright.boxes.tolist() == [[10, 5, 30, 15]]


def test_smaller_copies_are_scaled_when_asked(tmp_path: Path) -> None:
    message = (
        r"^w: .*instances\.json: b\.png: its boxes are for 60 x 40 pixels, the picture has 30 x 20; .* rescale: true$"
    )
    with pytest.raises(UserError, match=message):
        opened_with(tmp_path, (30, 20))
    sample = opened_with(tmp_path, (30, 20), rescale=True).read(1)
    assert sample.boxes is not None
    assert sample.areas is not None
    assert sample.masks is not None
    assert sample.boxes.tolist() == [[5, 2.5, 15, 7.5]]
    assert sample.areas.tolist() == [150 / 4]
    mask_HW = sample.masks[0]
    assert mask_HW is not None
    assert mask_HW.shape == (20, 30)
    assert abs(int(mask_HW.sum()) - 50) <= 10


def test_another_shape_is_a_broken_sample(tmp_path: Path) -> None:
    for keys in ({}, {"rescale": True}):
        message = r"a\.png: its boxes are for 60 x 40 pixels, the picture has 33 x 44$"
        with pytest.raises(BrokenSample, match=message):
            opened_with(tmp_path, (33, 44), **keys).read(1)


def test_a_file_without_sizes(tmp_path: Path) -> None:
    bare = [{"id": image["id"], "file_name": image["file_name"]} for image in IMAGES]
    sample = coco(tmp_path, [thing(bbox=[50, 30, 20, 9])], images=bare).read(1)
    assert sample.boxes is not None
    assert sample.boxes.tolist() == [[50, 30, 60, 39]]


def test_a_missing_picture_is_a_broken_sample(tmp_path: Path) -> None:
    source = coco(tmp_path, [thing()], images=[*IMAGES, {**IMAGES[0], "id": 8, "file_name": "d.png"}])
    with pytest.raises(BrokenSample, match=r"^d\.png: "):
        source.read(3)


@needs_data
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # in pycocotools itself
def test_real_sets_are_read_as_pycocotools_reads_them() -> None:
    import contextlib

    from pycocotools.coco import COCO

    for name in ("det_bccd", "coco_open"):
        source = open_source(
            {"format": "coco_instances", "path": "instances_train.json", "images": "train"}, "w", DATA / name
        )
        assert isinstance(source, MarkedPictures)
        assert source.image_ids is not None
        with contextlib.redirect_stdout(io.StringIO()):
            reference = COCO(DATA / name / "instances_train.json")
        for index in range(0, len(source), 7):
            sample, annotations = source.read(index), reference.imgToAnns[json.loads(source.image_ids[index])]
            assert sample.boxes is not None
            assert sample.crowd is not None
            assert len(sample.boxes) == len(annotations)
            for number, annotation in enumerate(annotations):
                x, y, w, h = annotation["bbox"]
                assert np.abs(sample.boxes[number] - [x, y, x + w, y + h]).max() <= 1
                assert sample.crowd[number] == bool(annotation["iscrowd"])
                if isinstance(annotation.get("segmentation"), list):
                    assert sample.masks is not None
                    mask_HW = sample.masks[number]
                    assert np.array_equal(mask_HW, reference.annToMask(annotation) > 0)  # type: ignore[arg-type]
