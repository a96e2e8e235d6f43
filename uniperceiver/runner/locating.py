"""The questions about things in pictures that an export answers.

Shape suffixes: D width, X names and the background.
"""

from collections.abc import Iterable

import numpy as np

from uniperceiver.errors import UserError
from uniperceiver.records.exported import ExportedTask
from uniperceiver.records.regions import BACKGROUND, LEAST, MOST, Detections
from uniperceiver.runner.choice import asked_of, chosen, graph_of
from uniperceiver.runner.folder import ExportedFolder
from uniperceiver.runner.graph_engine import GraphEngine, finite
from uniperceiver.runner.reading import Reading
from uniperceiver.runner.things import detections_of, seen
from uniperceiver.runner.vector_cache import VectorCache
from uniperceiver.serving import inputs
from uniperceiver.serving.asking.labels import labels_of_things
from uniperceiver.serving.asking.numbers import check_things
from uniperceiver.serving.values import Media
from uniperceiver.tasks.prompts import filled
from uniperceiver.tokenizers.bpe import TextEncoder


class LocatingGraphs:
    """An exported model with its tokenizer and tasks, which finds things in pictures.

    Args:
        folder: the export.
        codec: its text encoder.
        batch: items encoded together.
    """

    def __init__(self, folder: ExportedFolder, codec: TextEncoder, batch: int) -> None:
        self._folder, self.codec = folder, codec
        self._exported = folder.exported
        self._cache = VectorCache()
        self._engine = GraphEngine(folder, codec, batch)

    def detect(
        self,
        images: Media | Iterable[Media],
        labels: Iterable[str | Iterable[str]] | None = None,
        task: str | None = None,
        *,
        least: float = LEAST,
        most: int = MOST,
    ) -> list[Detections]:
        """The things in every image, best first: boxes in pixels of the upright image, scores and labels.

        Args:
            labels: what may be there: a text, or several, per class; None: the labels of `task`.
            least: score, from 0 to 1, below which a thing is left out.
            most: things of an image.

        Raises:
            UserError: no task of things, neither labels nor a task with labels, an unreadable image.
        """
        return self._located("detect", images, labels, task, least, most)

    def segment(
        self,
        images: Media | Iterable[Media],
        labels: Iterable[str | Iterable[str]] | None = None,
        task: str | None = None,
        *,
        least: float = LEAST,
        most: int = MOST,
    ) -> list[Detections]:
        """As `detect`, with a mask for each thing."""
        return self._located("segment", images, labels, task, least, most)

    def _located(
        self,
        call: str,
        images: Media | Iterable[Media],
        labels: Iterable[str | Iterable[str]] | None,
        task: str | None,
        least: float,
        most: int,
    ) -> list[Detections]:
        check_things(call, least, most)
        masks = call == "segment"
        fits = {
            name: other.question == "detect" and (other.masks or not masks)
            for name, other in self._exported.tasks.items()
        }
        asked = chosen(self._exported, call, asked_of(task), "image", lambda asked: fits.get(asked.name, False))
        graph, reading = graph_of(asked, "things_graph", call), Reading(asked, self.codec)
        single = any(len(self._exported.tasks[name].labels) == 1 for name, fit in fits.items() if fit)
        alone = asked.class_term != "softmax" or single
        named = labels_of_things(call, asked.labels, labels, alone=alone, clean=self.codec.clean)
        if not named:
            own = ", ".join(name for name, fit in fits.items() if fit)
            raise UserError(f"{call}: give labels=[...], or task= the name of a task of the run: {own or '(none)'}")
        c_XD = self._names(asked, named)
        located: list[Detections] = []
        for samples in self._engine.batches(inputs.samples_of(("image",), images)):
            views = list(seen(samples, reading.view))
            outputs = [finite(values) for values in self._folder.run(graph, reading.media(views))]
            for place, view in enumerate(views):
                assert view.things is not None
                proposals, names = [values[place] for values in outputs], [texts[0] for texts in named]
                located.append(
                    detections_of(asked, view.things, proposals, c_XD, names, least=least, most=int(most), masks=masks)
                )
        return located

    def _names(self, asked: ExportedTask, named: tuple[tuple[str, ...], ...]) -> np.ndarray:
        """Representations of the names of things, and of the background where that is one of the candidates, (X, D)."""
        if asked.vectors is not None and named == asked.labels:
            return self._folder.vectors(asked.vectors)
        texts = filled((*named, (BACKGROUND,)) if asked.class_term == "background" else named, asked.prompts)
        return self._cache.get((texts, asked.text_graph), lambda: self._engine.represent_classes(asked, texts))
