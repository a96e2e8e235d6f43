"""Some questions to a model with its answers, to be looked at in the report.

Shape suffixes: R read-outs, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from uniperceiver.data.batch import collate, prepare
from uniperceiver.data.media.clips import decode_clip
from uniperceiver.data.media.decode import decode_image
from uniperceiver.data.media.preprocess import Preprocess, choose
from uniperceiver.data.tasks import TaskData
from uniperceiver.errors import BrokenSample
from uniperceiver.evaluation.examples import Example
from uniperceiver.records import Sample
from uniperceiver.serving.predictor import UniPerceiver
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.ask import ask
from uniperceiver.tasks.candidates import vocabulary_candidates

_TOP = 4  # candidates shown


def examples_of(model: UniPerceiver, data: TaskData, split: str, count: int) -> list[Example]:
    """Some samples of a split, spread evenly over it, with what the model answers; broken ones are left out."""
    source = data.sources[split]
    samples = []
    for index in np.linspace(0, len(source) - 1, min(count, len(source))).astype(int).tolist():
        try:
            sample = source.read(index)
            prepare(data.task, sample, data.view, model.codec, None, numpy_stream(0, "evaluation", sample.id))
            samples.append(sample)
        except BrokenSample:
            continue  # evaluation has counted and named it
    if not samples:
        return []
    if data.task.candidates == "labels":
        answers = _classified(model, data, samples)
    elif data.task.candidates == "in_batch":
        answers = _ranked(model, data, samples)
    else:
        answers = _captioned(model, data, samples) if data.task.read_at == "next" else _filled(model, data, samples)
    return [_example(data, split, sample, *answer) for sample, answer in zip(samples, answers, strict=True)]


# What an example adds to its sample: the text shown, the truth, the answers best first, and whether the best is right.
_Answer = tuple[str, tuple[str, ...], tuple[tuple[str, float], ...], bool | None]


def _example(
    data: TaskData,
    split: str,
    sample: Sample,
    text: str,
    truth: tuple[str, ...],
    answers: tuple[tuple[str, float], ...],
    right: bool | None,
) -> Example:
    return Example(
        task=data.task.name,
        split=split,
        sample=sample.id,
        frames=_frames(sample, data.view),
        text=text,
        truth=truth,
        answers=answers,
        right=right,
    )


def _frames(sample: Sample, view: Preprocess) -> tuple[np.ndarray, ...]:
    """The picture, or the frames of the clip that the model looks at."""
    if sample.image is not None:
        image = sample.image
        return (decode_image(image, sample.id) if isinstance(image, bytes) else image,)
    if sample.clip is None:
        return ()
    if isinstance(sample.clip, bytes):
        return tuple(decode_clip(sample.clip, sample.id, lambda frames: choose(frames, view, None)))
    return tuple(sample.clip[choose(len(sample.clip), view, None)])


def _media(data: TaskData, samples: list[Sample]) -> list[Any]:
    """What the predictor is asked about: images, clips or texts."""
    kind = data.task.visual or "text"
    return [{"image": each.image, "video": each.clip, "text": each.text}[kind] for each in samples]


def _classified(model: UniPerceiver, data: TaskData, samples: list[Sample]) -> Iterator[_Answer]:
    names = [texts[0] for texts in data.task.labels]
    rows = model.classify(_media(data, samples), task=data.task.name, modality=data.task.visual or "text")
    for sample, row in zip(samples, rows, strict=True):
        best = row.topk(min(_TOP, len(names)))
        answers = tuple((names[label], float(value)) for value, label in zip(*best, strict=True))
        truth = () if sample.label is None else (names[sample.label],)
        right = None if sample.label is None else int(best.indices[0]) == sample.label
        yield sample.text or "", truth, answers, right


def _ranked(model: UniPerceiver, data: TaskData, samples: list[Sample]) -> Iterator[_Answer]:
    texts = list(dict.fromkeys(sample.captions[0] for sample in samples))
    cosines = model.rank(_media(data, samples), texts, data.task.name)
    scale = float(model.model.scale(data.task.temperature).detach())
    for sample, row in zip(samples, (cosines * scale).softmax(dim=-1), strict=True):
        best = row.topk(min(_TOP, len(texts)))
        answers = tuple((texts[place], float(value)) for value, place in zip(*best, strict=True))
        yield "", sample.captions[:1], answers, answers[0][0] == sample.captions[0]


def _captioned(model: UniPerceiver, data: TaskData, samples: list[Sample]) -> Iterator[_Answer]:
    written = model.caption(_media(data, samples), task=data.task.name)
    for sample, caption in zip(samples, written, strict=True):
        yield "", sample.captions[:3], ((caption, float("nan")),), None


@torch.no_grad()
def _filled(model: UniPerceiver, data: TaskData, samples: list[Sample]) -> Iterator[_Answer]:
    """The first masked token of each text, with the words that the model would put there."""
    codec = model.codec
    for sample in samples:
        rng = numpy_stream(0, "evaluation", sample.id)
        batch = collate(data.task, [prepare(data.task, sample, data.view, codec, None, rng)], codec, data.index)
        logits_RV = ask(model.model, data.task, batch, vocabulary_candidates(data.task, codec, data.index))
        assert batch.inputs.ids_BN is not None
        place = int(batch.readout.position_R[0]) - 1  # behind the <SPE> prefix
        ids, target = batch.inputs.ids_BN[0].tolist(), int(batch.readout.target_R[0])
        best = logits_RV[0].softmax(dim=-1).topk(_TOP)
        answers = tuple((_word(model, int(word)), float(value)) for value, word in zip(*best, strict=True))
        before, after = (codec.decode(_without_end(part, codec.end)) for part in (ids[:place], ids[place + 1 :]))
        yield f"{before} ▢ {after}", (_word(model, target),), answers, int(best.indices[0]) == target


def _without_end(ids: list[int], end: int) -> list[int]:
    """Ids without the end tokens inside a text, behind which `decode` would stop."""
    return [token for token in ids if token != end]


def _word(model: UniPerceiver, token: int) -> str:
    return "(end)" if token == model.codec.end else model.codec.decode([token]) or "(part of a letter)"
