"""The questions that an export answers.

Shape suffixes: N items, K candidates, D width.
"""

from collections.abc import Iterable
from functools import partial
from typing import NoReturn

import numpy as np

from uniperceiver.errors import UserError
from uniperceiver.modalities import TEXT
from uniperceiver.records.exported import ExportedTask
from uniperceiver.runner.choice import asked_of, chosen, graph_of, media_of, refuse_other_modality
from uniperceiver.runner.locating import LocatingGraphs
from uniperceiver.runner.reading import Reading
from uniperceiver.runner.writing import CaptionWriter
from uniperceiver.serving import inputs
from uniperceiver.serving.asking.explained import Explained
from uniperceiver.serving.asking.labels import classifies, labels_asked, refuse_no_labels, same_labels
from uniperceiver.serving.asking.numbers import check_caption
from uniperceiver.serving.values import Media, at_hand
from uniperceiver.tasks.prompts import filled


class AnsweringGraphs(LocatingGraphs):
    """An exported model with its tokenizer and tasks, which answers questions about what it is shown."""

    def encode_image(self, images: Media | Iterable[Media], task: str | None = None) -> np.ndarray:
        """Unit representations of images, (N, D) float32."""
        return self._encode_media("encode_image", "image", images, task)

    def encode_video(self, clips: Media | Iterable[Media], task: str | None = None) -> np.ndarray:
        """Unit representations of clips, (N, D) float32."""
        return self._encode_media("encode_video", "video", clips, task)

    def encode_audio(self, sounds: Media | Iterable[Media], task: str | None = None) -> np.ndarray:
        """Unit representations of sounds, (N, D) float32.

        Raises:
            UserError: no exported task looks at sounds.
        """
        return self._encode_media("encode_audio", "audio", sounds, task)

    def encode_text(self, texts: str | Iterable[str], task: str | None = None) -> np.ndarray:
        """Unit representations of texts as candidates of retrieval, (N, D) float32; how many were cut is said."""
        asked = chosen(self._exported, "encode_text", asked_of(task), TEXT, lambda asked: True)
        candidates = inputs.text_list(texts)
        return self._engine.represent("encode_text", asked, candidates, cut=True)

    def classify(
        self,
        images: Media | Iterable[Media] | str | Iterable[str],
        labels: Iterable[str | Iterable[str]] | None = None,
        task: str | None = None,
        *,
        texts: str | Iterable[str] | None = None,
        template: str | Iterable[str] | None = None,
        modality: str | None = None,
    ) -> np.ndarray:
        """Probability of every label for every input, (N, len(labels)) float32; rows add up to 1.

        Args:
            images: images, clips, sounds or texts.
            labels: a text, or several texts, per class, two classes or more; None: the labels of `task`.
            texts: for a task that reads a picture and a text: the text for each input, or one for all.
            template: a text, or several, into which each label is put: "a photo of {label}".
            modality: "image", "video", "audio" or "text", where the inputs leave it open.

        Raises:
            UserError: neither labels nor a task with labels, an unknown task, or an unreadable input.
        """
        images, texts = at_hand(images), at_hand(texts)
        if task is None and modality is None and texts is None and (places := inputs.places_by_modality(images)):
            labels = at_hand(labels)
            ask = partial(self.classify, labels=labels, template=template)
            return np.stack(inputs.in_order(places, images, lambda name, part: ask(part, modality=name)))
        why = self.explain(images, labels, task, texts=texts, template=template, modality=modality)
        return why.probability_NK

    def explain(
        self,
        images: Media | Iterable[Media] | str | Iterable[str],
        labels: Iterable[str | Iterable[str]] | None = None,
        task: str | None = None,
        *,
        texts: str | Iterable[str] | None = None,
        template: str | Iterable[str] | None = None,
        modality: str | None = None,
        decisions: bool = False,
    ) -> Explained[np.ndarray]:
        """What the answers of `classify` are made of: cosines and the temperature.

        Args:
            decisions: False: what gates decide is not exported; the others are those of `classify`.

        Raises:
            UserError: as `classify`.
        """
        if decisions:
            self.routing()
        images, texts, task = at_hand(images), at_hand(texts), asked_of(task)
        seen = inputs.modality_of(images, self._modality_asked(task) if modality is None else modality)
        asked = chosen(
            self._exported,
            "classify",
            task,
            seen if texts is None or seen == TEXT else f"{seen} {TEXT}",
            lambda asked: classifies(asked.question, asked.inputs, with_text=texts is not None),
        )
        refuse_other_modality("classify", asked, modality)
        named, c_KD = self._labels(asked, labels, template)
        samples = inputs.with_texts(inputs.samples_of(media_of(asked) or (TEXT,), images), texts)
        cosine_NK, probability_NK = self._engine.comparison(asked, samples, c_KD)
        return Explained(
            labels=tuple(texts[0] for texts in named),
            cosine_NK=cosine_NK,
            probability_NK=probability_NK,
            temperature=1 / asked.scale,
        )

    def caption(
        self,
        images: Media | Iterable[Media],
        beam: int = 2,
        task: str | None = None,
        *,
        max_words: int = 21,
        length_penalty: float = 0.0,
    ) -> list[str]:
        """A caption for every image, clip or sound, by beam search (greedy with beam=1).

        Args:
            max_words: most tokens of a caption, 1 or more.
            length_penalty: above 0, scores are divided by (number of words + 1) to that power: longer captions.
        """
        check_caption(beam, self.codec.size, max_words, length_penalty)
        images, task = at_hand(images), asked_of(task)
        if task is None and (places := inputs.places_by_modality(images)):
            write = partial(self.caption, beam=beam, max_words=max_words, length_penalty=length_penalty)
            return inputs.in_order(places, images, lambda _, part: write(part))
        seen = inputs.modality_of(images, self._modality_asked(task), text=False)
        asked = chosen(self._exported, "caption", task, seen, lambda asked: asked.question == "caption")
        begin, step = graph_of(asked, "caption_graphs", "caption")
        words_VD = self._folder.vectors(str(asked.vectors))
        scale = np.float32(asked.scale)
        writer = CaptionWriter(
            folder=self._folder,
            begin=begin,
            step=step,
            logits_of=lambda z_RD: (z_RD * scale) @ words_VD.T,
            end=self.codec.end,
        )
        reading, texts = Reading(asked, self.codec), list[str]()
        for samples in self._engine.batches(inputs.samples_of(media_of(asked), images)):
            words = min(max_words, self._exported.max_text)
            ids_BS = writer.write(reading.media(samples), beams=beam, words=words, length_penalty=length_penalty)
            texts += [self.codec.decode(ids) for ids in ids_BS.tolist()]
        return texts

    def rank(self, images: Media | Iterable[Media], texts: Iterable[str], task: str | None = None) -> np.ndarray:
        """Cosine similarity of every image, clip or sound with every text, (N, len(texts)) float32, -1 to 1."""
        images, task = at_hand(images), asked_of(task)
        if task is None and (places := inputs.places_by_modality(images)):
            named = inputs.text_list(texts)
            return np.stack(inputs.in_order(places, images, lambda _, part: self.rank(part, named)))
        seen = inputs.modality_of(images, self._modality_asked(task), text=False)
        asked = chosen(self._exported, "rank", task, seen, lambda asked: bool(media_of(asked)))
        candidates = inputs.text_list(texts)
        z_ND = self._engine.encode("rank", asked, inputs.samples_of(media_of(asked), images))
        if not candidates:
            return np.empty((len(z_ND), 0), dtype=np.float32)
        key = (candidates, asked.text_graph, asked.view.get("length"))
        return z_ND @ self._cache.get(key, lambda: self._engine.represent("rank", asked, candidates, cut=True)).T

    def routing(self, *_: object, **__: object) -> NoReturn:
        """What gates decide is not exported.

        Raises:
            UserError: always; ask the model itself.
        """
        raise UserError("routing: what gates decide is not exported; ask the model itself (uniperceiver.load)")

    def _modality_asked(self, task: str | None) -> str | None:
        """The first modality that a task looks at; None: no task is named, or it is unknown, which is said later."""
        return self._exported.tasks[task].inputs[0] if task in self._exported.tasks else None

    def _encode_media(self, call: str, modality: str, items: Media | Iterable[Media], task: str | None) -> np.ndarray:
        asked = chosen(self._exported, call, asked_of(task), modality, lambda asked: modality in asked.inputs)
        return self._engine.encode(call, asked, inputs.samples_of((modality,), items))

    def _labels(
        self, asked: ExportedTask, labels: Iterable[str | Iterable[str]] | None, template: str | Iterable[str] | None
    ) -> tuple[tuple[tuple[str, ...], ...], np.ndarray]:
        """The classes, and their representations, (K, D)."""
        named = labels_asked(asked.labels, labels, template, self.codec.clean)
        refuse_no_labels("classify", named)
        if asked.own_labels_only and same_labels(named) != same_labels(asked.labels):
            raise UserError(
                f"task {asked.name!r}: this model was tuned with parameters for each class, so other labels mean "
                "nothing to it; use its own labels, or the model that it was made from"
            )
        as_trained = named == asked.labels and template is None
        if asked.vectors is not None and (as_trained or asked.own_labels_only):
            return named, self._folder.vectors(asked.vectors)
        texts = filled(named, asked.prompts if template is None else ())
        return named, self._cache.get((texts, asked.text_graph), lambda: self._engine.represent_classes(asked, texts))
