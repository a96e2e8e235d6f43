"""SAMPLE -> BATCH: samples of one task, as its declaration asks for them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.objects import framed, mask_side
from uniperceiver.data.media.preprocess import READERS, Preprocess
from uniperceiver.errors import BrokenSample
from uniperceiver.modalities import MODALITIES, TEXT
from uniperceiver.records import Batch, Part, Readout, Sample, Sequences
from uniperceiver.tasks.answers.kind import Asked
from uniperceiver.tasks.candidates import TextCodec
from uniperceiver.tasks.sequences import widened
from uniperceiver.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How many tokens of a medium are kept in training (DropToken)."""

    tokens: int
    of: int  # so many that there are

    def drawn(self, rng: np.random.Generator) -> Tensor:
        """Which, (tokens,) int64, rising: uniformly, without replacement."""
        return torch.from_numpy(np.sort(rng.permutation(self.of)[: self.tokens]))


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One sample, ready to be put into a batch."""

    id: str
    media: Mapping[str, Tensor]  # by modality, of inputs and candidates
    keep: Mapping[str, Tensor] = field(default_factory=dict)  # by modality, which of its tokens; all of the others
    step: Mapping[str, float]  # milliseconds from row to row, of media that are a course in time
    asked: Asked  # what its task's kind of answer takes of it


def prepare(
    task: Task,
    sample: Sample,
    preprocess: Preprocess,
    codec: TextCodec,
    augment: AugmentConfig | None,
    rng: np.random.Generator,
    kept: Mapping[str, Kept] | None = None,
) -> Prepared:
    """What a task sees of a sample.

    Args:
        augment: augmentation in training; None in evaluation, where a sample has one fixed view.
        rng: the sample's own stream.
        kept: the media of which tokens are dropped, in training; drawn after all else.

    Raises:
        BrokenSample: the sample lacks what the task needs (see `lacking`), or cannot be decoded.
    """
    training = augment is not None
    if (what := lacking(task, sample, training=training)) is not None:
        raise BrokenSample(sample.id, f"has no {what}")
    if task.answer.reads_objects:
        sample, augment = _as_seen(task, sample, preprocess, augment, rng)
    if training and any(MODALITIES[modality].track_of in media_read(task) for modality in media_read(task)):
        sample = replace(sample, moment=float(rng.random()))  # one for a clip and its sound
    media = {
        modality: READERS[modality].values(sample, preprocess, augment, rng if training else None)
        for modality in media_read(task)
    }
    step = {name: of(preprocess) for name in media if (of := READERS[name].step) is not None}
    asked = task.answer.asked(task, sample, codec, preprocess.length, rng, training=training)
    keep = {modality: of.drawn(rng) for modality, of in (kept or {}).items()} if training else {}
    return Prepared(id=sample.id, media=media, keep=keep, step=step, asked=asked)


def _as_seen(
    task: Task, sample: Sample, preprocess: Preprocess, augment: AugmentConfig | None, rng: np.random.Generator
) -> tuple[Sample, AugmentConfig | None]:
    """The sample through its window, and what of the augmentation is still to be done."""
    masks = mask_side(preprocess.size) if task.masks else None
    sample = framed(sample, preprocess, augment, rng, masks=masks)
    return sample, augment and replace(augment, crop=1.0, flip=0.0, flip_vertical=0.0)


def lacking(task: Task, sample: Sample, *, training: bool) -> str | None:
    """What a task needs of a sample and the sample does not have, such as "label", "image" or "caption"."""
    for modality in media_read(task):
        if sample.holder(modality) is None:
            return MODALITIES[modality].noun
    if (what := task.answer.lacking(task, sample, training=training)) is not None:
        return what
    if task.answer.reads_text(task) and not (sample.text and sample.text.strip()):
        return MODALITIES[TEXT].noun
    return None


def media_read(task: Task) -> tuple[str, ...]:
    """The modalities that are read of a sample as values: those of inputs and candidates but texts."""
    return tuple(modality for modality in task.modalities if modality != TEXT)


def collate(task: Task, items: Sequence[Prepared], codec: TextCodec, index: int | None = None) -> Batch:
    """Prepared samples (at least one) as a batch.

    Args:
        index: the task's index among the tasks of the run.
    """
    asked = [item.asked for item in items]
    parts = {
        modality: Part(
            modality=modality,
            values=torch.stack([item.media[modality] for item in items]),
            keep_BG=torch.stack([item.keep[modality] for item in items]) if modality in items[0].keep else None,
            step=items[0].step.get(modality, 0.0),
        )
        for modality in media_read(task)
    }
    text = task.answer.text_part(asked, codec)
    media = [parts[modality] for modality in task.media]
    inputs = Sequences(facts=task.facts("input", index), parts=(*media, *([] if text is None else [text])))
    if task.target == TEXT:
        candidates = task.answer.batch_candidates(task, asked, codec, index)
    else:
        candidates = Sequences(facts=task.facts("candidate", index), parts=(parts[task.target],))
    return Batch(
        task=task.name,
        ids=tuple(item.id for item in items),
        kin=tuple(sample.kin for sample in asked),
        inputs=inputs,
        readout=task.answer.readout(task, asked, inputs),
        candidates=candidates,
    )


def at_places(batch: Batch, places: Sequence[int], planned: int) -> Batch:
    """The batch, knowing its samples' places in the batch that was planned, of which some were left out."""
    place_B = torch.tensor(places)
    candidates = batch.candidates and replace(batch.candidates, place_B=place_B, planned=planned)
    return replace(batch, inputs=replace(batch.inputs, place_B=place_B, planned=planned), candidates=candidates)


def rounded(batch: Batch, multiple: int) -> Batch:
    """The batch with its texts padded to a multiple of so many tokens, also those that are candidates."""
    if multiple == 1:
        return batch
    candidates = batch.candidates and widened(batch.candidates, multiple)
    return replace(batch, inputs=widened(batch.inputs, multiple), candidates=candidates)


def soft_labels(readout: Readout, classes: int) -> Tensor:
    """The targets as distributions over the classes, (R, classes) float32."""
    if readout.soft_RK is not None:
        return readout.soft_RK
    return torch.nn.functional.one_hot(readout.target_R, classes).float()
