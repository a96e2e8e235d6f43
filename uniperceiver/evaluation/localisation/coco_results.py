"""DETECTIONS -> COCO RESULTS: what was found in a split as the entries of a results file, with the ids of the data."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from uniperceiver.atomic import write_text
from uniperceiver.data.formats import Source
from uniperceiver.records.regions import Detections

Id = int | str


@runtime_checkable
class CocoNumbered(Protocol):
    """A source whose files give ids to pictures and classes."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the files call each class."""

    @property
    def category_ids(self) -> Mapping[str, Id]:
        """The id of each class, by that name; empty: the files have none."""

    @property
    def image_ids(self) -> Iterable[str] | None:
        """The id of each picture as JSON, in order; None: the files have none."""

    def names(self) -> Iterator[tuple[str, ...]]:
        """What a list may call each picture, in order; its sample's id first."""


@dataclass(frozen=True, kw_only=True)
class CocoIds:
    """The ids that data give their pictures and classes."""

    images: Mapping[str, Id]  # by the name of a sample
    categories: tuple[Id, ...]  # of each class, in order

    @classmethod
    def of(cls, source: Source) -> "CocoIds | None":
        """Those of a source, or of the source that it is a part of; None: there are none."""
        while not isinstance(source, CocoNumbered):
            whole: Source | None = getattr(source, "whole", None)
            if whole is None:
                return None
            source = whole
        if source.image_ids is None or not source.category_ids:
            return None
        return cls(
            images={name[0]: json.loads(image) for name, image in zip(source.names(), source.image_ids, strict=True)},
            categories=tuple(source.category_ids[name] for name in source.class_names),
        )


@dataclass(frozen=True, kw_only=True)
class CocoResults:
    """Gathers the entries of a results file, picture by picture: what `Settings.on_detections` may be told."""

    ids: CocoIds | None  # None: pictures are called by their samples' names, and classes 1, 2, ... in their order
    entries: list[dict[str, Any]] = field(default_factory=list)

    def add(self, sample: str, picture: Detections) -> None:
        """Take in what was found in a picture; masks become run lengths, which are small."""
        if self.ids is None:
            self.entries.extend(picture.as_coco(sample))
            return
        categories = dict(zip(picture.names, self.ids.categories, strict=True))
        self.entries.extend(picture.as_coco(self.ids.images.get(sample, sample), categories))

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all: a JSON list, as `COCO.loadRes` and evaluation servers take it."""
        write_text(path, json.dumps(self.entries))
