"""SAMPLE -> SAMPLE AS SEEN: a picture and the things in it, through one window.

Shape suffixes: O things of a picture, G things as the model sees them, H W pixels, C colours.
"""

from dataclasses import replace

import numpy as np

from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.decode import stored_size
from uniperceiver.data.media.geometry import PictureWindow, evaluation_window, training_window
from uniperceiver.data.media.pixels import Preprocess
from uniperceiver.errors import BrokenSample
from uniperceiver.records import Sample
from uniperceiver.records.regions import PictureThings

_LEAST_SIDE = 1e-6  # share of the view: a box that is thinner has no side
_SMALL_VIEW = 128  # pixels
_NO_AUGMENTATION = AugmentConfig()


def mask_side(size: int) -> int:
    """Pixels along the side of the masks that training compares with, in a view of that size.

    Small things of small pictures would vanish at a quarter of the side.
    """
    return size // (2 if size <= _SMALL_VIEW else 4)


def framed(
    sample: Sample,
    preprocess: Preprocess,
    augment: AugmentConfig | None,
    rng: np.random.Generator | None,
    *,
    masks: int | None = None,
) -> Sample:
    """The sample with the view of its picture as `image`, (size, size, 3) uint8, and as `things` what is seen there.

    Boxes are clipped to the window. A thing of which less than `augment.keep` is seen is not among them, nor one
    without area; a crowd is, as long as any of it is seen. In evaluation all things are there as well, in the
    picture's pixels. Colours and statistics are left to who reads the view.

    Args:
        augment: augmentation in training; None in evaluation.
        rng: the sample's own stream; None: there is no augmentation.
        masks: pixels along the side of the masks of things; None: masks are not asked for.

    Raises:
        BrokenSample: the picture cannot be decoded, or a mask not be made.
    """
    if sample.image is None:
        raise BrokenSample(sample.id, "has no image")
    if isinstance(sample.image, bytes):
        image_HWC = preprocess.decoded(sample.image, sample.id, augment)
        height, width = stored_size(sample.image, sample.id).upright
    else:
        image_HWC = sample.image
        height, width = image_HWC.shape[:2]
    if augment is None or rng is None:
        window = evaluation_window(height, width, preprocess.fit)
    else:
        window = training_window(height, width, augment, rng, preprocess.fit)
    # A giant or a draft may have been decoded at a half, a quarter or an eighth of its size.
    decoded = window.of_copy(image_HWC.shape[1] / width, image_HWC.shape[0] / height)
    view_HWC = decoded.pixels(image_HWC[None], preprocess.size)[0]
    keep = (augment or _NO_AUGMENTATION).keep
    things = things_seen(sample, window, (height, width), keep=keep, masks=masks, truth=augment is None)
    return replace(sample, image=view_HWC, things=things)


def things_seen(
    sample: Sample, window: PictureWindow, size: tuple[int, int], *, keep: float, masks: int | None, truth: bool
) -> PictureThings:
    """The things of a sample as a window shows them.

    Args:
        size: height and width of the picture.
        keep: least share of a box that must be seen.
        masks: pixels along the side of the masks of things; None: they are not asked for.
        truth: whether all things are wanted as well, in the picture's pixels.
    """
    box_O4 = np.zeros((0, 4)) if sample.boxes is None else np.asarray(sample.boxes, dtype=np.float64).reshape(-1, 4)
    class_O = np.full(len(box_O4), -1, dtype=np.int64) if sample.classes is None else sample.classes
    crowd_O = np.zeros(len(box_O4), dtype=bool) if sample.crowd is None else sample.crowd
    share_O4 = window.boxes(box_O4)
    clipped_O4 = np.clip(share_O4, 0, 1)
    side_O2 = clipped_O4[:, 2:] - clipped_O4[:, :2]
    area_O = (share_O4[:, 2:] - share_O4[:, :2]).prod(axis=1)
    visible_O = side_O2.prod(axis=1) / np.where(area_O > 0, area_O, 1)
    seen_G = np.flatnonzero((side_O2 > _LEAST_SIDE).all(axis=1) & (crowd_O | (visible_O >= keep)))
    centre_G2 = (clipped_O4[seen_G, :2] + clipped_O4[seen_G, 2:]) / 2
    things = PictureThings(
        size=size,
        window=window.edges,
        seen_box_G4=np.concatenate([centre_G2, side_O2[seen_G]], axis=1).astype(np.float32),
        seen_class_G=class_O[seen_G].astype(np.int64),
        seen_crowd_G=crowd_O[seen_G].astype(bool),
    )
    if masks is not None:
        mask_GHW = _masks_seen(sample, window, seen_G, masks)
        things = replace(things, seen_mask_GHW=mask_GHW, seen_has_mask_G=np.asarray(mask_GHW.any(axis=(1, 2))))
    if truth and sample.boxes is not None:
        area_O = thing_areas(sample, box_O4)
        things = replace(things, box_O4=box_O4, class_O=class_O, crowd_O=crowd_O, area_O=area_O, masks=sample.masks)
    return things


def thing_areas(sample: Sample, box_O4: np.ndarray) -> np.ndarray:
    """Square pixels of each thing of a picture, (O,) float64, by which COCO calls it small, medium or large.

    What the file says, or else how many pixels its mask has, or else those of its box (x0 y0 x1 y1).
    """
    if sample.areas is not None:
        return sample.areas
    area_O: np.ndarray = (box_O4[:, 2:] - box_O4[:, :2]).prod(axis=1).astype(np.float64)
    for number in range(0 if sample.masks is None else len(sample.masks)):
        if (mask_HW := sample.masks[number]) is not None:  # type: ignore[index]
            area_O[number] = np.count_nonzero(mask_HW)
    return area_O


def _masks_seen(sample: Sample, window: PictureWindow, seen_G: np.ndarray, side: int) -> np.ndarray:
    """The masks of the things that are seen, (G, side, side) bool; empty where there is none, or none that shows."""
    mask_GHW = np.zeros((len(seen_G), side, side), dtype=bool)
    if sample.masks is not None:
        for mask_HW, index in zip(mask_GHW, seen_G.tolist(), strict=True):
            if (whole_HW := sample.masks[index]) is not None:
                mask_HW[:] = window.mask(whole_HW, side)
    return mask_GHW
