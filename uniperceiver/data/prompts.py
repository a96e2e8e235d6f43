"""Prompts of a recipe: texts for the classes of a task, or captions that are made of the labels of samples."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from uniperceiver.config import TaskConfig
from uniperceiver.data.formats import Source
from uniperceiver.errors import UserError
from uniperceiver.modalities import TEXT
from uniperceiver.records import Sample
from uniperceiver.tasks.prompts import LABEL, filled, wrong_prompt
from uniperceiver.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class CaptionedByLabel:
    """A source whose captions are its labels in words: of a sample without a label there are none."""

    whole: Source
    texts_of_class: tuple[tuple[str, ...], ...]

    def __getattr__(self, name: str) -> Any:
        """What the source says of itself: its classes, its notes, names of samples."""
        if name == "whole":  # not there yet, as when a copy is made
            raise AttributeError(name)
        return getattr(self.whole, name)

    @property
    def classes(self) -> tuple[tuple[str, ...], ...] | None:
        """The texts of each class."""
        return self.whole.classes

    def __len__(self) -> int:
        return len(self.whole)

    def read(self, index: int) -> Sample:
        """The sample, which shares its captions with all others of its class."""
        sample = self.whole.read(index)
        if sample.label is None:
            return dataclasses.replace(sample, captions=())
        return dataclasses.replace(sample, captions=self.texts_of_class[sample.label], captioned_by_label=True)

    def texts(self) -> Iterator[str]:
        """Every caption that there may be, once."""
        return (text for texts in self.texts_of_class for text in texts)


def refuse_prompts(task: Task, config: TaskConfig, where: str) -> None:
    """Refuse prompts before classes are looked for in the data.

    Raises:
        UserError: a prompt without a place for the label, or with two; a task that can use none.
    """
    for key, prompts in (("prompts", config.prompts), ("evaluation_prompts", config.evaluation_prompts)):
        if (wrong := wrong_prompt(prompts)) is not None:
            raise UserError(f"{where}.{key}: {wrong!r}: write {LABEL} once, where the label stands")
    if not task.answer.has_labels and not (task.answer.among_batch and task.target == TEXT):
        raise UserError(f"{where}.prompts: a task of kind {config.kind!r} compares no texts of labels; remove the key")
    if not config.prompts:
        raise UserError(f"{where}.evaluation_prompts: have no meaning without prompts; give prompts, too")


def with_prompts(
    task: Task, config: TaskConfig, sources: dict[str, Source], labels: Sequence[Sequence[str]], where: str
) -> tuple[Task, dict[str, Source]]:
    """The task and its sources with the prompts of a recipe.

    Args:
        labels: texts of each class.
    """
    training, evaluation = tuple(config.prompts), tuple(config.evaluation_prompts)
    if task.answer.has_labels:
        return dataclasses.replace(task, prompts=training, evaluation_prompts=evaluation), sources
    texts = {split: filled(labels, training if split == "train" else evaluation or training) for split in sources}
    captioned: dict[str, Source] = {
        split: CaptionedByLabel(whole=source, texts_of_class=texts[split]) for split, source in sources.items()
    }
    return task, captioned
