"""ONE WINDOW for pixels, boxes and masks: the part of a picture that the model sees, and the way back.

Boxes are corners (x0, y0, x1, y1): of a picture in its pixels, of a view in shares of its side. The left edge of the
first pixel is 0, the right edge of the last is the width.

Shape suffixes: F frames, H W pixels, C colours, M boxes, S pixels along the side of a square mask.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from uniperceiver.config import AugmentConfig

Fit = Literal["crop", "squash"]
Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels

NARROWEST = 3 / 4  # width / height of a random crop, or height / width
_ASPECT = (NARROWEST, 1 / NARROWEST)
_TRIES = 10
# EXIF orientation -> whether x and y change places, and whether x and y are then counted from the other end.
_TURNS: dict[int, tuple[bool, bool, bool]] = {
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}


@dataclass(frozen=True, kw_only=True)
class PictureWindow:
    """A part of a picture, in its pixels, that becomes a square view; mirrored afterwards where it says so."""

    left: float
    top: float
    right: float
    bottom: float
    flip: bool = False  # left to right
    flip_vertical: bool = False  # top to bottom

    @property
    def edges(self) -> Box:
        """Left, top, right, bottom."""
        return self.left, self.top, self.right, self.bottom

    def of_copy(self, across: float, down: float) -> "PictureWindow":
        """The same window in a copy of the picture that is so many times as wide and as high."""
        return PictureWindow(
            left=self.left * across,
            top=self.top * down,
            right=self.right * across,
            bottom=self.bottom * down,
            flip=self.flip,
            flip_vertical=self.flip_vertical,
        )

    def pixels(self, frames_FHWC: np.ndarray, size: int) -> np.ndarray:
        """The view of all frames, (F, size, size, 3) uint8."""
        frames_FHWC = resized(frames_FHWC, self.edges, size)
        if self.flip:
            frames_FHWC = np.ascontiguousarray(frames_FHWC[:, :, ::-1])
        if self.flip_vertical:
            frames_FHWC = np.ascontiguousarray(frames_FHWC[:, ::-1])
        return frames_FHWC

    def boxes(self, box_M4: np.ndarray) -> np.ndarray:
        """Boxes of the picture as shares of the view, (M, 4) float64; what lies outside is below 0 or above 1."""
        share_M4 = (np.asarray(box_M4, dtype=np.float64) - self._corner()) / self._sides()
        return self._mirrored(share_M4)

    def picture_boxes(self, share_M4: np.ndarray) -> np.ndarray:
        """Boxes of the view, in shares of it, as boxes of the picture in its pixels, (M, 4) float64."""
        share_M4 = self._mirrored(np.asarray(share_M4, dtype=np.float64))
        return share_M4 * self._sides() + self._corner()

    def mask(self, mask_HW: np.ndarray, side: int) -> np.ndarray:
        """A mask of the picture as one of the view, (side, side) bool: where it covers half of a pixel or more.

        What is seen of it and covers half of no pixel is where it covers most, so that no visible thing vanishes.
        """
        grey = Image.fromarray(mask_HW.astype(np.uint8) * 255)
        cover_SS = np.asarray(grey.resize((side, side), Image.Resampling.BOX, box=self.edges))
        seen_SS = cover_SS >= max(1, min(128, int(cover_SS.max())))
        if self.flip:
            seen_SS = seen_SS[:, ::-1]
        return np.ascontiguousarray(seen_SS[::-1] if self.flip_vertical else seen_SS)

    def picture_mask(self, logit_SS: np.ndarray, height: int, width: int) -> np.ndarray:
        """A mask that was found in the view, as logits, in the picture, (height, width) bool.

        Logits are interpolated bilinearly at the centre of each pixel; outside the window nothing is set.
        """
        if self.flip:
            logit_SS = logit_SS[:, ::-1]
        if self.flip_vertical:
            logit_SS = logit_SS[::-1]
        mask_HW = np.zeros((height, width), dtype=bool)
        rows, columns = _centres_inside(self.top, self.bottom, height), _centres_inside(self.left, self.right, width)
        if rows.size and columns.size:
            side_y, side_x = logit_SS.shape
            first_y, next_y, part_y = _neighbours((rows + 0.5 - self.top) / (self.bottom - self.top), side_y)
            first_x, next_x, part_x = _neighbours((columns + 0.5 - self.left) / (self.right - self.left), side_x)
            lines = logit_SS[first_y] * (1 - part_y)[:, None] + logit_SS[next_y] * part_y[:, None]
            inside = lines[:, first_x] * (1 - part_x) + lines[:, next_x] * part_x
            mask_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = inside > 0
        return mask_HW

    def _corner(self) -> np.ndarray:
        return np.array([self.left, self.top, self.left, self.top])

    def _sides(self) -> np.ndarray:
        width, height = self.right - self.left, self.bottom - self.top
        return np.array([width, height, width, height])

    def _mirrored(self, share_M4: np.ndarray) -> np.ndarray:
        """The boxes with the flips, which undo themselves."""
        x0, y0, x1, y1 = share_M4.reshape(-1, 4).T
        if self.flip:
            x0, x1 = 1 - x1, 1 - x0
        if self.flip_vertical:
            y0, y1 = 1 - y1, 1 - y0
        return np.stack([x0, y0, x1, y1], axis=1)


def training_window(
    height: int, width: int, augment: AugmentConfig, rng: np.random.Generator, fit: Fit = "crop"
) -> PictureWindow:
    """What training sees of a picture of that size: a random part and random flips, or the same as evaluation."""
    if augment.crop < 1:
        part = random_part if fit == "crop" else random_share
        edges = part(height, width, augment.crop, rng)
    else:
        edges = fixed_part(height, width, fit)
    left, top, right, bottom = edges
    flip = bool(rng.random() < augment.flip)
    # Drawn only where it is asked for: without it, random numbers are those of the runs before there was this key.
    flip_vertical = augment.flip_vertical > 0 and bool(rng.random() < augment.flip_vertical)
    return PictureWindow(left=left, top=top, right=right, bottom=bottom, flip=flip, flip_vertical=flip_vertical)


def evaluation_window(height: int, width: int, fit: Fit = "crop") -> PictureWindow:
    """What evaluation sees of a picture of that size."""
    left, top, right, bottom = fixed_part(height, width, fit)
    return PictureWindow(left=left, top=top, right=right, bottom=bottom)


def fixed_part(height: int, width: int, fit: Fit) -> Box:
    """The central square, or the whole picture where it is squashed into one."""
    if fit == "squash":
        return 0.0, 0.0, float(width), float(height)
    side = min(height, width)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_part(height: int, width: int, min_area: float, rng: np.random.Generator) -> Box:
    """A random part of `min_area` to all of the area, nearly square."""
    for _ in range(_TRIES):
        area = height * width * rng.uniform(min_area, 1.0)
        aspect = np.exp(rng.uniform(*np.log(_ASPECT)))
        part_width, part_height = round(np.sqrt(area * aspect)), round(np.sqrt(area / aspect))
        if 0 < part_width <= width and 0 < part_height <= height:
            left, top = (int(rng.integers(room + 1)) for room in (width - part_width, height - part_height))
            return left, top, left + part_width, top + part_height
    # No such part exists in a long and thin picture: the largest central one whose aspect is allowed.
    part_width = min(width, max(1, round(height * _ASPECT[1])))
    part_height = min(height, max(1, round(width / _ASPECT[0])))
    left, top = (width - part_width) // 2, (height - part_height) // 2
    return left, top, left + part_width, top + part_height


def random_share(height: int, width: int, min_area: float, rng: np.random.Generator) -> Box:
    """A random part of `min_area` to all of the area, nearly of the picture's own aspect: what a squashed view sees.

    Things are then stretched in training as in evaluation, give or take a third.
    """
    for _ in range(_TRIES):
        area = rng.uniform(min_area, 1.0)
        aspect = np.exp(rng.uniform(*np.log(_ASPECT)))
        part_width, part_height = round(width * np.sqrt(area * aspect)), round(height * np.sqrt(area / aspect))
        if 0 < part_width <= width and 0 < part_height <= height:
            left, top = (int(rng.integers(room + 1)) for room in (width - part_width, height - part_height))
            return left, top, left + part_width, top + part_height
    return fixed_part(height, width, "squash")


def resized(frames_FHWC: np.ndarray, edges: Box, size: int) -> np.ndarray:
    """The part inside the edges, resized with antialiased bicubic interpolation, (F, size, size, 3) uint8."""
    height, width = frames_FHWC.shape[1:3]
    whole: Box = (0.0, 0.0, float(size), float(size))
    if height == width == size and edges == whole:
        return frames_FHWC
    return np.stack(
        [
            np.asarray(Image.fromarray(frame_HWC).resize((size, size), Image.Resampling.BICUBIC, box=edges))
            for frame_HWC in frames_FHWC
        ]
    )


def upright_boxes(box_M4: np.ndarray, orientation: int, height: int, width: int) -> np.ndarray:
    """Boxes of a picture as it is stored, in the picture as EXIF says that it is to be shown, (M, 4).

    Args:
        height: of the stored picture, as `width`.
    """
    if orientation not in _TURNS:
        return box_M4
    transposed, from_right, from_bottom = _TURNS[orientation]
    x0, y0, x1, y1 = np.asarray(box_M4).reshape(-1, 4).T
    if transposed:
        x0, y0, x1, y1, height, width = y0, x0, y1, x1, width, height
    if from_right:
        x0, x1 = width - x1, width - x0
    if from_bottom:
        y0, y1 = height - y1, height - y0
    return np.stack([x0, y0, x1, y1], axis=1)


def upright_mask(mask_HW: np.ndarray, orientation: int) -> np.ndarray:
    """A mask of a picture as it is stored, in the picture as EXIF says that it is to be shown."""
    if orientation not in _TURNS:
        return mask_HW
    transposed, from_right, from_bottom = _TURNS[orientation]
    mask_HW = mask_HW.T if transposed else mask_HW
    mask_HW = mask_HW[:, ::-1] if from_right else mask_HW
    return np.ascontiguousarray(mask_HW[::-1] if from_bottom else mask_HW)


def _centres_inside(first: float, last: float, pixels: int) -> np.ndarray:
    """The pixels of a line whose centres lie between two edges."""
    centres = np.arange(pixels)
    return centres[(centres + 0.5 >= first) & (centres + 0.5 < last)]


def _neighbours(share: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The two pixels of a line around each place (shares of its length), and how near the second is, 0 to 1."""
    place = np.clip(share * side - 0.5, 0, side - 1)
    before = np.floor(place).astype(np.int64)
    return before, np.minimum(before + 1, side - 1), (place - before).astype(np.float32)
