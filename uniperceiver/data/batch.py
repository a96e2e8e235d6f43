"""SAMPLE -> BATCH: samples of one task, as its declaration asks for them.

Shape suffixes: B sequences, T frames, C channels, H W pixels, N tokens, R read-outs, K candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from uniperceiver.config import AugmentConfig
from uniperceiver.data.media.preprocess import Preprocess, clip_pixels, image_pixels
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Batch, Readout, Sample, Sequences
from uniperceiver.tasks.candidates import TextCodec
from uniperceiver.tasks.sequences import cut, pad, text_sequences
from uniperceiver.tasks.task import Task
from uniperceiver.tasks.text import Text, masked, plain, templated

_PIXELS = {"image": image_pixels, "video": clip_pixels}


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """One sample, ready to be put into a batch."""

    id: str
    pixels_TCHW: Tensor | None = None
    text: Text | None = None
    label: int = -1
    candidate: tuple[int, ...] = ()  # ids of the text that is its in-batch candidate


def prepare(
    task: Task,
    sample: Sample,
    view: Preprocess,
    codec: TextCodec,
    augment: AugmentConfig | None,
    rng: np.random.Generator,
) -> Prepared:
    """What a task sees of a sample.

    Args:
        augment: augmentation in training; None in evaluation, where a sample has one fixed view.
        rng: the sample's own stream.

    Raises:
        BrokenSample: the sample lacks what the task needs (see `lacking`), or cannot be decoded.
        UserError: the task's targets are not texts.
    """
    if task.target != "text":
        raise UserError(f"task {task.name!r}: candidates of a batch are texts; ask for pictures the other way round")
    if (what := lacking(task, sample, training=augment is not None)) is not None:
        raise BrokenSample(sample.id, f"has no {what}")
    pixels = None
    if task.visual is not None:
        pixels = _PIXELS[task.visual](sample, view, augment, rng if augment is not None else None)
    text: Text | None = None
    candidate: tuple[int, ...] = ()
    label = -1 if sample.label is None else sample.label
    if "text" in task.inputs:
        text = _text(task, sample, view, codec, augment is not None, rng, label)
    if task.candidates == "in_batch":
        candidate = tuple(codec.encode(_caption(sample, augment is not None, rng))[: view.length - 1])  # + end
    return Prepared(id=sample.id, pixels_TCHW=pixels, text=text, label=label, candidate=candidate)


def lacking(task: Task, sample: Sample, *, training: bool) -> str | None:
    """What a task needs of a sample and the sample does not have: "label", "image", "clip", "text", "caption"."""
    if training and task.candidates == "labels" and sample.label is None:
        return "label"
    if task.visual == "image" and sample.image is None:
        return "image"
    if task.visual == "video" and sample.clip is None:
        return "clip"
    if (task.read_at == "next" or task.candidates == "in_batch") and not sample.captions:
        return "caption"
    if "text" in task.inputs and task.read_at != "next" and not (sample.text and sample.text.strip()):
        return "text"
    return None


def _text(
    task: Task, sample: Sample, view: Preprocess, codec: TextCodec, training: bool, rng: np.random.Generator, label: int
) -> Text:
    if task.read_at == "next":
        words = tuple(cut(codec.encode(_caption(sample, training, rng)), codec.end, view.length))
        return Text(ids=words, ask_at=tuple(range(len(words))), target=words)
    assert sample.text is not None
    if task.read_at == "summary":
        return plain(codec, sample.text, view.length, task.template or "{text}")
    if task.candidates == "labels":
        return templated(codec, task.template, sample.text, view.length, label)
    return masked(codec, sample.text, view.length, rng)


def _caption(sample: Sample, training: bool, rng: np.random.Generator) -> str:
    """One of the sample's captions: drawn in training, else the first."""
    return sample.captions[rng.integers(len(sample.captions)) if training else 0]


def collate(task: Task, items: Sequence[Prepared], codec: TextCodec, index: int | None = None) -> Batch:
    """Prepared samples (at least one) as a batch.

    Args:
        index: the task's index among the tasks of the run.
    """
    pixels = [item.pixels_TCHW for item in items if item.pixels_TCHW is not None]
    texts = [item.text for item in items if item.text is not None]
    inputs = Sequences(facts=task.facts("input", index), pixels_BTCHW=torch.stack(pixels) if pixels else None)
    if texts:
        inputs = _with_causal_text(inputs, texts, codec) if task.read_at == "next" else _with_text(inputs, texts)
    candidates = None
    if task.candidates == "in_batch":
        candidates = text_sequences([item.candidate for item in items], task.facts("candidate", index), codec.end)
    ids = tuple(item.id for item in items)
    readout = _readout(task, items, texts, inputs)
    return Batch(task=task.name, ids=ids, inputs=inputs, readout=readout, candidates=candidates)


def at_places(batch: Batch, places: Sequence[int], planned: int) -> Batch:
    """The batch, knowing its samples' places in the batch that was planned, of which some were left out."""
    place_B = torch.tensor(places)
    candidates = batch.candidates and replace(batch.candidates, place_B=place_B, planned=planned)
    return replace(batch, inputs=replace(batch.inputs, place_B=place_B, planned=planned), candidates=candidates)


def _with_text(inputs: Sequences, texts: Sequence[Text]) -> Sequences:
    ids_BN, valid_BN = pad([text.ids for text in texts])
    return replace(inputs, ids_BN=ids_BN, valid_BN=valid_BN)


def _with_causal_text(inputs: Sequences, texts: Sequence[Text], codec: TextCodec) -> Sequences:
    """Words, then one query (<SPE>) per word at the word's own position; both halves padded alike."""
    ids_BN, valid_BN = pad([text.ids for text in texts])
    place_BN = torch.arange(ids_BN.shape[1]).expand_as(ids_BN)
    is_query_BN = torch.zeros_like(ids_BN, dtype=torch.bool)
    return replace(
        inputs,
        ids_BN=torch.cat([ids_BN, torch.full_like(ids_BN, codec.answer)], dim=1),
        valid_BN=None if valid_BN is None else torch.cat([valid_BN, valid_BN], dim=1),
        position_BN=torch.cat([place_BN, place_BN], dim=1),
        order_BN=torch.cat([place_BN, place_BN], dim=1) + 1,
        query_BN=torch.cat([is_query_BN, ~is_query_BN], dim=1),
    )


def _readout(task: Task, items: Sequence[Prepared], texts: Sequence[Text], inputs: Sequences) -> Readout:
    if task.read_at == "summary":
        row_R = torch.arange(len(items))
        labels = torch.tensor([item.label for item in items])
        same = _same(items) if task.candidates == "in_batch" else None
        return Readout(segment=0, row_R=row_R, position_R=row_R * 0, target_R=labels, soft_RK=same, summary=True)
    assert inputs.ids_BN is not None
    # Positions count from the segment's start: behind the <SPE> prefix, if the text is the first segment, and
    # behind the words, if queries answer.
    segment = 0 if inputs.pixels_BTCHW is None else 1
    start = (segment == 0) + (inputs.ids_BN.shape[1] // 2 if task.read_at == "next" else 0)
    rows = [row for row, text in enumerate(texts) for _ in text.ask_at]
    return Readout(
        segment=segment,
        row_R=torch.tensor(rows),
        position_R=torch.tensor([start + place for text in texts for place in text.ask_at]),
        target_R=torch.tensor([target for text in texts for target in text.target]),
    )


def _same(items: Sequence[Prepared]) -> Tensor:
    """1 where a candidate has the text, or comes from the sample, of the input's own candidate, (B, B) float32."""
    rows = [[float(one.candidate == other.candidate or one.id == other.id) for other in items] for one in items]
    return torch.tensor(rows)


def soft_labels(readout: Readout, classes: int) -> Tensor:
    """The targets as distributions over the classes, (R, classes) float32."""
    return torch.nn.functional.one_hot(readout.target_R, classes).float()
