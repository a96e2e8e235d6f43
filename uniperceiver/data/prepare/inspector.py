"""EVERY SAMPLE ONCE: what a data set holds, and what in it is broken."""

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from uniperceiver.data.batch import lacking
from uniperceiver.data.formats import Source
from uniperceiver.data.media.clips import Extent, clip_extent
from uniperceiver.data.media.decode import decode_image
from uniperceiver.data.media.preprocess import READERS, Preprocess
from uniperceiver.errors import BrokenSample
from uniperceiver.modalities import MODALITIES
from uniperceiver.records import Sample
from uniperceiver.tasks.candidates import TextCodec
from uniperceiver.tasks.task import Task

_SPAN = 64  # samples that a process reads before it reports


@dataclass(frozen=True, kw_only=True)
class Use:
    """A task that reads a data set."""

    name: str  # task/split
    task: Task
    preprocess: Preprocess
    training: bool


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set, and all that read it."""

    source: Source
    uses: tuple[Use, ...]


@dataclass(frozen=True, kw_only=True)
class Span:
    """Samples start .. stop of a set."""

    set: int
    start: int
    stop: int


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Why some of the uses of a set cannot have a sample."""

    sample: str
    reason: str
    uses: tuple[str, ...]
    index: int


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What is known of the samples that were read; counts only, so that it stays small."""

    faults: list[Fault] = field(default_factory=list)
    sizes: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))  # "image width", ...
    labels: Counter[int] = field(default_factory=Counter)
    tokens: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))  # by use
    hash_N: "array[int]" = field(default_factory=lambda: array("Q"))  # of the samples' names, in order

    def add(self, other: "Findings") -> None:
        """Take in what was found in later samples of the set."""
        self.faults.extend(other.faults)
        self.labels.update(other.labels)
        for ours, theirs in ((self.sizes, other.sizes), (self.tokens, other.tokens)):
            for name, counts in theirs.items():
                ours[name].update(counts)
        self.hash_N.extend(other.hash_N)

    @property
    def samples(self) -> int:
        """How many were read."""
        return len(self.hash_N)

    @property
    def broken(self) -> int:
        """How many samples some use cannot have."""
        return len({fault.index for fault in self.faults})


def spans(sets: Sequence[DataSet]) -> Iterator[Span]:
    """All samples of all sets, in portions."""
    for place, one in enumerate(sets):
        for start in range(0, len(one.source), _SPAN):
            yield Span(set=place, start=start, stop=min(start + _SPAN, len(one.source)))


@dataclass(frozen=True)
class Inspector:
    """Spans to findings, the same in any process."""

    sets: tuple[DataSet, ...]
    codec: TextCodec | None  # None: texts are not counted

    def __getitem__(self, span: Span) -> tuple[Span, Findings]:
        """Read, decode and count the samples of a span."""
        found = Findings()
        for index in range(span.start, span.stop):
            name = self._inspect(self.sets[span.set], index, found)
            found.hash_N.append(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
        return span, found

    def _inspect(self, one: DataSet, index: int, found: Findings) -> str:
        """Add what is to be said of a sample; its name."""
        try:
            sample = one.source.read(index)
        except BrokenSample as error:
            names = tuple(use.name for use in one.uses)
            found.faults.append(Fault(sample=error.sample, reason=error.reason, uses=names, index=index))
            return error.sample
        reasons: dict[str, str] = {}  # by use
        for use in one.uses:
            if (what := lacking(use.task, sample, training=use.training)) is not None:
                reasons[use.name] = f"has no {what}"
        for modality in dict.fromkeys(modality for use in one.uses for modality in use.task.media):
            asking = [use for use in one.uses if modality in use.task.media and use.name not in reasons]
            if asking and (damage := _measure(sample, modality, asking[0].preprocess, found)) is not None:
                reasons |= dict.fromkeys([use.name for use in asking], damage)
        fit = [use for use in one.uses if use.name not in reasons]
        if self.codec is not None:
            for use in fit:
                found.tokens[use.name].update(use.task.answer.lengths(use.task, sample, self.codec))
        if fit and sample.label is not None:
            found.labels[sample.label] += 1
        for reason in dict.fromkeys(reasons.values()):
            names = tuple(name for name, why in reasons.items() if why == reason)
            found.faults.append(Fault(sample=sample.id, reason=reason, uses=names, index=index))
        return sample.id


def _measure(sample: Sample, modality: str, preprocess: Preprocess, found: Findings) -> str | None:
    """Decode all that the sample has of a modality, and note its size; what is wrong with it, if anything."""
    try:
        if modality not in _EXTENTS:
            READERS[modality].values(sample, preprocess, None, None)
            return None
        extent = _EXTENTS[modality](sample)
    except BrokenSample as error:
        return error.reason
    noun = MODALITIES[modality].noun
    found.sizes[f"{noun} width"][extent.width] += 1
    found.sizes[f"{noun} height"][extent.height] += 1
    if extent.frames is not None:
        found.sizes[f"{noun} frames"][extent.frames] += 1
    return None


def _image_extent(sample: Sample) -> Extent:
    image = sample.image
    x_HWC = decode_image(image, sample.id) if isinstance(image, bytes) else image
    assert x_HWC is not None
    return Extent(frames=None, height=x_HWC.shape[0], width=x_HWC.shape[1])


def _clip_extent(sample: Sample) -> Extent:
    if isinstance(sample.clip, bytes):
        return clip_extent(sample.clip, sample.id)
    assert sample.clip is not None
    return Extent(frames=sample.clip.shape[0], height=sample.clip.shape[1], width=sample.clip.shape[2])


# What people want to know of the sizes of a modality; others are only read.
_EXTENTS: Mapping[str, Callable[[Sample], Extent]] = {"image": _image_extent, "video": _clip_extent}


def named_twice(source: Source, found: Findings) -> dict[str, int]:
    """How often a name occurs that several samples of the set have."""
    hash_N = np.array(found.hash_N, dtype=np.uint64)
    _, first_N, count_N = np.unique(hash_N, return_index=True, return_counts=True)
    several = sorted(zip(first_N[count_N > 1].tolist(), count_N[count_N > 1].tolist(), strict=True))
    return {_name(source, first): count for first, count in several}


def _name(source: Source, index: int) -> str:
    try:
        return source.read(index).id
    except BrokenSample as error:
        return error.sample
