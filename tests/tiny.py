"""A tiny model with weights that are not trivial, a text encoder, and samples and batches made from scenes."""

from dataclasses import replace
from functools import cache
from itertools import islice
from typing import Any

import numpy as np
import torch

from uniperceiver import AugmentConfig
from uniperceiver.data.batch import Prepared, collate, prepare
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.records import Batch
from uniperceiver.records.sounds import Sound, SoundShape
from uniperceiver.streams import numpy_stream, torch_stream
from uniperceiver.tasks.candidates import Candidates, label_candidates, vocabulary_candidates
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import Task, temperatures_of
from uniperceiver.tokenizers import bpe
from uniperceiver.tokenizers.join import USUAL

WIDTH, PATCH = 16, 16
SOUND = SoundShape(rate=8000, mels=8, patch=(4, 4), mean=-5.0, deviation=3.0)
VIEW = Preprocess(size=32, frames=2, length=12, seconds=0.256, sound=SOUND)  # 2 x 2 patches, of sounds likewise


@cache
def tiny_codec() -> bpe.TextEncoder:
    """A byte-level BPE of 320 entries, made from captions and paragraphs of scenes."""
    texts = (text for view in ("image", "text") for text in islice(ScenesSource(items=60, view=view).texts(), 120))
    return bpe.train(texts, size=320, lowercase=True)


def tiny_architecture(**fields: object) -> Architecture:
    """Two layers of width 16 for the vocabulary of `tiny_codec`; `fields` are other values."""
    codec = tiny_codec()
    values: dict[str, object] = {
        **{"width": WIDTH, "layers": 2, "heads": 2, "ffn": 24, "patch": PATCH, "max_text": 64, "max_frames": 4},
        **{"vocabulary": codec.size, "end": codec.end, "answer": codec.answer, "reference_grid": 2.0, "table_grid": 2},
    }
    return Architecture(**{**values, **fields})


def hearing(task: Task) -> dict[str, Any]:
    """What the architecture of a model needs for this task beside what all have: nothing, unless it hears."""
    if not task.hears:
        return {}
    return {"tokenizers": (*USUAL, "sound"), "sound": SOUND}


def tiny_model(seed: int = 0, **fields: object) -> Generalist:
    """A model of `tiny_architecture`; also norms, biases, LayerScale and temperatures are random."""
    arch = tiny_architecture(**fields)
    model = build(arch, temperatures_of(arch.tokenizers), torch_stream(seed, "weights"))
    stream = torch_stream(seed, "more weights")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=stream)
            if name.endswith(("scale1", "scale2")):
                parameter.copy_(0.6 + 0.2 * noise)
            elif "norm" in name or "bias" in name or "temperatures" in name:
                parameter.add_(0.2 * noise)
            elif "tokenizer.words" in name:
                parameter.copy_(0.7 * noise)
    return model


def tiny_source(task: Task, items: int = 24) -> ScenesSource:
    """Scenes as this task wants to see them, labelled by the shape of the largest thing."""
    view = {"image": "image", "video": "clip"}.get(task.visual or "", "image" if task.hears else "text")
    label = "shape" if task.answer.has_labels else "none"
    return ScenesSource(items=items, view=view, pixels=32, frames=3, label=label)


def tiny_task(name: str) -> Task:
    """A task of the catalogue, its labels (if any) the shapes of scenes."""
    task = CATALOGUE[name]
    return replace(task, labels=tiny_source(task).classes) if task.answer.has_labels else task


def tiny_prepared(
    task: Task, size: int = 3, *, preprocess: Preprocess = VIEW, augment: AugmentConfig | None = None
) -> list[Prepared]:
    """The first samples of `tiny_source`, prepared."""
    source = tiny_source(task)
    samples = [source.read(index) for index in range(size)]
    if task.media and task.answer.reads_text(task):  # scenes have no questions
        samples = [replace(sample, text=sample.captions[0]) for sample in samples]
    if task.hears:  # 0.2 to 0.4 seconds: with silence around, or cut
        samples = [sample.with_value("audio", tiny_sound(index)) for index, sample in enumerate(samples)]
    return [
        prepare(task, sample, preprocess, tiny_codec(), augment, numpy_stream(0, "tiny", index))
        for index, sample in enumerate(samples)
    ]


def tiny_sound(index: int) -> Sound:
    """A tone in noise, of 0.2 seconds and more, as a sound of two channels at another rate than the model's."""
    rng = numpy_stream(0, "tiny sound", index)
    time_L1 = np.arange(round(11_025 * (0.2 + 0.1 * index)))[:, None] / 11_025
    x_L2 = 0.3 * np.sin(2 * np.pi * (200 + 300 * index) * time_L1) + rng.normal(0, 0.01, (len(time_L1), 2))
    return Sound(x_L2.astype(np.float32), 11_025)


def tiny_batch(
    task: Task | str, size: int = 3, *, preprocess: Preprocess = VIEW, augment: AugmentConfig | None = None
) -> Batch:
    """A batch of scenes for a task, by itself or by its name in the catalogue; texts differ in length."""
    task = tiny_task(task) if isinstance(task, str) else task
    return collate(task, tiny_prepared(task, size, preprocess=preprocess, augment=augment), tiny_codec())


def tiny_candidates(task: Task, batch: Batch) -> Candidates:
    """All candidates of a batch, as evaluation compares them."""
    if batch.candidates is not None:
        return Candidates(sequences=batch.candidates)
    return label_candidates(task, tiny_codec(), None) if task.labels else vocabulary_candidates(task, tiny_codec())
