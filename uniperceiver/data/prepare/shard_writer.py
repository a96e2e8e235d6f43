"""SAMPLES -> TAR SHARDS that the format `webdataset` reads: each is written whole or not at all, by any process."""

import io
import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from uniperceiver.atomic import whole_file, write_text
from uniperceiver.data.batch import lacking
from uniperceiver.data.formats import class_names
from uniperceiver.data.media.sounds import decode_sound
from uniperceiver.data.prepare.inspector import DataSet
from uniperceiver.data.prepare.recode import RECODERS, Storing, has_track
from uniperceiver.data.prepare.things import written_things
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.modalities import MODALITIES
from uniperceiver.records import Sample
from uniperceiver.records.sounds import Sound

PROGRESS = ".progress"  # folder with a note about each shard that is done


@dataclass(frozen=True, kw_only=True)
class SetPlan:
    """A data set that is to be written."""

    name: str  # of its folder
    data: DataSet
    media: tuple[str, ...]  # which are kept of a sample, beside captions, class and things; none: its text
    side: int  # most pixels of the shorter side
    rate: int | None  # samples a second of sounds; None: no task hears
    per_shard: int  # samples

    @property
    def has_things(self) -> bool:
        """Whether some task asks for the things in the pictures."""
        return any(use.task.answer.reads_objects for use in self.data.uses)

    @property
    def has_masks(self) -> bool:
        """Whether some task asks for their masks, too."""
        return any(use.task.masks for use in self.data.uses)

    @property
    def shards(self) -> int:
        """How many files it becomes, at most: one whose samples are all broken is not written."""
        return -(-len(self.data.source) // self.per_shard)


@dataclass(frozen=True, kw_only=True)
class ShardPlan:
    """One file of a set."""

    set: int
    number: int


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """A sample that is not in a shard."""

    sample: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class ShardReport:
    """What is in a shard, and what is not."""

    samples: int
    bytes: int
    broken: tuple[LeftOut, ...]
    tracks: int = 0  # clips that lost their sound track, which no task hears


@dataclass(frozen=True)
class ShardWriter:
    """Plans to shards; a shard that is there already is left alone."""

    folder: Path
    sets: tuple[SetPlan, ...]

    def __getitem__(self, plan: ShardPlan) -> tuple[ShardPlan, ShardReport]:
        """Write a shard, if it is not there, and say what it holds.

        Raises:
            UserError: it cannot be written.
        """
        set_plan = self.sets[plan.set]
        path = self.folder / set_plan.name / f"{plan.number:05d}.tar"
        note = self.folder / PROGRESS / f"{set_plan.name}-{plan.number:05d}.json"
        try:
            report = _noted_report(note, path) or _write(set_plan, plan.number, path)
            if not note.exists():
                write_text(note, json.dumps(asdict(report)))
        except OSError as error:
            raise UserError(
                f"{path}: cannot be written ({error.strerror}); free or mend the disk, and give the same command again"
            ) from None
        return plan, report


def shard_plans(sets: Sequence[SetPlan]) -> Iterator[ShardPlan]:
    """All shards of all sets."""
    for index, plan in enumerate(sets):
        yield from (ShardPlan(set=index, number=number) for number in range(plan.shards))


def _noted_report(note: Path, path: Path) -> ShardReport | None:
    """What was noted about a shard, if that is all there."""
    if not note.exists():
        return None
    values = json.loads(note.read_bytes())
    broken = tuple(LeftOut(**left_out) for left_out in values.pop("broken"))
    report = ShardReport(broken=broken, **values)
    size = path.stat().st_size if path.exists() else 0
    return report if size == report.bytes else None


def _write(plan: SetPlan, number: int, path: Path) -> ShardReport:
    start = number * plan.per_shard
    broken: list[LeftOut] = []
    good = tracks = 0
    with whole_file(path) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for index in range(start, min(start + plan.per_shard, len(plan.data.source))):
            try:
                members, lost = _members(plan, index)
            except BrokenSample as error:
                broken.append(LeftOut(sample=error.sample, reason=error.reason))
                continue
            good, tracks = good + 1, tracks + lost
            for kind, data in members.items():
                info = tarfile.TarInfo(f"{index:08d}.{kind}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    if not good:
        path.unlink()  # the format takes no empty shard
    size = path.stat().st_size if good else 0
    return ShardReport(samples=good, bytes=size, broken=tuple(broken), tracks=tracks)


def _members(plan: SetPlan, index: int) -> tuple[dict[str, bytes], bool]:
    """The members of a sample by what stands behind the key, and whether its clip loses its sound track.

    Raises:
        BrokenSample: no task can use it.
    """
    sample = plan.data.source.read(index)
    lacks = [lacking(use.task, sample, training=use.training) for use in plan.data.uses]
    if all(lacks):
        raise BrokenSample(sample.id, f"has no {lacks[0]}")
    values, members = _texts_and_class(plan, sample), dict[str, bytes]()
    how = Storing(side=plan.side, most_pixels=plan.data.uses[0].preprocess.most_pixels, rate=plan.rate)
    lost = False
    for modality in plan.media:
        value = _kept(plan, sample, modality)
        if value is not None:
            # A clip beside a sound of its own needs no track.
            own = modality != "audio" and sample.value("audio") is not None
            kind, data = RECODERS[modality](value, sample.id, replace(how, rate=None) if own else how)
            members[kind] = data
            lost |= plan.rate is None and isinstance(value, bytes) and value != data and has_track(value)
    if plan.has_things:
        (data,) = members.values()
        values["objects"] = written_things(sample, data, class_names(plan.data.source), masks=plan.has_masks)
    return {**members, "json": json.dumps(values).encode()}, lost


def _kept(plan: SetPlan, sample: Sample, modality: str) -> bytes | np.ndarray | Sound | None:
    """What is stored of a medium of a sample; None: nothing, or it stays in the file that holds it."""
    value = sample.value(modality)
    if value is None and MODALITIES[modality].track_of not in plan.media:
        value = sample.holder(modality)
        if isinstance(value, bytes) and plan.rate is not None:
            value = Sound(decode_sound(value, sample.id, plan.rate, lambda seconds: (0.0, seconds)), plan.rate)
    assert not isinstance(value, str)
    return value


def _texts_and_class(plan: SetPlan, sample: Sample) -> dict[str, object]:
    """What the sample has beside its picture: name, texts and class."""
    values: dict[str, object] = {"id": sample.id}
    if not plan.media:
        values["text"] = sample.text
        if sample.second is not None and sample.text is not None:
            values |= {"text": sample.text[: sample.second - 1], "text_pair": sample.text[sample.second :]}
    elif sample.captions:
        values["captions"] = list(sample.captions)
    names = class_names(plan.data.source)
    if names is not None and sample.label is not None:
        # By name: where the names are numbers, a number would be taken for one of them.
        name = names[sample.label]
        values["label"] = name if name == name.strip() else sample.label
    elif names is not None:
        values["label"] = [names[label] if names[label] == names[label].strip() else label for label in sample.labels]
    return values
