"""The things in a picture as the model sees them."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.objects import framed, mask_side
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import BrokenSample
from uniperceiver.records import Sample
from uniperceiver.streams import numpy_stream

# Of a picture of 40 x 20: a thing inside the central square, one a quarter of which is, one outside, a crowd over all.
BOXES = np.array([[12.0, 4, 20, 12], [24, 0, 48, 10], [0, 0, 8, 8], [0, 0, 40, 20]])
SEEN = Preprocess(size=16)


def sample(boxes: np.ndarray = BOXES) -> Sample:
    """A picture whose masks are its boxes."""
    picture_HWC = numpy_stream(0).integers(0, 256, (20, 40, 3), dtype=np.uint8)
    mask_OHW = np.zeros((len(boxes), 20, 40), dtype=bool)
    for mask_HW, (x0, y0, x1, y1) in zip(mask_OHW, boxes.astype(int).tolist(), strict=True):
        mask_HW[y0:y1, x0:x1] = True
    crowd = np.arange(len(boxes)) == 3
    classes = np.arange(len(boxes)) + 5
    return Sample(id="a", image=picture_HWC, boxes=boxes, classes=classes, crowd=crowd, masks=mask_OHW)


def test_things_are_clipped_and_dropped_by_what_is_seen_of_them() -> None:
    view = framed(sample(), SEEN, None, None)
    assert isinstance(view.image, np.ndarray)
    assert view.image.shape == (16, 16, 3)
    assert view.image.dtype == np.uint8
    things = view.things
    assert things is not None
    assert (things.size, things.window) == ((20, 40), (10, 0, 30, 20))
    # The second is seen by 6 of 24 columns, less than 0.3; the crowd stays.
    assert things.seen_class_G.tolist() == [5, 8]
    assert things.seen_crowd_G.tolist() == [False, True]
    np.testing.assert_allclose(things.seen_box_G4, [[0.3, 0.4, 0.4, 0.4], [0.5, 0.5, 1, 1]], atol=1e-6)
    assert things.seen_box_G4.dtype == np.float32
    assert things.seen_mask_GHW is None


def test_keep_says_how_much_must_be_seen() -> None:
    whole = sample(np.array([[24.0, 0, 34, 10], [12, 4, 20, 12]]))
    for keep, classes in ((0.6, [5, 6]), (0.61, [6])):
        augment = AugmentConfig(keep=keep)
        things = framed(whole, SEEN, augment, numpy_stream(0)).things
        assert things is not None
        assert things.seen_class_G.tolist() == classes
        assert things.box_O4 is None


def test_evaluation_has_all_things_in_the_pixels_of_the_picture() -> None:
    things = framed(sample(), replace(SEEN, fit="squash"), None, None, masks=8).things
    assert things is not None
    assert things.window == (0, 0, 40, 20)
    assert things.box_O4 is not None
    assert things.area_O is not None
    assert np.array_equal(things.box_O4, BOXES)
    assert things.area_O.tolist() == [64, 160, 64, 800]  # of masks, which end at the picture
    assert things.class_O is not None
    assert things.class_O.tolist() == [5, 6, 7, 8]
    assert things.masks is not None
    assert things.seen_class_G.tolist() == [5, 6, 7, 8]
    assert things.seen_mask_GHW is not None
    assert things.seen_mask_GHW.sum(axis=(1, 2)).tolist() == [2 * 3, 3 * 4, 2 * 3, 64]


def test_masks_go_with_their_boxes_through_any_window() -> None:
    augment = AugmentConfig(crop=0.3, flip=0.5, flip_vertical=0.5)
    shown = 0
    for seed in range(60):
        things = framed(sample(), replace(SEEN, fit="squash"), augment, numpy_stream(seed), masks=64).things
        assert things is not None
        assert things.seen_mask_GHW is not None
        assert things.seen_has_mask_G is not None
        assert things.seen_has_mask_G.all()
        for (cx, cy, w, h), mask_HW in zip(things.seen_box_G4.tolist(), things.seen_mask_GHW, strict=True):
            rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
            edges = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) / 64
            # The second box reaches out of its picture, where there is no mask: it is compared on three sides.
            expected = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
            assert np.abs(edges - expected).max() <= 2 / 64
            shown += 1
    assert shown > 120


def test_a_picture_without_things_and_one_of_which_nothing_is_known() -> None:
    empty = framed(sample(np.zeros((0, 4))), SEEN, None, None, masks=8).things
    assert empty is not None
    assert empty.seen_box_G4.shape == (0, 4)
    assert empty.box_O4 is not None
    assert empty.seen_mask_GHW is not None
    assert empty.seen_mask_GHW.shape == (0, 8, 8)
    unknown = framed(replace(sample(), boxes=None, classes=None, crowd=None, masks=None), SEEN, None, None).things
    assert unknown is not None
    assert unknown.seen_class_G.shape == (0,)
    assert unknown.box_O4 is None
    with pytest.raises(BrokenSample, match="has no image"):
        framed(Sample(id="a", boxes=BOXES), SEEN, None, None)


def test_boxes_without_area_are_dropped() -> None:
    degenerate = sample(np.array([[12.0, 4, 12, 12], [12, 4, 20, 4], [30, 4, 38, 12], [12, 4, 20, 12]]))
    things = framed(degenerate, SEEN, None, None).things
    assert things is not None
    assert things.seen_class_G.tolist() == [8]


def test_a_giant_that_is_decoded_smaller_keeps_the_pixels_of_its_boxes() -> None:
    file = io.BytesIO()
    Image.new("RGB", (640, 320)).save(file, "JPEG")
    giant = replace(sample(BOXES * 16), image=file.getvalue())
    things = framed(giant, replace(SEEN, megapixels=0.06), None, None).things
    assert things is not None
    assert (things.size, things.window) == ((320, 640), (160, 0, 480, 320))
    np.testing.assert_allclose(things.seen_box_G4[0], [0.3, 0.4, 0.4, 0.4], atol=1e-6)


def test_the_view_is_what_other_tasks_see() -> None:
    from uniperceiver.data.media.transforms import eval_view

    whole = sample()
    assert isinstance(whole.image, np.ndarray)
    view = framed(whole, SEEN, None, None)
    assert np.array_equal(view.image, eval_view(whole.image[None], 16)[0])  # type: ignore[arg-type]


def test_masks_of_small_pictures_are_finer() -> None:
    assert (mask_side(64), mask_side(128), mask_side(640)) == (32, 64, 160)


def test_a_thing_is_as_large_as_its_file_says_or_its_mask_or_its_box() -> None:
    """As pycocotools has it, whose own annotations have the area of the mask."""
    whole = sample()
    assert isinstance(whole.masks, np.ndarray)
    mask_OHW = whole.masks.copy()
    mask_OHW[1, 2:8] = False
    masks: list[np.ndarray | None] = [*mask_OHW[:3], None]
    expected = [float(coco_mask.area(coco_mask.encode(np.asfortranarray(mask_HW)))) for mask_HW in mask_OHW[:3]]
    unsaid = framed(replace(whole, masks=masks), replace(SEEN, fit="squash"), None, None, masks=8).things
    assert unsaid is not None
    assert unsaid.area_O is not None
    assert unsaid.area_O.tolist() == [*expected, 800] == [64, 64, 64, 800]
    said = replace(whole, masks=masks, areas=np.array([1.0, 2, 3, 4]))
    things = framed(said, replace(SEEN, fit="squash"), None, None, masks=8).things
    assert things is not None
    assert things.area_O is not None
    assert things.area_O.tolist() == [1, 2, 3, 4]
