"""The records of regions: the things in a picture as data, as a batch, as proposals, and as an answer.

Shape suffixes beside those of `records`: O things of a picture, Q queries, G things as the model sees them.
A *thing* is one marked object; a *crowd* is a region of several that nobody told apart.
"""

from __future__ import annotations  # torch is named by annotations only, and who reads no tensors goes without it

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

ClassTerm = Literal["softmax", "sigmoid", "background"]
"""How the name of a proposal is learnt: tasks/localisation/classes.py."""
ObjectnessTerm = Literal["focal", "iou"]
"""What is learnt of a proposal beside its name: whether it is a thing, or how far it overlaps that."""


MOST = 100  # detections of a picture, as COCO counts
BACKGROUND = "background"  # the text of what is none of the names, where that is a candidate
LEAST = 0.3  # score from which on people are shown a detection


class Masks(Protocol):
    """Masks of the things of a picture, (H, W) bool each, made when asked for; an array (O, H, W) is one, too."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> np.ndarray | None:
        """The mask of a thing; None: this thing has none."""


@dataclass(frozen=True, kw_only=True)
class PictureThings:
    """The things of one picture: in the pixels of the upright picture, and as the model sees them."""

    size: tuple[int, int]  # height and width of the picture, upright
    window: tuple[float, float, float, float]  # left, top, right, bottom in its pixels: the part that the model sees
    # As the model sees them, after crop and flips; what too little is left of is not among them.
    seen_box_G4: np.ndarray  # float32, cx cy w h as shares of what is seen
    seen_class_G: np.ndarray  # int64, -1: unknown
    seen_crowd_G: np.ndarray  # bool
    seen_mask_GHW: np.ndarray | None = (
        None  # bool, of what is seen, at a side of its own; None: masks are not asked for
    )
    seen_has_mask_G: np.ndarray | None = None  # bool, with seen_mask_GHW
    # All of them, in the picture's pixels; only in evaluation.
    box_O4: np.ndarray | None = None  # float64, x0 y0 x1 y1
    class_O: np.ndarray | None = None  # int64
    crowd_O: np.ndarray | None = None  # bool
    area_O: np.ndarray | None = None  # float64, square pixels: what the file says, which COCO counts as small or large
    masks: Masks | None = None


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The things in the pictures of a batch, padded to the most of a picture: what proposals are compared with."""

    box_BG4: Tensor  # float32, cx cy w h as shares of what the model sees
    class_BG: Tensor  # int64; -1: unknown
    known_BG: Tensor  # bool; False: padding
    crowd_BG: Tensor  # bool
    mask_BGHW: Tensor | None = None  # bool; all False: this thing has none
    has_mask_BG: Tensor | None = None  # bool, with mask_BGHW
    pictures: tuple[PictureThings, ...] = ()  # B of them; none in training

    @property
    def single_BG(self) -> Tensor:
        """Which are single things that can be found: neither padding nor crowds."""
        return self.known_BG & ~self.crowd_BG


@dataclass(frozen=True, kw_only=True)
class ProposalLayer:
    """What one layer of the proposal network says of every query."""

    objectness_BQ: Tensor  # float32, logit of being a thing
    box_BQ4: Tensor  # float32, cx cy w h as shares of what the model sees, 0 to 1
    mask_BQHW: Tensor | None = None  # float32, logits


@dataclass(frozen=True, kw_only=True)
class Denoised:
    """What the decoder makes of boxes of things that were moved on purpose; M: such queries. In training only."""

    layers: tuple[ProposalLayer, ...]  # each layer of the decoder, of M queries
    thing_BM: Tensor  # int64, which of the picture's things they shall find; -1: none
    real_BM: Tensor  # bool; False: padding
    groups: int  # how often every thing is there


@dataclass(frozen=True, kw_only=True)
class Regions:
    """What the proposal network found in the pictures of a batch."""

    layers: tuple[ProposalLayer, ...]  # the first choice, over all cells of the maps, then each layer of the decoder
    chosen_BN: Tensor  # int64, the queries of the last layer that are tokens, by falling objectness
    start: int  # where the first of these tokens stands in the sequence
    name_bias: Tensor | None = None  # (), added to the logit of every name where each is a yes or no of its own
    denoised: Denoised | None = None


@dataclass(frozen=True, kw_only=True)
class Detections:
    """The things that a model found in a picture, best first; D: detections.

    Boxes are in pixels of the upright picture: what EXIF says of its rotation has been followed.
    """

    size: tuple[int, int]  # height and width of the picture
    boxes: np.ndarray  # (D, 4) float32, x0 y0 x1 y1 in pixels
    scores: np.ndarray  # (D,) float32, probability of being a thing times that of its label
    classes: np.ndarray  # (D,) int64, index into `names`
    names: Sequence[str]  # of all labels that were asked for
    masks: np.ndarray | None = None  # (D, H, W) bool, in pixels of the picture; None: masks were not asked for

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def labels(self) -> list[str]:
        """The name of each detection's label."""
        return [self.names[index] for index in self.classes.tolist()]

    def as_coco(self, image_id: int | str, categories: Mapping[str, int | str] | None = None) -> list[dict[str, Any]]:
        """Entries of a COCO results file: boxes as x, y, width, height, masks as compressed RLE.

        Args:
            categories: the category id of each label; None: 1, 2, ... in the order of `names`.

        Raises:
            KeyError: a label has no category.
            ModuleNotFoundError: there are masks, and pycocotools is missing.
        """
        numbered: Mapping[str, int | str] = {name: number for number, name in enumerate(self.names, start=1)}
        ids = numbered if categories is None else categories
        entries: list[dict[str, Any]] = []
        for number, (box_4, score, label) in enumerate(zip(self.boxes, self.scores, self.labels, strict=True)):
            x0, y0, x1, y1 = (float(side) for side in box_4)
            entry: dict[str, Any] = {
                "image_id": plain_id(image_id),
                "category_id": plain_id(ids[label]),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "score": float(score),
            }
            if self.masks is not None:
                entry["segmentation"] = run_lengths(self.masks[number])
            entries.append(entry)
        return entries

    def as_entries(self) -> list[dict[str, object]]:
        """Plain values: label, score, the box in both conventions, and the mask as COCO's RLE."""
        entries: list[dict[str, object]] = []
        for entry, label in zip(self.as_coco(0), self.labels, strict=True):
            x, y, width, height = entry["bbox"]
            box = {"box": [x, y, x + width, y + height], "bbox": entry["bbox"]}
            mask = {key: entry[key] for key in ("segmentation",) if key in entry}
            entries.append({"label": label, "score": entry["score"], **box, **mask})
        return entries


def in_picture(share_M4: np.ndarray, picture: PictureThings) -> np.ndarray:
    """Corners as shares of what the model saw, in pixels of the picture and clipped to it, (M, 4) float32."""
    left, top, right, bottom = picture.window
    height, width = picture.size
    scale_4 = np.array([right - left, bottom - top] * 2)
    box_M4 = share_M4.astype(np.float64) * scale_4 + np.array([left, top] * 2)
    return np.clip(box_M4, 0, np.array([width, height] * 2)).astype(np.float32)


def plain_id(value: Any) -> Any:
    """An id as JSON takes it: NumPy's numbers, as tables of pandas hold them, are those of Python."""
    return value.item() if isinstance(value, np.generic) else value


def run_lengths(mask_HW: np.ndarray) -> dict[str, Any]:
    """A mask as COCO's compressed run-length encoding: {"size": [height, width], "counts": text}.

    Raises:
        ModuleNotFoundError: pycocotools is missing (`pip install uniperceiver[detection]`).
    """
    from pycocotools import mask as coco_mask  # an extra: only who has masks needs it

    encoded = coco_mask.encode(np.asfortranarray(mask_HW.astype(np.uint8)))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
