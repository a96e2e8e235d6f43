"""RECIPE -> DATA SETS: the sources that its tasks name, each once, with all that read them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from uniperceiver.data.batch import media_read
from uniperceiver.data.formats import Source
from uniperceiver.data.prepare.inspector import DataSet, Use
from uniperceiver.data.tasks import TaskData
from uniperceiver.modalities import MODALITIES, TEXT


@dataclass(frozen=True, kw_only=True)
class Reader:
    """A split of a task."""

    data: TaskData
    split: str

    @property
    def spec(self) -> Mapping[str, Any]:
        """What the recipe says of its source."""
        spec: Mapping[str, Any] = getattr(self.data.config, self.split)
        return spec

    @property
    def source(self) -> Source:
        """The opened source."""
        return self.data.sources[self.split]

    @property
    def media(self) -> tuple[str, ...]:
        """What its task looks at or hears; nothing: it reads texts. Texts beside media are captions."""
        return media_read(self.data.task)

    @property
    def use(self) -> Use:
        """The same for reading."""
        data = self.data
        return Use(
            name=f"{data.task.name}/{self.split}",
            task=data.task,
            preprocess=data.preprocess,
            training=self.split == "train",
        )


@dataclass(frozen=True, kw_only=True)
class RecipeSet:
    """The splits of tasks that read one and the same source."""

    readers: tuple[Reader, ...]

    @property
    def spec(self) -> Mapping[str, Any]:
        """What the recipe says of it."""
        return self.readers[0].spec

    @property
    def media(self) -> tuple[str, ...]:
        """The media that some of them looks at or hears."""
        return tuple(name for name in MODALITIES if any(name in reader.media for reader in self.readers))

    @property
    def rate(self) -> int | None:
        """Samples a second of what is heard; None: nothing is."""
        shapes = (reader.data.preprocess.sound for reader in self.readers)
        return next((shape.rate for shape in shapes if shape is not None), None)

    @property
    def samples(self) -> DataSet:
        """The same for reading."""
        return DataSet(source=self.readers[0].source, uses=tuple(reader.use for reader in self.readers))


def sets_of(tasks: Sequence[TaskData], *, by_modality: bool = False) -> list[RecipeSet]:
    """The different sources of tasks, in the order in which the recipe names them.

    Args:
        by_modality: a source whose media some tasks look at or hear, and others read its texts, is two sets.
    """
    readers: dict[tuple[str, str], list[Reader]] = {}
    for data in tasks:
        for split in data.sources:
            reader = Reader(data=data, split=split)
            key = (json.dumps(reader.spec, sort_keys=True), TEXT if by_modality and not reader.media else "")
            readers.setdefault(key, []).append(reader)
    return [RecipeSet(readers=tuple(readers_of_set)) for readers_of_set in readers.values()]
