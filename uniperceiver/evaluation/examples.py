"""Some questions to a model with its answers, to be looked at."""

from dataclasses import dataclass

import numpy as np

from uniperceiver.data.media.preprocess import READERS
from uniperceiver.errors import BrokenSample
from uniperceiver.evaluation.answers import EVALUATIONS
from uniperceiver.evaluation.answers.kind import Shown
from uniperceiver.evaluation.split import AnyModel, Settings, Split, as_evaluated, drawn_samples
from uniperceiver.records import Sample


@dataclass(frozen=True, kw_only=True)
class Example(Shown):
    """One question that the model answered: what it saw, what is right, and what it said."""

    task: str
    split: str
    sample: str  # the sample's name
    frames: tuple[np.ndarray, ...] = ()  # (H, W, 3) uint8; one: an image, several: a clip, none: text only


def examples_of(model: AnyModel, split: Split, settings: Settings, count: int) -> list[Example]:
    """Some samples of a split, drawn as those of a limit, with what the model answers; broken ones are left out."""
    samples = []
    for index in drawn_samples(len(split.source), count):
        try:
            sample = split.source.read(index)
            as_evaluated(split, sample, settings.codec)
            samples.append(sample)
        except BrokenSample:
            continue  # evaluation has counted and named it
    if not samples:
        return []
    shown = EVALUATIONS[split.task.answer_name].shown(model, split, settings, samples)
    return [
        Example(
            task=split.task.name,
            split=split.name,
            sample=sample.id,
            frames=_frames(split, sample),
            text=answer.text,
            truth=answer.truth,
            answers=answer.answers,
            right=answer.right,
            things=answer.things,
        )
        for sample, answer in zip(samples, shown, strict=True)
    ]


def _frames(split: Split, sample: Sample) -> tuple[np.ndarray, ...]:
    """The pictures of a sample that the model looks at, modality by modality."""
    readers = (READERS[modality].shown for modality in split.task.media)
    return tuple(frame for shown in readers if shown for frame in shown(sample, split.preprocess))
