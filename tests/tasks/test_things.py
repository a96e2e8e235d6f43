"""What a sample must have to teach where things are."""

from typing import Any

import numpy as np
import pytest

from tests.tiny import tiny_task
from uniperceiver.data.batch import lacking
from uniperceiver.records import Sample

BOXES, NO_BOXES = np.array([[1.0, 2, 3, 4]]), np.zeros((0, 4))
CLASSES, MASKS = np.array([0]), [np.ones((4, 4), bool)]


@pytest.mark.parametrize(
    ("fields", "of_boxes", "of_masks"),
    [
        ({}, "boxes", "boxes"),
        ({"boxes": NO_BOXES}, None, None),  # a picture of nothing, which is learnt from as well
        ({"boxes": NO_BOXES, "classes": CLASSES[:0]}, None, None),
        ({"boxes": BOXES}, "classes of its boxes", "classes of its boxes"),
        ({"boxes": BOXES, "classes": CLASSES}, None, "masks"),
        ({"boxes": BOXES, "classes": CLASSES, "masks": MASKS}, None, None),
    ],
)
def test_what_a_picture_lacks(fields: dict[str, Any], of_boxes: str | None, of_masks: str | None) -> None:
    sample = Sample(id="a", image=np.zeros((4, 4, 3), np.uint8), **fields)
    for name, what in (("object_detection", of_boxes), ("instance_segmentation", of_masks)):
        assert lacking(tiny_task(name), sample, training=True) == what
        assert lacking(tiny_task(name), sample, training=False) is None
    assert lacking(tiny_task("object_detection"), Sample(id="a", **fields), training=False) == "image"
