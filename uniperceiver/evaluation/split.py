"""A split of a task's data, read batch by batch: what every kind of answer is evaluated on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from uniperceiver.data.batch import Prepared, collate, prepare
from uniperceiver.data.formats import Source
from uniperceiver.data.loader import load
from uniperceiver.data.media.preprocess import READERS, Preprocess
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.evaluation.predictions import ClassPrecision, ClassTable, Prediction
from uniperceiver.parallel.world import World
from uniperceiver.records import Batch, Broken, Sample, to_device
from uniperceiver.records.regions import Detections
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.candidates import (
    Candidates,
    Model,
    TextCodec,
    represent_candidates,
    represent_in_chunks,
    rows_of,
)
from uniperceiver.tasks.decode import Writer
from uniperceiver.tasks.task import Task

CHUNK = 2048
"""Candidates that are encoded together."""


class AnyModel(Model, Writer[Any], Protocol):
    """What evaluation asks of a model."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """A split of a task's data to be evaluated."""

    task: Task
    index: int | None  # of the task in the run
    name: str  # train, val, test
    source: Source
    preprocess: Preprocess
    training_texts: Callable[[], Iterator[str]]  # captions that a blind answer may choose from
    training: Source | None = None  # whose things a blind answer may choose its boxes from


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a split is evaluated; no figure depends on `batch` or `workers`."""

    codec: TextCodec
    device: torch.device
    autocast: torch.dtype | None = None  # None: float32
    batch: int = 64
    limit: int = 0  # samples, as `drawn_samples` chooses them; 0: all
    workers: int = 0
    clips: int = 1  # parts of a clip or sound that are looked at
    beams: int = 1
    max_words: int = 20
    max_broken: float = 0.001
    on_batch: Callable[[int, int], None] = lambda done, total: None  # progress; may raise to stop
    on_broken: Callable[[Broken], None] = lambda broken: None  # told of each sample that is left out
    # Told of the answers of a batch; None: nobody asks, and none are gathered.
    on_predictions: Callable[[Sequence[Prediction]], None] | None = None
    on_classes: Callable[[ClassTable], None] = lambda table: None  # told how often each class was taken for another
    on_precision: Callable[[ClassPrecision], None] = lambda precision: (
        None
    )  # told how well things of each class were found
    # Told of the things that were found in each picture, with the sample's name; None: nobody asks.
    on_detections: Callable[[str, Detections], None] | None = None
    memory: dict[object, dict[str, float]] = field(default_factory=dict)  # figures that depend on the data alone
    world: World = field(default_factory=World)  # the processes that share the batches of a split
    ends: tuple[type[BaseException], ...] = (UserError,)  # what `on_batch` may raise, for all processes to do the same


def as_evaluated(split: Split, sample: Sample, codec: TextCodec) -> Prepared:
    """A sample as every evaluation sees it: what is random in it, such as masked words, is drawn from its name.

    Raises:
        BrokenSample: it cannot be used.
    """
    return prepare(split.task, sample, split.preprocess, codec, None, numpy_stream(0, "evaluation", sample.id))


@dataclass
class _BatchReader:
    """Samples by index as (batch, captions of each sample, broken), in any process."""

    split: Split
    codec: TextCodec
    clips: int

    def __getitem__(self, indices: Sequence[int]) -> tuple[Batch | None, list[tuple[str, ...]], list[Broken]]:
        task = self.split.task
        items, captions, broken = list[Prepared](), list[tuple[str, ...]](), list[Broken]()
        in_time = any(READERS[modality].in_time for modality in task.media)
        moments = [k / (self.clips - 1) for k in range(self.clips)] if self.clips > 1 and in_time else []
        windows: list[list[Prepared]] = [[] for _ in moments]
        for index in indices:
            try:
                sample = self.split.source.read(index)
                made = [as_evaluated(self.split, replace(sample, moment=at), self.codec) for at in (None, *moments)]
                items.append(made[0])
                for window, item in zip(windows, made[1:], strict=True):
                    window.append(item)
                captions.append(sample.captions)
            except BrokenSample as error:
                broken.append(Broken(task=task.name, sample=error.sample, reason=error.reason))
        if not items:
            return None, captions, broken
        batch, *others = (collate(task, made, self.codec, self.split.index) for made in (items, *windows))
        if batch.readout.summary:  # else what is asked lies in a text, or at places of the picture
            batch = replace(batch, windows=tuple(other.inputs for other in others))
        return batch, captions, broken


def at_moments(batch: Batch) -> list[Batch]:
    """A batch as it is, or once for each moment at which its clips and sounds are looked at."""
    return [replace(batch, inputs=inputs, windows=()) for inputs in batch.windows] or [batch]


def averaged(values: Sequence[Tensor]) -> Tensor:
    """The mean of what was computed at each moment."""
    return values[0] if len(values) == 1 else torch.stack(tuple(values)).mean(dim=0)


def drawn_samples(total: int, limit: int) -> list[int]:
    """`limit` of `total` samples, drawn without replacement, in their order; 0: all.

    The draw depends on these numbers alone, so that all runs are measured on the same samples, and a smaller limit's
    lie in a larger one's. Data often alternate, by label or by source: every n-th sample may be of one kind.
    """
    if not 0 < limit < total:
        return list(range(total))
    return sorted(numpy_stream(0, "limit", total).permutation(total)[:limit].tolist())


def measured(
    split: Split, settings: Settings, measure: Callable[[Batch, list[tuple[str, ...]]], Mapping[str, Any]]
) -> list[Mapping[str, Any]]:
    """What `measure` makes of every batch of the split and its captions, in order; broken samples are left out.

    Of several processes each takes whole batches, so that every batch is what it is for one process, and every process
    has the results of all.

    Args:
        measure: gives plain values and tensors by name (`parallel.packing`).

    Raises:
        UserError: more broken samples than max(1, max_broken x size), or nothing but broken ones.
    """
    if settings.world.size == 1:
        return [measure(batch, captions) for batch, captions in batches(split, settings)]
    world, total = settings.world, len(split.source)
    chosen = drawn_samples(total, settings.limit)
    parts = [chosen[start : start + settings.batch] for start in range(0, len(chosen), settings.batch)]
    mine: list[Any] = []
    with world.together(*settings.ends):
        numbers = range(world.rank, len(parts), world.size)
        own = iter([parts[number] for number in numbers])
        made = load(_BatchReader(split, settings.codec, settings.clips), own, settings.workers)
        for number, (batch, captions, left_out) in zip(numbers, made, strict=True):
            record = None if batch is None else measure(to_device(batch, settings.device), captions)
            mine.append([number, record, [vars(sample) for sample in left_out]])
            settings.on_batch(min((number + 1) * settings.batch, len(chosen)), len(chosen))
    results = sorted((line for lines in world.gather(mine) for line in lines), key=lambda line: line[0])
    broken = [Broken(**sample) for _, _, left_out in results for sample in left_out]
    with world.together(UserError):
        for count, sample in enumerate(broken, start=1):
            settings.on_broken(sample)
            if count > max(1, settings.max_broken * total):
                raise _too_many(split, broken[:count])
        if all(record is None for _, record, _ in results):
            raise UserError(f"{split.task.name}/{split.name}: no sample could be read")
    return [record for _, record, _ in results if record is not None]


def _too_many(split: Split, broken: Sequence[Broken]) -> UserError:
    return UserError(
        f"{split.task.name}/{split.name}: {len(broken)} broken samples, more than data.max_broken allows; "
        f"the last: {broken[-1].sample}: {broken[-1].reason}"
    )


def batches(split: Split, settings: Settings) -> Iterator[tuple[Batch, list[tuple[str, ...]]]]:
    """The split's samples in order, batch by batch, with the captions of each; broken ones are left out.

    Of several processes each has all of them, and none stops on its way: `measured` shares them.

    Raises:
        UserError: more broken samples than max(1, max_broken x size), or nothing but broken ones.
    """
    total = len(split.source)
    chosen = drawn_samples(total, settings.limit)
    parts = [chosen[start : start + settings.batch] for start in range(0, len(chosen), settings.batch)]
    broken: list[Broken] = []
    done = good = 0
    for batch, captions, left_out in load(
        _BatchReader(split, settings.codec, settings.clips), iter(parts), settings.workers
    ):
        broken += left_out
        for sample in left_out:
            settings.on_broken(sample)
        if len(broken) > max(1, settings.max_broken * total):
            raise _too_many(split, broken)
        done += len(captions) + len(left_out)
        if batch is not None:
            good += len(captions)
            yield to_device(batch, settings.device), captions
        if settings.world.size == 1:
            settings.on_batch(done, len(chosen))
    if not good:
        raise UserError(f"{split.task.name}/{split.name}: no sample could be read")


@torch.no_grad()
def represented(model: AnyModel, candidates: Candidates, settings: Settings, chunk: int | None = None) -> Tensor:
    """As `represent_in_chunks`, (K, D); of several processes each encodes some of the chunks.

    Args:
        chunk: sequences that are encoded together; None: `CHUNK`.
    """
    candidates, chunk, world = to_device(candidates, settings.device), chunk or CHUNK, settings.world
    size = candidates.sequences.size
    if world.size == 1 or candidates.owner_K is not None or size <= chunk:
        return represent_in_chunks(model, candidates, chunk)
    own = []
    for number in range(world.rank, -(-size // chunk), world.size):
        rows = rows_of(candidates.sequences, slice(number * chunk, (number + 1) * chunk))
        own.append([number, represent_candidates(model, Candidates(sequences=rows))])
    chunks = sorted((line for lines in world.gather(own) for line in lines), key=lambda line: line[0])
    return torch.cat([c_KD for _, c_KD in chunks]).to(settings.device)


def autocast(settings: Settings) -> torch.autocast:
    """The precision that the settings ask for, as a context."""
    return torch.autocast(settings.device.type, dtype=settings.autocast, enabled=settings.autocast is not None)
