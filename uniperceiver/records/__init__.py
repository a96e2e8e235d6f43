"""The records that cross a folder border: Sample -> Batch -> Tokens -> Encoded.

Shape suffixes of the whole library; a file may add letters, which it names, but gives none of these another meaning:

    B sequences (rows of a batch)      N tokens of a sequence      T tokens of all sequences, in the order of a pass
    D width of a representation        E experts                   S segments
    F frames    C colour channels      H W pixels                  R read-outs
    K candidates                       V vocabulary
"""

from __future__ import annotations  # torch is named by annotations only, and who reads no tensors goes without it

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from uniperceiver.modalities import MODALITIES, TEXT
from uniperceiver.records.regions import ClassTerm, Masks, ObjectnessTerm, Objects, PictureThings, Regions
from uniperceiver.records.sounds import Sound

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Side = Literal["input", "candidate"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One item of a data set, as its source reads it: media still encoded, texts still strings."""

    id: str  # a stable name for logs and messages: a path, a line, a tar key
    image: bytes | np.ndarray | None = None  # an encoded file, or (H, W, 3) uint8 RGB
    clip: bytes | np.ndarray | None = None  # an encoded file, or (F, H, W, 3) uint8 RGB
    text: str | None = None  # a text that is read (an input)
    second: int | None = None  # where in `text` a second text begins: what is too long is cut off the longer of both
    captions: tuple[str, ...] = ()  # texts that describe the image or clip (targets)
    captioned_by_label: bool = False  # whether the captions say its label alone, which other samples have, too
    captions_left_out: int = (
        0  # empty or damaged ones beside these, of a source that cannot count them when it is opened
    )
    label: int | None = None  # index into the source's classes
    labels: tuple[int, ...] = ()  # several of them that are right, instead of `label`
    boxes: np.ndarray | None = None  # (objects, 4) float32 or float64, x0 y0 x1 y1 in pixels of the first frame
    boxes_clipped: int = 0  # of `boxes`, at the edges of a picture whose size was not known before it was read
    boxes_left_out: int = 0  # that lie outside such a picture
    masks: Masks | None = None  # (objects, H, W) bool, of the first frame, or what makes them when they are asked for
    classes: np.ndarray | None = (
        None  # (objects,) int64, what each thing in a box is: an index into the source's classes
    )
    crowd: np.ndarray | None = None  # (objects,) bool, a box around several things; None: none is
    areas: np.ndarray | None = None  # (objects,) float64, what a file says of each thing's area; None: it does not
    things: PictureThings | None = None  # the same as the model sees them, once its view is chosen
    # Where in time a part is taken of clips and sounds: 0 the beginning, 1 the end; None: drawn, or else the middle.
    moment: float | None = None
    # Of modalities without a field of their own; a sound is an encoded file, or a Sound.
    others: Mapping[str, bytes | np.ndarray | Sound] = field(default_factory=dict)

    def value(self, modality: str) -> bytes | np.ndarray | Sound | str | None:
        """What the sample has of a modality; None: nothing."""
        name = MODALITIES[modality].field
        value: bytes | np.ndarray | Sound | str | None = (
            self.others.get(modality) if name is None else getattr(self, name)
        )
        return value

    def holder(self, modality: str) -> bytes | np.ndarray | Sound | str | None:
        """What a modality is read from: its own value, or else an encoded file that may hold it, as a clip a sound."""
        value, track_of = self.value(modality), MODALITIES[modality].track_of
        if value is None and track_of is not None and isinstance(file := self.value(track_of), bytes):
            return file
        return value

    def with_value(self, modality: str, value: bytes | np.ndarray | Sound | str) -> Sample:
        """The same sample with something of a modality."""
        name = MODALITIES[modality].field
        changes: dict[str, Any] = {"others": {**self.others, modality: value}} if name is None else {name: value}
        return replace(self, **changes)


@dataclass(frozen=True, kw_only=True)
class Broken:
    """A sample that was left out of a batch, and why."""

    task: str
    sample: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a routing condition may know of a sequence without looking at values."""

    side: Side
    inputs: tuple[str, ...]  # kinds in the task's inputs: "visual", "text"
    targets: tuple[str, ...]  # kinds in the task's targets
    task: int | None = None  # index among the tasks of the run; None for an anonymous task


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A run of tokens of one kind in every sequence of a batch; <SPE> belongs to the first."""

    start: int
    stop: int
    kind: str  # "visual", "text", or what modalities.py says of others
    causal: bool
    facts: Facts


@dataclass(frozen=True, kw_only=True)
class Part:
    """What the sequences of a batch have of one modality, before tokenization."""

    modality: str  # a row of modalities.py
    values: (
        Tensor  # (B, ...): pixels (B, F, C, H, W), sounds (B, F, M), float32, normalised; ids (B, N) int64, 0 if padded
    )
    valid_BN: Tensor | None = None  # bool by token, False where padded; None: no padding
    keep_BG: Tensor | None = None  # int64, rising: which of its patches are tokens (DropToken); None: all
    step: float = 0.0  # milliseconds from row to row, of values that are a course in time
    # Only in text:
    position_BN: Tensor | None = None  # int64, row of the text position table; None: 0, 1, 2, ...
    # Only in causal text: the place of a word among the words (1, 2, ...), and whether the token asks (an
    # appended <SPE>) instead of being a word.
    order_BN: Tensor | None = None  # int64
    query_BN: Tensor | None = None  # bool


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Sequences of one layout before tokenization: <SPE>, then the parts in this order; text, if any, is the last."""

    facts: Facts
    parts: tuple[Part, ...]
    class_B: Tensor | None = None  # int64, the class that a candidate names, of a task with labels
    # Where samples were left out: what is random for the others stays as in the batch that was planned.
    place_B: Tensor | None = None  # int64, places in the planned batch; None: nothing was left out
    planned: int = 0  # the size of the planned batch, with place_B
    objects: Objects | None = None  # in training: the things in the pictures, for models that learn from noised ones
    every_mask: bool = False  # whether masks of all layers of proposals are asked for, not only of the last

    @property
    def size(self) -> int:
        """How many sequences these are."""
        return self.parts[0].values.shape[0]

    @property
    def text(self) -> Part | None:
        """The text part, if there is one."""
        last = self.parts[-1] if self.parts else None
        return last if last is not None and last.modality == TEXT else None

    @property
    def media(self) -> tuple[Part, ...]:
        """The parts before the text."""
        return tuple(part for part in self.parts if part.modality != TEXT)


@dataclass(frozen=True, kw_only=True)
class Readout:
    """Where the answers are read: any number per sequence."""

    segment: int  # in which segment of the sequences
    row_R: Tensor  # int64, which sequence
    position_R: Tensor  # int64, counted inside the segment; in segment 0, position 0 is the <SPE> prefix
    target_R: Tensor  # int64, index of the right candidate, -1 where unknown
    # float32, instead of target_R: a distribution over the candidates or, in-batch, 1 where a candidate is right
    soft_RK: Tensor | None = None
    summary: bool = False  # True: exactly the <SPE> position of every sequence, in order
    objects: Objects | None = None  # read at every proposal: what these are compared with; targets follow from it
    class_term: ClassTerm = "softmax"  # with `objects`: how the name of a proposal is learnt (Task.class_term)
    objectness: ObjectnessTerm = "focal"  # with `objects`: how a proposal is learnt to be a thing (Task.objectness)

    @property
    def answers(self) -> int:
        """How many right answers are known, which the loss of a batch is a mean over."""
        return len(self.target_R) if self.soft_RK is not None else int((self.target_R >= 0).sum())


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples of one task, ready for the tokenizers."""

    task: str
    ids: tuple[str, ...]  # B sample names, in order
    kin: tuple[str, ...] = ()  # names by which samples share their right candidates, where these are in the batch
    inputs: Sequences
    readout: Readout
    candidates: Sequences | None = None  # only for tasks whose candidates are in the batch
    windows: tuple[Sequences, ...] = ()  # of evaluation: the same inputs at several moments, whose answers are averaged


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Embedded sequences, ready for the encoder."""

    x_BND: Tensor
    segments: tuple[Segment, ...]
    valid_BN: Tensor | None = None  # bool; None: no padding
    answer_BN: Tensor | None = None  # bool, where <SPE> stands; None: routing does not ask
    place_B: Tensor | None = None  # int64, as in Sequences
    planned: int = 0  # as in Sequences
    regions: Regions | None = None  # where the picture became proposals
    # Visibility inside causal text: token a sees token b if both stand in the prefix (order 0), or if b is a
    # word with a smaller order, or if a is b. None: every valid token is seen.
    order_BN: Tensor | None = None  # int64, 0 in the prefix
    query_BN: Tensor | None = None  # bool


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a gate decided in one forward pass: for every token or, reading no values, for every segment group."""

    layer: int
    part: str  # "attention" or "ffn"
    segments: tuple[Segment, ...]
    logit_TE: Tensor  # float32, with the noise of training; T stands for segment groups where `group_S` is given
    probability_TE: Tensor  # float32, its softmax
    wanted_TE: Tensor  # bool, chosen, before any capacity
    chosen_TE: Tensor  # bool, computed
    weight_TE: Tensor  # float32, 0 where not chosen
    noise_TE: Tensor | None = None  # float32, that the logits hold
    noise_scale: float = 0.0  # its standard deviation
    gate: int = 0  # of the part's gates
    segment_T: Tensor | None = None  # int64, the segment of each token, -1 in padding
    group_S: tuple[int, ...] = ()  # of a condition that reads no values: the group of each segment
    tokens_S: Tensor | None = None  # float32, tokens of each segment without padding, with group_S


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """What the encoder makes of Tokens."""

    x_BND: Tensor  # N may be 1 when only the summary position was asked for
    segments: tuple[Segment, ...]
    layers: tuple[Tensor, ...] = ()  # (B, N, D) after each layer, when asked for
    decisions: tuple[Decision, ...] = ()  # of the gates, in the order of the layers
    regions: Regions | None = None  # as in Tokens


T = TypeVar("T")


def detached(record: T) -> T:
    """The same record with its tensors out of the graph."""
    from torch import Tensor

    fields = getattr(record, "__dataclass_fields__", ())
    changes = {name: value.detach() for name in fields if isinstance(value := getattr(record, name), Tensor)}
    return replace(record, **changes)  # type: ignore[type-var]


def to_device(record: T, device: torch.device | str, floats: torch.dtype | None = None) -> T:
    """The same record with all its tensors, also those of records inside it, on that device.

    Args:
        floats: the type of those that hold floating-point numbers; None: as they are.
    """
    from torch import Tensor

    changes: dict[str, object] = {}
    for name in getattr(record, "__dataclass_fields__", ()):
        value = getattr(record, name)
        if isinstance(value, Tensor):
            dtype = floats if value.is_floating_point() else None
            changes[name] = value.to(device, dtype, non_blocking=True)
        elif is_dataclass(value):
            changes[name] = to_device(value, device, floats)
        elif isinstance(value, tuple) and any(map(is_dataclass, value)):
            changes[name] = tuple(to_device(member, device, floats) for member in value)
    return replace(record, **changes) if changes else record  # type: ignore[type-var]
