"""The questions that a loaded model answers.

Shape suffixes: N items, K candidates, D width.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from uniperceiver.devices import device_of, dtype_of
from uniperceiver.errors import UserError, warn
from uniperceiver.modalities import TEXT
from uniperceiver.records import Sample, to_device
from uniperceiver.records.regions import LEAST, MOST, Detections
from uniperceiver.serving import inputs
from uniperceiver.serving.asking.explained import Explained
from uniperceiver.serving.asking.numbers import check_caption
from uniperceiver.serving.engine.engine import Engine, finite
from uniperceiver.serving.engine.explained import explained
from uniperceiver.serving.engine.routing import GateDecision, gate_decisions
from uniperceiver.serving.engine.samples import ReadWhenAsked, samples_at_hand
from uniperceiver.serving.regions.detect import detections, drawn
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.serving.task_choice import (
    fitting,
    for_texts,
    media_alone,
    modality_asked,
    refuse_other_modality,
    to_classify,
)
from uniperceiver.serving.values import Media, at_hand, shown
from uniperceiver.tasks.decode import generate, prefix_with_query
from uniperceiver.tasks.likelihood import logits, unit
from uniperceiver.tasks.task import Task


class Encoding:
    """A model with its tokenizer, preprocessing and tasks, which represents what it is shown.

    Args:
        saved: the parts of the model.
        device: where it computes.
        batch: items encoded together.
        home: the folder that it was loaded from, if any.
        dtype: what it computes in: float32, bfloat16 or float16, by name or as torch's; "auto": bfloat16 where the
            device has instructions for it. Weights and answers are float32.
    """

    def __init__(
        self,
        saved: SavedModel,
        device: str | torch.device = "cpu",
        batch: int = 64,
        home: Path | None = None,
        dtype: str | torch.dtype = "float32",
    ) -> None:
        self.saved, self.model, self.codec = saved, saved.model, saved.codec
        if not isinstance(batch, int) or isinstance(batch, bool) or batch < 1:
            raise UserError(f"batch must be a number of items, 1 or more, found {shown(batch)}")
        self.device, self.batch = device_of(str(device)), batch
        self._engine = Engine(saved, self.device, batch, home, dtype_of(dtype, self.device))
        self._writes = any(task.answer.causal for task in self.tasks.values()) or not self.tasks

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks that the model was trained on, by name."""
        return MappingProxyType({name: trained.task for name, trained in self.saved.tasks.items()})

    def encode_image(self, images: Media | Iterable[Media], task: str | Task | None = None) -> Tensor:
        """Unit representations of images, (N, D) float32."""
        return self._encoded("encode_image", "image", images, task)

    def encode_video(self, clips: Media | Iterable[Media], task: str | Task | None = None) -> Tensor:
        """Unit representations of clips, (N, D) float32."""
        return self._encoded("encode_video", "video", clips, task)

    def encode_audio(self, sounds: Media | Iterable[Media], task: str | Task | None = None) -> Tensor:
        """Unit representations of sounds, (N, D) float32: of files, also clips, of bytes, or of a `Sound`."""
        return self._encoded("encode_audio", "audio", sounds, task)

    def _encoded(self, call: str, modality: str, items: Any, task: str | Task | None) -> Tensor:
        chosen = fitting(self.saved, call, task, "rank", modality, lambda task: modality in task.inputs)
        return self._engine.encode(chosen, inputs.samples_of((modality,), items))

    def encode_text(self, texts: str | Iterable[str], task: str | Task | None = None) -> Tensor:
        """Unit representations of texts as candidates of retrieval, (N, D) float32; how many were cut is said."""
        chosen = for_texts(self.saved, task)
        candidates = inputs.text_list(texts)
        if not candidates:
            return torch.empty(0, self.saved.arch.width)
        return self._engine.represent(self._engine.texts(chosen, candidates)).cpu()


class Answering(Encoding):
    """The same model, which answers questions about what it is shown."""

    def classify(
        self,
        images: Media | Iterable[Media] | str | Iterable[str],
        labels: Iterable[str | Iterable[str]] | None = None,
        task: str | Task | None = None,
        *,
        texts: str | Iterable[str] | None = None,
        template: str | Iterable[str] | None = None,
        modality: str | None = None,
    ) -> Tensor:
        """Probability of every label for every input, (N, len(labels)) float32; rows add up to 1.

        Args:
            images: images, clips, sounds or texts; of a task that looks at a clip and hears it, the clip alone will do.
            labels: a text, or several texts, per class, two classes or more; None: the labels of `task`.
            texts: for a task that reads a picture and a text: the text for each input, or one for all.
            template: a text, or several, into which each label is put: "a photo of {label}".
            modality: "image", "video", "audio" or "text", where the inputs leave it open (`inputs.modality_of`).

        Raises:
            UserError: neither labels nor a task with labels, an unknown task, or an unreadable input.
        """
        images, texts = at_hand(images), at_hand(texts)
        if task is None and modality is None and texts is None and (places := inputs.places_by_modality(images)):
            labels = at_hand(labels)
            return torch.stack(
                inputs.in_order(
                    places,
                    images,
                    lambda name, part: self.classify(part, labels, template=template, modality=name).unbind(),
                )
            )
        chosen, samples = self._classified("classify", images, labels, task, texts, template, modality)
        return self._engine.comparison(chosen, samples, self._engine.all_candidates(chosen))[1]

    def explain(
        self,
        images: Media | Iterable[Media] | str | Iterable[str],
        labels: Iterable[str | Iterable[str]] | None = None,
        task: str | Task | None = None,
        *,
        texts: str | Iterable[str] | None = None,
        template: str | Iterable[str] | None = None,
        modality: str | None = None,
        decisions: bool = True,
    ) -> Explained[Tensor]:
        """What the answers of `classify` are made of: cosines, the temperature, and what each gate decided.

        Args:
            decisions: those of the gates, too, which takes longer; the others are those of `classify`.

        Raises:
            UserError: as `classify`.
        """
        chosen, samples = self._classified("explain", at_hand(images), labels, task, at_hand(texts), template, modality)
        return explained(self._engine, chosen, samples, decisions=decisions)

    def _classified(
        self,
        call: str,
        images: Any,
        labels: Iterable[str | Iterable[str]] | None,
        task: str | Task | None,
        texts: Any,
        template: str | Iterable[str] | None,
        modality: str | None,
    ) -> tuple[KnownTask, ReadWhenAsked]:
        """The task, with its labels, and the samples that it is asked about."""
        seen = inputs.modality_of(images, modality_asked(self.saved, task) if modality is None else modality)
        chosen = to_classify(self.saved, call, seen, task, labels, template, with_text=texts is not None)
        refuse_other_modality(call, chosen.task, images, modality)
        samples = inputs.with_texts(inputs.samples_of(chosen.task.media or (TEXT,), images), texts)
        if TEXT in chosen.task.inputs:
            unseen = samples_at_hand([Sample(id="")] * len(samples))
            self._engine.tell_cut(chosen, inputs.with_texts(unseen, texts) if chosen.task.media else samples)
        return chosen, samples

    def detect(
        self,
        images: Media | Iterable[Media],
        labels: Iterable[str | Iterable[str]] | None = None,
        task: str | Task | None = None,
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
            UserError: a model without proposals, neither labels nor a task with labels, an unreadable image.
        """
        args = self.saved, self._engine, "detect", images, labels, task
        return detections(*args, least=least, most=most, masks=False)

    def segment(
        self,
        images: Media | Iterable[Media],
        labels: Iterable[str | Iterable[str]] | None = None,
        task: str | Task | None = None,
        *,
        least: float = LEAST,
        most: int = MOST,
    ) -> list[Detections]:
        """As `detect`, with a mask for each thing."""
        args = self.saved, self._engine, "segment", images, labels, task
        return detections(*args, least=least, most=most, masks=True)

    def draw(self, image: Media, detections: Detections) -> Image.Image:
        """An image, as `detect` takes it, with what was found in it."""
        return drawn(image, detections)

    def caption(
        self,
        images: Media | Iterable[Media],
        beam: int = 2,
        task: str | Task | None = None,
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
        images = at_hand(images)
        if task is None and (places := inputs.places_by_modality(images)):
            ask = partial(self.caption, beam=beam, max_words=max_words, length_penalty=length_penalty)
            return inputs.in_order(places, images, lambda _, part: ask(part))
        modality = inputs.modality_of(images, modality_asked(self.saved, task), text=False)
        chosen = fitting(
            self.saved, "caption", task, "caption", modality, lambda task: task.answer.question == "caption"
        )
        if not (samples := inputs.samples_of(chosen.task.media, images)):
            return []
        if not self._writes:
            warn(f"none of the model's tasks writes ({', '.join(self.tasks)}): it has not learnt to, whatever it says")
            self._writes = True  # said once
        words_VD = self._engine.all_candidates(chosen)
        facts, scale = chosen.task.facts("input", chosen.index), self.model.scale(chosen.task.temperature)
        texts: list[str] = []
        for batch in self._engine.batches(media_alone(chosen), samples):
            prefix = prefix_with_query(replace(batch.inputs, facts=facts), self.codec.answer)
            with self._engine.computing():
                generated = generate(
                    self.model,
                    to_device(prefix, self.device),
                    lambda x_RD: logits(finite(unit(self.model.represent(x_RD))), words_VD, scale),
                    end=self.codec.end,
                    beams=beam,
                    words=min(max_words, self.saved.arch.max_text),
                    length_penalty=length_penalty,
                )
            texts += [self.codec.decode(ids.tolist()) for ids in generated.ids_BS]
        return texts

    def rank(
        self, images: Media | Iterable[Media], texts: Iterable[str] | Any, task: str | Task | None = None
    ) -> Tensor:
        """Cosine similarity of every image, clip or sound with every text, (N, len(texts)) float32, -1 to 1.

        Args:
            texts: of a task whose candidates are no texts but sounds, these.
        """
        images = at_hand(images)
        if task is None and (places := inputs.places_by_modality(images)):
            named = inputs.text_list(texts)
            return torch.stack(inputs.in_order(places, images, lambda _, part: self.rank(part, named).unbind()))
        modality = inputs.modality_of(images, modality_asked(self.saved, task), text=False)
        chosen = fitting(self.saved, "rank", task, "rank", modality, lambda task: bool(task.media))
        z_ND = self._engine.encode(chosen, inputs.samples_of(chosen.task.media, images))
        if chosen.task.target != TEXT:
            return z_ND @ self._engine.represent_media(chosen, inputs.samples_of((chosen.task.target,), texts)).cpu().T
        candidates = inputs.text_list(texts)
        if not candidates:
            return torch.empty(len(z_ND), 0)
        return z_ND @ self._engine.some_texts(chosen, candidates).cpu().T

    def routing(
        self,
        images: Media | Iterable[Media] | str | Iterable[str],
        task: str | Task | None = None,
        *,
        texts: str | Iterable[str] | None = None,
    ) -> list[GateDecision]:
        """What each gate decides about every token of these inputs, as NumPy arrays, in the order of the layers.

        Args:
            texts: as for `classify`; without them, a task that reads a text behind its media sees the media alone.

        Raises:
            UserError: the model has no gates; else as `classify`.
        """
        images, texts = at_hand(images), at_hand(texts)
        modality = inputs.modality_of(images, modality_asked(self.saved, task))
        chosen = fitting(self.saved, "routing", task, "rank", modality, lambda task: modality in task.inputs)
        if texts is None and chosen.task.media:
            chosen = media_alone(chosen)
        samples = inputs.with_texts(inputs.samples_of(chosen.task.media or (TEXT,), images), texts)
        passes = self._engine.decisions(chosen, samples)
        return gate_decisions(self.saved.arch, passes, token_first=self.model.encoder.token_first)
