"""RECIPE -> TASKS AND DATA: opened sources, the tasks on them, and a text encoder for their texts."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor

from uniperceiver.config import Recipe, TaskConfig
from uniperceiver.data.formats import Source, class_names, classes_of, open_source
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.errors import UserError, nearest
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import Task
from uniperceiver.tokenizers import bpe

SPLITS = ("train", "val", "test")
_TOKENIZER_TEXTS = 200_000  # most texts per source that the tokenizer is trained on
_COUNTED_TEXTS = 5_000  # texts per source whose tokens are counted for sampling candidates


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """A task of the run with its opened sources."""

    task: Task
    index: int | None  # among the tasks of the run; None: a task that the model was not trained on
    config: TaskConfig
    sources: Mapping[str, Source]  # by split
    preprocess: Preprocess  # at the end of training


def open_tasks(recipe: Recipe, base: Path, splits: tuple[str, ...] = SPLITS) -> list[TaskData]:
    """The recipe's tasks with their data opened; relative paths start at `base`.

    Raises:
        UserError: unknown kind, data that are not there, classes that do not match, sizes that do not fit.
    """
    return [
        _open_task(name, index, config, recipe, base, splits)
        for index, (name, config) in enumerate(recipe.tasks.items())
    ]


def _open_task(
    name: str, index: int, config: TaskConfig, recipe: Recipe, base: Path, splits: tuple[str, ...]
) -> TaskData:
    where = f"tasks.{name}"
    if config.kind not in CATALOGUE:
        raise UserError(f"{where}.kind: unknown kind {config.kind!r}; {nearest(config.kind, CATALOGUE)}")
    sources = {}
    specs = {"train": config.train, "val": config.val, "test": config.test}
    for split in splits:
        if (spec := specs[split]) is not None:
            sources[split] = open_source(spec, f"{where}.{split}", base)
    if not sources:
        raise UserError(f"{where}: has no data; give train: {{format: ..., path: ...}}")
    task = dataclasses.replace(CATALOGUE[config.kind], name=name)
    if task.answer.has_labels:
        task = dataclasses.replace(task, labels=_labels(config, sources, where))
    elif config.labels is not None:
        raise UserError(f"{where}.labels: a task of kind {config.kind!r} has no labels; remove the key")
    mixes = config.augment.mixup or config.augment.cutmix
    if mixes and (not task.answer.has_labels or task.inputs != (task.visual,)):
        raise UserError(f"{where}.augment: mixup and cutmix need pictures alone as input and labels as candidates")
    if config.template is not None:
        try:
            task = dataclasses.replace(task, template=config.template)
        except ValueError as error:
            raise UserError(f"{where}.template: {error}") from None
    preprocess = Preprocess(
        size=config.late.size or config.size,
        frames=config.late.frames or config.frames,
        stride=config.stride,
        length=config.length,
    )
    return TaskData(task=task, index=index, config=config, sources=sources, preprocess=preprocess)


def _labels(config: TaskConfig, sources: Mapping[str, Source], where: str) -> tuple[tuple[str, ...], ...]:
    """The texts of every class, which must be the same classes in all splits."""
    first, *others = sources
    texts, names = classes_of(sources[first], f"{where}.{first}"), class_names(sources[first])
    for split in others:
        if class_names(sources[split]) != names:
            raise UserError(
                f"{where}.{split}: its classes {class_names(sources[split])} are not those of {first}: {names}; "
                "give every split a folder (or entry) for each class"
            )
    if config.labels is None:
        return texts
    assert names is not None
    for name in config.labels:
        if name not in names:
            raise UserError(f"{where}.labels: no class {name!r} in the data; {nearest(name, names)}")
    given = {name: (value,) if isinstance(value, str) else tuple(value) for name, value in config.labels.items()}
    return tuple(given.get(name, default) for name, default in zip(names, texts, strict=True))


def text_encoder(recipe: Recipe, tasks: list[TaskData], base: Path) -> bpe.TextEncoder:
    """The recipe's tokenizer: an existing file, or a BPE trained on the texts of the training sources."""
    if isinstance(recipe.model.vocabulary, str):
        return bpe.from_file(base / recipe.model.vocabulary)
    texts = chain.from_iterable(_some_texts(data, _TOKENIZER_TEXTS) for data in tasks)
    return bpe.train(texts, size=recipe.model.vocabulary, lowercase=recipe.model.lowercase)


def _some_texts(data: TaskData, most: int) -> Iterator[str]:
    source = data.sources.get("train") or next(iter(data.sources.values()))
    yield from (text for texts in data.task.labels for text in texts)
    if data.task.template:
        yield data.task.template.replace("{text}", "").replace("{answer}", "")
    yield from islice(source.texts(), most)


def proposal(codec: bpe.TextEncoder, tasks: list[TaskData]) -> Tensor:
    """Weights of vocabulary entries as sampled candidates: (1 + occurrences) ** 0.75 in some of the texts."""
    counts = torch.ones(codec.size, dtype=torch.float64)
    for data in tasks:
        if data.task.answer.from_vocabulary:
            for text in _some_texts(data, _COUNTED_TEXTS):
                ids = torch.tensor(codec.encode(text), dtype=torch.int64)
                counts += torch.bincount(ids, minlength=codec.size)
    return counts**0.75
