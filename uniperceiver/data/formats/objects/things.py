"""THINGS OF MANY PICTURES in arrays: boxes, classes, crowds and outlines, checked and counted as they are taken in.

Shape suffixes: I pictures, M things of all pictures, O things of one picture.
"""

from array import array
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from uniperceiver.data.formats.objects.outlines import NO_OUTLINE, OutlinedMasks
from uniperceiver.data.media.decode import StoredSize, stored_size
from uniperceiver.data.media.geometry import upright_boxes
from uniperceiver.errors import BrokenSample, UserError, listed
from uniperceiver.records import Sample

BoxForm = Literal["xywh", "xyxy", "cxcywh"]

_SLACK = 0.5  # pixels that a box may stick out, as rounded ones do, before it is said
_SLACK_SHARES = 0.002  # the same of boxes that are shares
_SHARES = 1.5  # no box in pixels has all its numbers below this
_SAME_SHAPE = 0.02  # by which the sides of two pictures of one shape may differ in their ratio
_SHOWN = 5  # things that a line names
# What boxes are in words, and what those probably are that do not fit.
_FORMS: dict[BoxForm, tuple[str, str]] = {
    "xywh": ("x, y, width and height", "x0 y0 x1 y1"),
    "xyxy": ("x0, y0, x1 and y1", "x, y, width and height"),
    "cxcywh": ("centre, width and height", "x0 y0 x1 y1, or x, y, width and height"),
}


@dataclass(frozen=True, kw_only=True)
class Things:
    """The things of all pictures, those of each picture one after the other."""

    stop_I: np.ndarray  # int64, end of each picture's things
    size_I2: np.ndarray  # int32, height and width of the picture that its boxes are in; 0: not said
    box_M4: np.ndarray  # float64, x0 y0 x1 y1 in its pixels
    class_M: np.ndarray  # int32
    crowd_M: np.ndarray  # bool
    area_M: np.ndarray | None  # float64, what the file says; NaN where it does not
    outlines: bytes  # of all things
    outline_edges: np.ndarray  # (M + 1,) int64, where each thing's outline begins, and where the last ends
    refused: dict[int, str]  # pictures that must not be used, and why
    rescale: bool = False  # boxes are those of a larger or smaller copy of the picture
    shares: bool = False  # boxes and outlines are in shares of the upright picture's sides

    def __len__(self) -> int:
        return len(self.class_M)

    @property
    def has_masks(self) -> bool:
        """Whether any thing has an outline."""
        return len(self.outlines) > 0

    def span(self, index: int) -> slice:
        """The things of a picture."""
        return slice(int(self.stop_I[index - 1]) if index else 0, int(self.stop_I[index]))

    def classes_of(self, index_I: np.ndarray) -> frozenset[int]:
        """The classes that things of these pictures have."""
        return frozenset(label for index in index_I.tolist() for label in self.class_M[self.span(index)].tolist())

    def counts_of(self, index_I: np.ndarray) -> np.ndarray:
        """How many single things each of these pictures has, (I,) int64; crowds are none."""
        single_M1 = np.concatenate([[0], np.cumsum(~self.crowd_M)])
        start_I = np.concatenate([[0], self.stop_I[:-1]])
        counts_I: np.ndarray = (single_M1[self.stop_I] - single_M1[start_I])[index_I]
        return counts_I

    def added(self, index: int, sample: Sample) -> Sample:
        """The sample of a picture with the things in it, in the pixels of the upright picture.

        The declared size decides how the boxes lie: where it is that of the picture as it is stored, and EXIF says
        that it is to be turned on its side, they are turned with it.

        Raises:
            BrokenSample: the picture has another size than its boxes are for, or something in it was refused.
        """
        if index in self.refused:
            raise BrokenSample(sample.id, self.refused[index])
        assert isinstance(sample.image, bytes)
        stored, span = stored_size(sample.image, sample.id), self.span(index)
        height, width, orientation = self._declared(index, stored, sample.id)
        down, across = 1.0, 1.0
        size = (height, width)
        if orientation == 1 and size != stored.upright:
            size, down, across = stored.upright, stored.upright[0] / height, stored.upright[1] / width
        box_O4 = upright_boxes(self.box_M4[span], orientation, height, width) * [across, down, across, down]
        # Where the file does not say how large the picture is, this is the first look at it.
        box_O4 = np.clip(box_O4, 0, [stored.upright[1], stored.upright[0]] * 2)
        kept_O = (box_O4[:, 2:] > box_O4[:, :2]).all(axis=1)
        area_O, masks = None, None
        if self.area_M is not None:
            own_O = (box_O4[:, 2:] - box_O4[:, :2]).prod(axis=1)
            area_O = np.where(np.isnan(self.area_M[span]), own_O, self.area_M[span] * across * down)[kept_O]
        if self.has_masks:
            edges = self.outline_edges[span.start : span.stop + 1]
            spans = zip(edges[:-1][kept_O].tolist(), edges[1:][kept_O].tolist(), strict=True)
            outlines = tuple(self.outlines[start:stop] for start, stop in spans)
            masks = OutlinedMasks(outlines=outlines, size=size, drawn=(height, width), orientation=orientation)
        classes, crowd = self.class_M[span][kept_O].astype(np.int64), self.crowd_M[span][kept_O]
        return replace(sample, boxes=box_O4[kept_O], classes=classes, crowd=crowd, areas=area_O, masks=masks)

    def _declared(self, index: int, stored: StoredSize, name: str) -> tuple[int, int, int]:
        """Height and width of the picture that the boxes are in, and how that is to be turned (EXIF) to stand upright.

        Raises:
            BrokenSample: it is another picture.
        """
        height, width = (int(side) for side in self.size_I2[index])
        if self.shares or (height, width) == stored.upright:
            return height, width, 1
        if not height:
            return *stored.upright, 1
        if (height, width) == (stored.height, stored.width):
            return height, width, stored.orientation
        if self.rescale and same_shape((height, width), stored.upright):
            return height, width, 1
        raise BrokenSample(name, other_size((height, width), stored, rescale=self.rescale))


def same_shape(first: tuple[int, int], second: tuple[int, int]) -> bool:
    """Whether two sizes (height, width) have the same ratio, but for rounding."""
    return abs(np.log(first[0] * second[1] / (first[1] * second[0]))) < _SAME_SHAPE


def other_size(declared: tuple[int, int], stored: StoredSize, *, rescale: bool) -> str:
    """What to say of a picture of another size than its boxes are for."""
    height, width = stored.upright
    text = f"its boxes are for {declared[1]} x {declared[0]} pixels, the picture has {width} x {height}"
    mend = not rescale and same_shape(declared, (height, width))
    return f"{text}; if it is a smaller or larger copy, set rescale: true" if mend else text


@dataclass
class ThingList:
    """Things as a file names them, in any order; `things` sorts and checks them.

    Names are what the file calls a thing, for messages: "annotation 812".
    """

    noun: str  # what a thing is called: "annotation"
    picture_M: "array[int]" = field(default_factory=lambda: array("q"))
    box_4M: "array[float]" = field(default_factory=lambda: array("d"))
    class_M: "array[int]" = field(default_factory=lambda: array("i"))
    crowd_M: bytearray = field(default_factory=bytearray)
    area_M: "array[float]" = field(default_factory=lambda: array("d"))
    outlines: list[bytes] = field(default_factory=list)
    names: list[object] = field(default_factory=list)
    refused: dict[int, str] = field(default_factory=dict)
    left_out: defaultdict[str, list[object]] = field(default_factory=lambda: defaultdict(list))  # names by reason

    def add(
        self,
        picture: int,
        corners: Sequence[float],
        label: int,
        name: object,
        *,
        crowd: bool = False,
        area: float = float("nan"),
        outline: bytes = NO_OUTLINE,
    ) -> None:
        """Take in a thing: its picture, its box (x0 y0 x1 y1), its class, and what the file calls it."""
        self.picture_M.append(picture)
        self.box_4M.extend(corners)
        self.class_M.append(label)
        self.crowd_M.append(crowd)
        self.area_M.append(area)
        self.outlines.append(outline)
        self.names.append(name)

    def refuse(self, picture: int, name: object, fault: str) -> None:
        """A picture that cannot be used for what is wrong with a thing."""
        self.refused.setdefault(picture, f"{self.noun} {name}: {fault}")

    def relabel(self, labels: Mapping[int, int]) -> None:
        """Give every class another number."""
        self.class_M = array("i", (labels[label] for label in self.class_M))

    def things(
        self,
        sizes: Sequence[tuple[int, int]],
        place: str,
        where: str,
        *,
        form: BoxForm = "xywh",
        rescale: bool = False,
        shares: bool = False,
        checked: bool = True,
    ) -> tuple[Things, tuple[str, ...]]:
        """All things, and lines about those that were clipped or left out.

        Args:
            sizes: height and width of every picture; 0 where they are not said.
            place: the file, for messages that begin with `where`.
            form: how the file writes a box.
            rescale: the pictures may be larger or smaller copies of those that the boxes are for.
            shares: the boxes are shares of the sides of their pictures.
            checked: refuse boxes that, all together, look like those of another form.

        Raises:
            UserError: the boxes are of another kind than those of such a file.
        """
        order_M = np.argsort(np.array(self.picture_M, dtype=np.int64), kind="stable")
        picture_M = np.array(self.picture_M, dtype=np.int64)[order_M]
        box_M4 = np.array(self.box_4M).reshape(-1, 4)[order_M]
        size_I2 = np.ones((len(sizes), 2), dtype=np.int32) if shares else np.array(sizes, dtype=np.int32).reshape(-1, 2)
        height_M, width_M = size_I2[picture_M].T.astype(np.float64)
        limit_M4 = np.stack([width_M, height_M, width_M, height_M], axis=1)
        limit_M4[height_M == 0] = np.inf
        if checked and not shares:
            self._refuse_other_kinds(box_M4, limit_M4, order_M, f"{where}: {place}", form)
        clipped_M4 = np.clip(box_M4, 0, limit_M4)
        kept_M = self._kept(picture_M, box_M4, clipped_M4, order_M, _SLACK_SHARES if shares else _SLACK)
        chosen_M = order_M[kept_M]
        outlines = [self.outlines[index] for index in chosen_M.tolist()]
        area_M = np.array(self.area_M)[chosen_M]
        counts = np.bincount(picture_M[kept_M], minlength=len(sizes)) if len(sizes) else np.zeros(0, dtype=np.int64)
        things = Things(
            stop_I=np.cumsum(counts, dtype=np.int64),
            size_I2=size_I2,
            box_M4=clipped_M4[kept_M],
            class_M=np.array(self.class_M, dtype=np.int32)[chosen_M],
            crowd_M=np.frombuffer(bytes(self.crowd_M), dtype=np.uint8)[chosen_M] > 0,
            area_M=None if np.isnan(area_M).all() else area_M,
            outlines=b"".join(outlines),
            outline_edges=np.cumsum([0, *map(len, outlines)], dtype=np.int64),
            refused=dict(self.refused),
            rescale=rescale,
            shares=shares,
        )
        return things, self.notes(place)

    def _kept(
        self, picture_M: np.ndarray, box_M4: np.ndarray, clipped_M4: np.ndarray, order_M: np.ndarray, slack: float
    ) -> np.ndarray:
        """Which boxes have something of their picture inside; all that is odd about boxes is noted."""
        empty_M = (box_M4[:, 2:] <= box_M4[:, :2]).any(axis=1)
        outside_M = ~empty_M & (clipped_M4[:, 2:] <= clipped_M4[:, :2]).any(axis=1)
        kept_M = np.asarray(~empty_M & ~outside_M)
        beyond_M = (np.abs(clipped_M4 - box_M4) > slack).any(axis=1)  # none where no size is known
        label_M = np.array(self.class_M, dtype=np.float64)[order_M]
        rows = np.concatenate([picture_M[:, None], box_M4, label_M[:, None]], axis=1)
        _, first = np.unique(np.ascontiguousarray(rows), axis=0, return_index=True)
        repeated_M = kept_M.copy()
        repeated_M[first] = False
        for reason, flag_M in (
            ("boxes without width or height are left out", empty_M),
            ("boxes outside their picture are left out", outside_M),
            ("boxes reach out of their picture and are clipped", kept_M & beyond_M),
            ("boxes stand there twice, with the same class", repeated_M),
        ):
            self.left_out[reason] += [self.names[index] for index in order_M[flag_M].tolist()]
        return kept_M

    def notes(self, place: str) -> tuple[str, ...]:
        """A line for each reason for which things were clipped, changed or left out, with the first of them."""
        return tuple(
            f"{place}: {len(names):,} {reason} ({self.noun} {listed(names, _SHOWN)})"
            for reason, names in self.left_out.items()
            if names
        )

    def _refuse_other_kinds(
        self, box_M4: np.ndarray, limit_M4: np.ndarray, order_M: np.ndarray, place: str, form: BoxForm
    ) -> None:
        """Refuse boxes that are shares, or of another form than they should be.

        Raises:
            UserError: they are.
        """
        if not len(box_M4):
            return
        if (np.abs(box_M4) <= _SHARES).all():
            raise UserError(
                f"{place}: no box has a number above {_SHARES}: are these shares of the picture? Give boxes in pixels, "
                "or say so: format yolo, or box_shares: true in a table"
            )
        over_M = np.asarray((box_M4[:, 2:] > limit_M4[:, 2:] + 1).any(axis=1))
        outside_M = (box_M4[:, :2] >= limit_M4[:, 2:]).any(axis=1) | (box_M4[:, 2:] <= 0).any(axis=1)
        turned_M = np.asarray((box_M4[:, 2:] < box_M4[:, :2]).any(axis=1))
        wrong_M = next((flag_M for flag_M in (over_M, turned_M, outside_M) if 2 * flag_M.sum() > len(box_M4)), None)
        if wrong_M is None or (wrong_M is outside_M and not outside_M.all()):
            return
        here, probably = _FORMS[form]
        reach = "end before they begin" if wrong_M is turned_M else "reach out of their picture"
        raise UserError(
            f"{place}: {int(wrong_M.sum()):,} of {len(box_M4):,} boxes {reach}, such as {self.noun} "
            f"{self.names[int(order_M[np.argmax(wrong_M)])]}: are these {probably}? Boxes here are {here}"
        )
