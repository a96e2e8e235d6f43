"""COCO instances: what is said of a file."""

from pathlib import Path

import pytest

from tests.data.formats.objects.test_coco_instances import IMAGES, coco, thing
from uniperceiver.data.formats import notes_of
from uniperceiver.errors import UserError


def test_outlines_without_an_area_are_said(tmp_path: Path) -> None:
    ring = [10, 5, 30, 5, 30, 15, 10, 15]
    outlines = [[ring, [1, 1, 2, 2]], [[1, 1, 5, 5]], [[]], [], [ring]]
    source = coco(tmp_path, [thing(id=n, bbox=[n, 5, 20, 10], segmentation=x) for n, x in enumerate(outlines)])
    masks = source.read(1).masks
    assert masks is not None
    assert [masks[number] is None for number in range(5)] == [False, True, True, True, False]
    path = tmp_path / "instances.json"
    assert notes_of(source) == (
        f"{path}: 2 outlines have polygons of fewer than three corners, which are left out (annotation 0, 1)",
        f"{path}: 3 things have no outline: where masks are asked for, they have none (annotation 1, 2, 3)",
    )


@pytest.mark.parametrize(
    ("prefix", "hint"),
    [
        ("images\\", "; its folders are parted by \\ as on Windows: write / instead"),
        ("images/", "; give {root}, where these names begin"),
        ("../upload/4/", "; b.png is there, so its file_name begins with folders that are none here: remove them"),
        ("x", ""),
    ],
)
def test_names_of_images_that_are_elsewhere_say_so(tmp_path: Path, prefix: str, hint: str) -> None:
    images = [{**image, "file_name": f"{prefix}{image['file_name']}"} for image in IMAGES]
    with pytest.raises(UserError) as error:
        coco(tmp_path, [thing()], images=images)
    expected = f"w: images: {tmp_path}/images holds no image of instances.json, not even {prefix}b.png"
    assert str(error.value) == expected + hint.format(root=tmp_path)
