"""What a model answers over a whole split: the scores that metrics are made of.

Shape suffixes: R read-outs, K candidates, V vocabulary, D width, I inputs, C captions, S generated words.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from uniperceiver.data.batch import Prepared, collate, prepare
from uniperceiver.data.formats import Source
from uniperceiver.data.loader import load
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.evaluation.metrics import top_k_hits
from uniperceiver.records import Batch, Broken, Sequences, to_device
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.ask import compare, input_features, represent_inputs
from uniperceiver.tasks.candidates import Candidates, Model, TextCodec, represent_in_chunks
from uniperceiver.tasks.decode import Writer, generate, prefix_with_query
from uniperceiver.tasks.likelihood import logits, unit
from uniperceiver.tasks.sequences import text_sequences
from uniperceiver.tasks.task import Task


class AnyModel(Model, Writer[Any], Protocol):
    """What evaluation asks of a model."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """A split of a task's data to be evaluated."""

    task: Task
    index: int | None  # of the task in the run
    name: str  # train, val, test
    source: Source
    view: Preprocess
    training_texts: Callable[[], Iterator[str]]  # captions that a blind answer may choose from


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a split is evaluated; no figure depends on `batch` or `workers`."""

    codec: TextCodec
    device: torch.device
    autocast: torch.dtype | None = None  # None: float32
    batch: int = 64
    limit: int = 0  # samples, spread evenly over the split; 0: all
    workers: int = 0
    beams: int = 1
    max_words: int = 20
    max_broken: float = 0.001
    on_batch: Callable[[int, int], None] = lambda done, total: None  # progress; may raise to stop
    on_broken: Callable[[Broken], None] = lambda broken: None  # told of each sample that is left out
    memory: dict[object, dict[str, float]] = field(default_factory=dict)  # figures that depend on the data alone


@dataclass
class Answers:
    """Per read-out scores of a split."""

    nll: list[Tensor] = field(default_factory=list)  # -log P(right candidate)
    hit1: list[Tensor] = field(default_factory=list)  # whether the best candidate is right
    hit5: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    target: list[Tensor] = field(default_factory=list)
    sample: list[Tensor] = field(default_factory=list)  # which sample a read-out belongs to

    def add(self, logits_RK: Tensor, target_R: Tensor, sample_R: Tensor) -> None:
        """Score one batch; read-outs without a known target are left out."""
        known_R = target_R >= 0
        scores_RK, target_R = logits_RK[known_R].float(), target_R[known_R]
        self.nll.append(torch.nn.functional.cross_entropy(scores_RK, target_R, reduction="none").cpu())
        self.hit1.append(top_k_hits(scores_RK, target_R, 1).cpu())
        self.hit5.append(top_k_hits(scores_RK, target_R, 5).cpu())
        self.predicted.append(scores_RK.argmax(dim=1).cpu())
        self.target.append(target_R.cpu())
        self.sample.append(sample_R[known_R].cpu())


@dataclass
class _Reader:
    """Samples by index as (batch, captions of each sample, broken), in any process."""

    split: Split
    codec: TextCodec

    def __getitem__(self, indices: Sequence[int]) -> tuple[Batch | None, list[tuple[str, ...]], list[Broken]]:
        task = self.split.task
        items, captions, broken = list[Prepared](), list[tuple[str, ...]](), list[Broken]()
        for index in indices:
            try:
                sample = self.split.source.read(index)
                rng = numpy_stream(0, "evaluation", sample.id)
                items.append(prepare(task, sample, self.split.view, self.codec, None, rng))
                captions.append(sample.captions)
            except BrokenSample as error:
                broken.append(Broken(task=task.name, sample=error.sample, reason=error.reason))
        return collate(task, items, self.codec, self.split.index) if items else None, captions, broken


def batches(split: Split, settings: Settings) -> Iterator[tuple[Batch, list[tuple[str, ...]]]]:
    """The split's samples in order, batch by batch, with the captions of each; broken ones are left out.

    Raises:
        UserError: more broken samples than max(1, max_broken x size), or nothing but broken ones.
    """
    total = len(split.source)
    chosen = np.arange(total)
    if settings.limit and settings.limit < total:
        chosen = np.linspace(0, total - 1, settings.limit).astype(int)
    parts = [chosen[start : start + settings.batch].tolist() for start in range(0, len(chosen), settings.batch)]
    broken: list[Broken] = []
    done = good = 0
    for batch, captions, left_out in load(_Reader(split, settings.codec), iter(parts), settings.workers):
        broken += left_out
        for one in left_out:
            settings.on_broken(one)
        if len(broken) > max(1, settings.max_broken * total):
            raise UserError(
                f"{split.task.name}/{split.name}: {len(broken)} broken samples, more than data.max_broken allows; "
                f"the last: {broken[-1].sample}: {broken[-1].reason}"
            )
        done += len(captions) + len(left_out)
        if batch is not None:
            good += len(captions)
            yield to_device(batch, settings.device), captions
        settings.on_batch(done, len(chosen))
    if not good:
        raise UserError(f"{split.task.name}/{split.name}: no sample could be read")


def answers(model: AnyModel, split: Split, settings: Settings, candidates: Candidates) -> Answers:
    """Compare every read-out of the split with the candidates."""
    found, seen = Answers(), 0
    with torch.no_grad(), _autocast(settings):
        c_KD = represent_in_chunks(model, to_device(candidates, settings.device))
        for batch, captions in batches(split, settings):
            logits_RK = compare(model, split.task, input_features(model, batch), c_KD)
            found.add(logits_RK, batch.readout.target_R, batch.readout.row_R + seen)
            seen += len(captions)
    return found


def captions(
    model: AnyModel, split: Split, settings: Settings, vocabulary: Candidates
) -> tuple[Answers, list[str], list[tuple[str, ...]]]:
    """Score the words of the first caption of each sample, and write a caption for it; with its references."""
    found, written, references = Answers(), list[str](), list[tuple[str, ...]]()
    with torch.no_grad(), _autocast(settings):
        words_VD = represent_in_chunks(model, to_device(vocabulary, settings.device))
        for batch, given in batches(split, settings):
            scale = model.scale(split.task.temperature)
            found.add(
                logits(represent_inputs(model, batch), words_VD, scale),
                batch.readout.target_R,
                batch.readout.row_R + len(written),
            )
            written += write_captions(model, batch.inputs, words_VD, scale, settings)
            references += given
    return found, written, references


def write_captions(
    model: AnyModel, inputs: Sequences, words_VD: Tensor, scale: Tensor, settings: Settings
) -> list[str]:
    """A text for each visual input, by greedy or beam search."""
    prefix = Sequences(facts=inputs.facts, pixels_BTCHW=inputs.pixels_BTCHW)
    generated = generate(
        model,
        to_device(prefix_with_query(prefix, settings.codec.answer), settings.device),
        lambda x_RD: logits(unit(model.represent(x_RD), float32=model.likelihood_float32), words_VD, scale),
        end=settings.codec.end,
        beams=settings.beams,
        words=settings.max_words,
    )
    return [settings.codec.decode(ids.tolist()) for ids in generated.ids_BS]


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Representations of all inputs and all their captions."""

    z_ID: Tensor
    c_CD: Tensor
    owner_C: Tensor  # int64, which input a caption belongs to
    texts: list[str]


def gallery(model: AnyModel, split: Split, settings: Settings) -> Gallery:
    """Encode every input of the split and every one of its captions."""
    inputs, owners, texts = list[Tensor](), list[int](), list[str]()
    with torch.no_grad(), _autocast(settings):
        for batch, given in batches(split, settings):
            first = sum(len(z_BD) for z_BD in inputs)
            inputs.append(represent_inputs(model, batch))
            owners += [first + row for row, several in enumerate(given) for _ in several]
            texts += [text for several in given for text in several]
        ids = [settings.codec.encode(text) for text in texts]
        facts = split.task.facts("candidate", split.index)
        sequences = text_sequences(ids, facts, settings.codec.end, split.view.length)
        c_CD = represent_in_chunks(model, Candidates(sequences=to_device(sequences, settings.device)), chunk=256)
    return Gallery(z_ID=torch.cat(inputs), c_CD=c_CD, owner_C=torch.tensor(owners, device=c_CD.device), texts=texts)


def _autocast(settings: Settings) -> torch.autocast:
    return torch.autocast(settings.device.type, dtype=settings.autocast, enabled=settings.autocast is not None)
