"""TEXTS -> VOCABULARY: the text encoder of a recipe, and how often its entries occur.

Shape suffixes: V entries of the vocabulary.
"""

from collections.abc import Iterator
from itertools import chain, islice, repeat
from pathlib import Path

import torch
from torch import Tensor

from uniperceiver.config import Recipe
from uniperceiver.data.formats import Source
from uniperceiver.data.tasks import TaskData
from uniperceiver.tokenizers import bpe

_TOKENIZER_TEXTS = 200_000  # most texts per source that the tokenizer is trained on
_COUNTED_TEXTS = 5_000  # texts per source whose tokens are counted for sampling candidates


def text_encoder(recipe: Recipe, tasks: list[TaskData], base: Path) -> bpe.TextEncoder:
    """Make the recipe's text encoder: that of an existing file, or a BPE trained on the texts of the training data.

    Raises:
        UserError: the file is no vocabulary, or model.vocabulary is too small.
    """
    if isinstance(recipe.model.vocabulary, str):
        return bpe.from_file(base / recipe.model.vocabulary)
    return bpe.train(_all_texts(tasks), size=recipe.model.vocabulary, lowercase=recipe.model.lowercase)


def _all_texts(tasks: list[TaskData]) -> Iterator[str]:
    """The training texts of all tasks; data that several of them have are read once.

    A BPE depends on how often a text comes, not on when.
    """
    sharing: list[list[TaskData]] = []  # tasks that are trained on the same data
    for data in tasks:
        described = data.config.train if "train" in data.sources else None
        alike = (others for others in sharing if described and described == others[0].config.train)
        others = next((others for others in alike if data.config.prompts == others[0].config.prompts), None)
        if others is None:
            sharing.append([data])
        else:
            others.append(data)
    for owners in sharing:
        yield from chain.from_iterable(map(_task_texts, owners))
        for text in islice(_training_source(owners[0]).texts(), _TOKENIZER_TEXTS):
            yield from repeat(text, len(owners))


def _training_texts(data: TaskData, most: int) -> Iterator[str]:
    """The texts of a task's labels and template, and the first `most` of its training data."""
    yield from _task_texts(data)
    yield from islice(_training_source(data).texts(), most)


def _training_source(data: TaskData) -> Source:
    return data.sources.get("train") or next(iter(data.sources.values()))


def _task_texts(data: TaskData) -> Iterator[str]:
    """The texts of a task's labels and template."""
    yield from (text for texts in data.task.class_texts(training=True) for text in texts)
    if data.task.template:
        yield data.task.template.replace("{text}", "").replace("{answer}", "")


def proposal(codec: bpe.TextEncoder, tasks: list[TaskData]) -> Tensor:
    """Weigh vocabulary entries for sampling candidates: (1 + occurrences) ** 0.75 in some texts, (V,) float64 >= 1."""
    count_V = torch.ones(codec.size, dtype=torch.float64)
    for data in tasks:
        if data.task.answer.from_vocabulary:
            for text in _training_texts(data, _COUNTED_TEXTS):
                ids = torch.tensor(codec.encode(text), dtype=torch.int64)
                count_V += torch.bincount(ids, minlength=codec.size)
    return count_V**0.75
