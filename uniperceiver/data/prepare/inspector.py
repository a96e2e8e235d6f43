"""EVERY SAMPLE ONCE: what a data set holds, and what in it is broken.

Shape suffixes: I samples.
"""

import hashlib
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from uniperceiver.data.batch import lacking, media_read
from uniperceiver.data.formats import Source
from uniperceiver.data.media.clips import clip_extent
from uniperceiver.data.media.decode import decode_image, stored_size
from uniperceiver.data.media.preprocess import READERS, Preprocess
from uniperceiver.data.media.samples import hear_array
from uniperceiver.data.media.sounds import hear_sound
from uniperceiver.data.prepare.things import ThingFindings
from uniperceiver.errors import BrokenSample
from uniperceiver.modalities import MODALITIES
from uniperceiver.records import Sample
from uniperceiver.records.sounds import Sound
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
    sizes: defaultdict[str, Counter[float]] = field(default_factory=lambda: defaultdict(Counter))  # "image width", ...
    labels: Counter[int] = field(default_factory=Counter)
    # What samples lost: "captions", "boxes", "edges" of boxes; and which are "silent".
    left_out: Counter[str] = field(default_factory=Counter)
    tokens: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))  # by use
    things: ThingFindings = field(default_factory=ThingFindings)  # in the pictures, where a task asks for them
    hash_I: "array[int]" = field(default_factory=lambda: array("Q"))  # of the samples' names, in order

    def add(self, other: "Findings") -> None:
        """Take in what was found in later samples of the set."""
        self.faults.extend(other.faults)
        self.labels.update(other.labels)
        self.left_out.update(other.left_out)
        self.things.update(other.things)
        for name, sizes in other.sizes.items():
            self.sizes[name].update(sizes)
        for name, tokens in other.tokens.items():
            self.tokens[name].update(tokens)
        self.hash_I.extend(other.hash_I)

    @property
    def samples(self) -> int:
        """How many were read."""
        return len(self.hash_I)

    @property
    def broken(self) -> int:
        """How many samples some use cannot have."""
        return len({fault.index for fault in self.faults})


def spans(sets: Sequence[DataSet]) -> Iterator[Span]:
    """All samples of all sets, in portions."""
    for index, data_set in enumerate(sets):
        for start in range(0, len(data_set.source), _SPAN):
            yield Span(set=index, start=start, stop=min(start + _SPAN, len(data_set.source)))


@dataclass(frozen=True)
class Inspector:
    """Spans to findings, the same in any process."""

    sets: tuple[DataSet, ...]
    codec: TextCodec | None  # None: texts are not counted

    def __getitem__(self, span: Span) -> tuple[Span, Findings]:
        """Read, decode and count the samples of a span."""
        findings = Findings()
        for index in range(span.start, span.stop):
            name = self._inspect(self.sets[span.set], index, findings)
            findings.hash_I.append(int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little"))
        return span, findings

    def _inspect(self, data_set: DataSet, index: int, findings: Findings) -> str:
        """Add what is to be said of a sample, and give its name."""
        try:
            sample = data_set.source.read(index)
        except BrokenSample as error:
            names = tuple(use.name for use in data_set.uses)
            findings.faults.append(Fault(sample=error.sample, reason=error.reason, uses=names, index=index))
            return error.sample
        findings.left_out["captions"] += sample.captions_left_out
        findings.left_out["boxes"] += sample.boxes_left_out
        findings.left_out["edges"] += sample.boxes_clipped
        reasons: dict[str, str] = {}  # by use
        for use in data_set.uses:
            if (what := lacking(use.task, sample, training=use.training)) is not None:
                reasons[use.name] = f"has no {what}"
        for modality in dict.fromkeys(modality for use in data_set.uses for modality in media_read(use.task)):
            asking = [use for use in data_set.uses if modality in media_read(use.task) and use.name not in reasons]
            if asking and (damage := _measure(sample, modality, asking[0].preprocess, findings)) is not None:
                reasons |= dict.fromkeys([use.name for use in asking], damage)
        asking = [use for use in data_set.uses if use.task.answer.reads_objects and use.name not in reasons]
        masks = any(use.task.masks for use in asking)
        if asking and (damage := _count_things(sample, findings, masks=masks)) is not None:
            reasons |= dict.fromkeys([use.name for use in asking], damage)
        fit = [use for use in data_set.uses if use.name not in reasons]
        if self.codec is not None:
            for use in fit:
                findings.tokens[use.name].update(use.task.answer.lengths(use.task, sample, self.codec))
        if fit:
            findings.labels.update(sample.labels if sample.label is None else [sample.label])
        for reason in dict.fromkeys(reasons.values()):
            names = tuple(name for name, why in reasons.items() if why == reason)
            findings.faults.append(Fault(sample=sample.id, reason=reason, uses=names, index=index))
        return sample.id


def _measure(sample: Sample, modality: str, preprocess: Preprocess, findings: Findings) -> str | None:
    """Decode all that the sample has of a modality, and note its size; what is wrong with it, if anything."""
    try:
        if modality not in _EXTENTS:
            READERS[modality].values(sample, preprocess, None, None)
            return None
        measures = _EXTENTS[modality](sample, preprocess, findings)
    except BrokenSample as error:
        return error.reason
    for what, measure in measures.items():
        findings.sizes[f"{MODALITIES[modality].noun} {what}"][measure] += 1
    return None


def _count_things(sample: Sample, findings: Findings, *, masks: bool) -> str | None:
    """Count the things in a picture; what is wrong with their masks, if anything."""
    if sample.boxes is None or sample.image is None:
        return None
    image = sample.image
    size = stored_size(image, sample.id).upright if isinstance(image, bytes) else (image.shape[0], image.shape[1])
    try:
        findings.things.take(sample, *size, masks=masks)
    except BrokenSample as error:
        return error.reason
    return None


def _image_extent(sample: Sample, preprocess: Preprocess, _: Findings) -> dict[str, float]:
    image = sample.image
    if isinstance(image, bytes):
        image = decode_image(image, sample.id, most_pixels=preprocess.most_pixels)
    assert image is not None
    return {"width": image.shape[1], "height": image.shape[0]}


def _clip_extent(sample: Sample, preprocess: Preprocess, _: Findings) -> dict[str, float]:
    if isinstance(sample.clip, bytes):
        extent = clip_extent(sample.clip, sample.id, preprocess.most_pixels)
        assert extent.frames is not None
        return {"width": extent.width, "height": extent.height, "frames": extent.frames}
    assert sample.clip is not None
    frames, height, width = sample.clip.shape[:3]
    return {"width": width, "height": height, "frames": frames}


def _sound_extent(sample: Sample, _: Preprocess, findings: Findings) -> dict[str, float]:
    sound = sample.holder("audio")
    heard = hear_array(sound.array, sound.rate, sample.id) if isinstance(sound, Sound) else None
    if isinstance(sound, bytes):
        heard = hear_sound(sound, sample.id)
    assert heard is not None
    findings.left_out["silent"] += heard.silent
    return {"seconds": round(heard.seconds, 2), "rate": heard.rate, "channels": heard.channels}


# What people want to know of a modality, in the order in which it is told; others are only read.
_EXTENTS: Mapping[str, Callable[[Sample, Preprocess, Findings], dict[str, float]]] = {
    "image": _image_extent,
    "video": _clip_extent,
    "audio": _sound_extent,
}


def named_twice(source: Source, findings: Findings) -> dict[str, int]:
    """How often a name occurs that several samples of the set have."""
    hash_I = np.array(findings.hash_I, dtype=np.uint64)
    _, first_I, count_I = np.unique(hash_I, return_index=True, return_counts=True)
    counts: dict[str, int] = {}
    for first, count in sorted(zip(first_I[count_I > 1].tolist(), count_I[count_I > 1].tolist(), strict=True)):
        try:
            counts[source.read(first).id] = count
        except BrokenSample as error:
            counts[error.sample] = count
    return counts
