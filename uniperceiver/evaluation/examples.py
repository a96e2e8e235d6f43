"""Some questions to a model with its answers, to be looked at."""

from dataclasses import dataclass

import numpy as np

from uniperceiver.data.batch import media_read
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
    frames: tuple[np.ndarray, ...] = ()  # (H, W, 3) uint8; one: an image or a sound, several: a clip, none: text only
    sound: bytes | None = None  # a WAV file of what is heard


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
            frames=frames,
            sound=sound,
            text=answer.text,
            truth=answer.truth,
            answers=answer.answers,
            right=answer.right,
            things=answer.things,
        )
        for sample, answer in zip(samples, shown, strict=True)
        for frames, sound in [_perceived(split, sample)]
    ]


def _perceived(split: Split, sample: Sample) -> tuple[tuple[np.ndarray, ...], bytes | None]:
    """The pictures of a sample that the model looks at, of a clip and its sound those of the clip; and what is heard,
    as the question or as its answer."""
    readers = {modality: READERS[modality] for modality in media_read(split.task)}
    pictures = (readers[modality].shown for modality in split.task.media)
    frames = next((shown(sample, split.preprocess) for shown in pictures if shown is not None), ())
    sounds = (reader.played for reader in readers.values())
    return frames, next((played(sample, split.preprocess) for played in sounds if played is not None), None)
