"""OUTLINES -> MASKS: polygons and run-length encodings, kept as bytes and drawn when a mask is asked for.

Shape suffixes: M things, H W pixels, X runs.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from uniperceiver.data.media.geometry import upright_mask
from uniperceiver.errors import UserError

NO_OUTLINE = b""
# How an outline begins: what its numbers are.
_HUNDREDTHS, _FLOATS, _RUNS = b"H", b"F", b"R"  # of polygons: hundredths of pixels, as COCO writes them, or any
_CORNERS = 3  # of a polygon that has an area, at least
_MOST_PIXELS = 10_000_000  # whose hundredths fit into 32 bits
_MOST_CHARACTERS = 8  # of a number behind its first
_SAME_SHAPE = 0.02  # by which the sides of two pictures of one shape may differ in their ratio


@dataclass(frozen=True, kw_only=True)
class Outline:
    """An outline that was read, and what is odd about it."""

    data: bytes  # NO_OUTLINE: there is none
    fault: str | None = None  # why its picture cannot be used
    scaled: bool = False  # it is of a larger or smaller copy of the picture
    cut: bool = False  # polygons of it have no area and are left out


def outline_of(value: Any, size: tuple[int, int] | None) -> Outline:
    """What COCO has under `segmentation`: polygons, or {size, counts} with counts as a list or as text.

    Args:
        size: height and width of the picture; None: not known.
    """
    if isinstance(value, dict):
        return _runs_of(value, size)
    if value is None or (isinstance(value, list) and not value):
        return Outline(data=NO_OUTLINE)
    if not isinstance(value, list):
        return Outline(
            data=NO_OUTLINE, fault=f"a segmentation that is neither polygons nor RLE ({type(value).__name__})"
        )
    rings = value if isinstance(value[0], list) else [value]  # some write a single polygon without the outer list
    try:
        drawn = [np.asarray(ring, dtype=np.float64).reshape(-1) for ring in rings]
    except (TypeError, ValueError):
        return Outline(data=NO_OUTLINE, fault="a polygon with a coordinate that is no number")
    if not all(np.isfinite(ring).all() for ring in drawn):
        return Outline(data=NO_OUTLINE, fault="a polygon with a coordinate that is not finite")
    if any(len(ring) % 2 for ring in drawn):
        return Outline(data=NO_OUTLINE, fault="a polygon with an odd number of coordinates")
    cut = any(0 < len(ring) < 2 * _CORNERS for ring in drawn)
    return Outline(data=polygons(ring for ring in drawn if len(ring) >= 2 * _CORNERS), cut=cut)


def polygons(rings: Iterable[np.ndarray]) -> bytes:
    """Polygons, each x y x y ... in pixels, as bytes, exactly; without any there is no outline."""
    kept = [np.asarray(ring, dtype="<f8") for ring in rings]
    if not kept:
        return NO_OUTLINE
    lengths, numbers = np.array([len(kept), *map(len, kept)], dtype="<i4"), np.concatenate(kept)
    hundredths = np.round(np.clip(numbers, -_MOST_PIXELS, _MOST_PIXELS) * 100).astype("<i4")
    if (hundredths / 100 == numbers).all():
        return _HUNDREDTHS + lengths.tobytes() + hundredths.tobytes()
    return _FLOATS + lengths.tobytes() + numbers.tobytes()


def run_bytes(counts_X: Sequence[int] | np.ndarray, height: int, width: int) -> bytes:
    """Runs of 0 and 1 in turn, beginning with 0, down the columns of a picture, as bytes."""
    return _RUNS + np.array([height, width, *counts_X], dtype="<i4").tobytes()


def runs_of_mask(mask_HW: np.ndarray) -> np.ndarray:
    """The lengths of the runs of 0 and 1 in turn, beginning with 0, down the columns of a mask, (X,) int64."""
    flat = np.asarray(mask_HW, dtype=bool).flatten(order="F")
    ends = np.flatnonzero(np.diff(flat)) + 1
    lengths_X = np.diff(np.concatenate([[0], ends, [len(flat)]]))
    return np.concatenate([[0], lengths_X]) if len(flat) and flat[0] else lengths_X


def counts_of_text(text: str) -> np.ndarray:
    """The runs in COCO's compressed text, (X,) int64: 5 bits a character, from the fourth run on the difference to the
    last but one.

    Raises:
        ValueError: it is no such text.
    """
    bits = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    if not bits.size or (bits < 0).any() or (bits > 63).any() or bits[-1] & 32:
        raise ValueError("counts that are no compressed RLE")
    last = np.flatnonzero(~bits & 32)  # the character that ends each number, and holds its sign
    first = np.concatenate([[0], last[:-1] + 1])
    place = np.arange(len(bits)) - np.repeat(first, last - first + 1)
    if place.max() > _MOST_CHARACTERS:
        raise ValueError("counts that are no compressed RLE")
    counts_X = np.add.reduceat((bits & 31) << 5 * place, first)
    counts_X -= np.where(bits[last] & 16, 1 << 5 * (place[last] + 1), 0)
    counts_X[1::2] = np.cumsum(counts_X[1::2])
    counts_X[2::2] = np.cumsum(counts_X[2::2])
    return counts_X


@dataclass(frozen=True, kw_only=True)
class OutlinedMasks:
    """The masks of the things of a picture, each drawn when it is asked for."""

    outlines: tuple[bytes, ...]  # M of them
    size: tuple[int, int]  # height and width of the masks, before they are turned
    drawn: tuple[int, int]  # of the picture that the outlines are in, as shares 1 x 1
    orientation: int = 1  # of EXIF: how that picture is turned to stand upright

    def __len__(self) -> int:
        return len(self.outlines)

    def __getitem__(self, index: int) -> np.ndarray | None:
        """The mask of a thing, (H, W) bool, in the upright picture; None: it has no outline.

        Raises:
            UserError: the package that draws polygons is missing.
        """
        data = self.outlines[index]
        if data == NO_OUTLINE:
            return None
        if data[:1] == _RUNS:
            height, width, *counts = np.frombuffer(data, dtype="<i4", offset=1).tolist()
            mask_HW = filled(np.array(counts), height, width)
        else:
            mask_HW = _drawn(data, self.size, self.drawn)
        return upright_mask(_resampled(mask_HW, *self.size), self.orientation)


def _runs_of(value: Mapping[str, Any], size: tuple[int, int] | None) -> Outline:
    try:
        height, width = (int(side) for side in value["size"])
        counts = value["counts"]
        counts_X = counts_of_text(counts) if isinstance(counts, str) else np.array([int(count) for count in counts])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        return Outline(data=NO_OUTLINE, fault=f"an RLE that cannot be read ({error})")
    if (total := int(counts_X.sum())) != height * width or (counts_X < 0).any() or min(height, width) < 1:
        fault = f"an RLE whose counts add up to {total}, not to {height} x {width} pixels"
        return Outline(data=NO_OUTLINE, fault=fault)
    if size is None or (height, width) == size:
        return Outline(data=run_bytes(counts_X, height, width))
    if abs(math.log(height * size[1] / (width * size[0]))) > _SAME_SHAPE:
        fault = f"an RLE of {width} x {height} pixels in a picture of {size[1]} x {size[0]}"
        return Outline(data=NO_OUTLINE, fault=fault)
    return Outline(data=run_bytes(counts_X, height, width), scaled=True)


def filled(counts_X: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask of runs of 0 and 1 in turn down the columns, (H, W) bool."""
    return np.repeat(np.arange(len(counts_X)) % 2 == 1, counts_X).reshape((height, width), order="F")


def _resampled(mask_HW: np.ndarray, height: int, width: int) -> np.ndarray:
    """The mask in another size, each pixel that of its centre."""
    if mask_HW.shape == (height, width):
        return mask_HW
    rows = ((np.arange(height) + 0.5) * mask_HW.shape[0] / height).astype(np.int64)
    columns = ((np.arange(width) + 0.5) * mask_HW.shape[1] / width).astype(np.int64)
    return mask_HW[rows][:, columns]


def _drawn(data: bytes, size: tuple[int, int], drawn: tuple[int, int]) -> np.ndarray:
    """Polygons filled, in a picture of that size; `drawn` is that of the picture that they are in."""
    coco_mask = polygon_drawer()
    rings = int(np.frombuffer(data, dtype="<i4", count=1, offset=1)[0])
    lengths = np.frombuffer(data, dtype="<i4", count=rings, offset=5)
    exact, start = data[:1] == _HUNDREDTHS, 5 + 4 * rings
    numbers = np.frombuffer(data, dtype="<i4" if exact else "<f8", offset=start) / (100 if exact else 1)
    numbers = (numbers.reshape(-1, 2) * [size[1] / drawn[1], size[0] / drawn[0]]).reshape(-1)
    parts = [ring.tolist() for ring in np.split(numbers, np.cumsum(lengths)[:-1])]
    encoded = coco_mask.merge(coco_mask.frPyObjects(parts, *size))
    return filled(counts_of_text(encoded["counts"].decode("ascii")), *size)


def polygon_drawer() -> Any:
    """The module that fills polygons as COCO's own evaluation does.

    Raises:
        UserError: it is missing.
    """
    try:
        from pycocotools import mask  # an extra: only who has polygons needs it
    except ModuleNotFoundError:
        raise UserError(
            "masks are drawn from polygons by pycocotools, which is missing; pip install 'uniperceiver[detection]'"
        ) from None
    return mask
