"""UniPerceiver: a saved model and the questions it answers.

Shape suffixes: N items, K candidates, D width.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.devices import device_of
from uniperceiver.errors import UserError, warn
from uniperceiver.modalities import TEXT
from uniperceiver.records import to_device
from uniperceiver.serving import inputs
from uniperceiver.serving import saved as files
from uniperceiver.serving.card import in_words
from uniperceiver.serving.engine.engine import Engine, finite
from uniperceiver.serving.engine.routing import GateDecision, gate_decisions
from uniperceiver.serving.locate import model_folder
from uniperceiver.serving.merge import merge
from uniperceiver.serving.saved import SavedModel
from uniperceiver.serving.task_choice import (
    fitting,
    for_texts,
    labels_of,
    media_alone,
    modality_asked,
    refuse_other_classes,
    refuse_other_modality,
)
from uniperceiver.serving.values import Media, at_hand, shown
from uniperceiver.tasks.decode import generate, prefix_with_query
from uniperceiver.tasks.likelihood import logits, unit
from uniperceiver.tasks.task import Task
from uniperceiver.tokenizers.bpe import TextEncoder


class UniPerceiver:
    """A model with its tokenizer, preprocessing and tasks.

    Every method takes `task=`, the name of a task the model was trained on or a `Task`: its preprocessing and
    temperature are used. Without it, an anonymous task of the catalogue is made from the call; in a model that chose
    its experts by task, it is the only one of its tasks that fits.

    Representations of candidates are kept, also for questions from several threads, and made anew when this library
    loads, moves or trains weights. Whoever changes them otherwise calls `model.weights_changed()` afterwards.

    Args:
        saved: the parts of the model.
        device: where it computes.
        batch: items encoded together.
        home: the folder that it was loaded from, if any.

    Example:
        >>> import numpy
        >>> from uniperceiver import UniPerceiver  # runs/tiny is the run that `uniperceiver.train` has as its example
        >>> model = UniPerceiver.from_pretrained("runs/tiny")
        >>> pictures = [numpy.zeros((32, 32, 3), dtype=numpy.uint8)] * 2
        >>> model.rank(pictures, ["a red circle", "a blue square", "a cat"]).shape
        torch.Size([2, 3])
    """

    def __init__(
        self, saved: SavedModel, device: str | torch.device = "cpu", batch: int = 64, home: Path | None = None
    ) -> None:
        self.saved, self.model, self.codec = saved, saved.model, saved.codec
        self.device, self.batch = device_of(str(device)), batch
        self._engine = Engine(saved, self.device, batch, home)
        self._writes = any(task.answer.causal for task in self.tasks.values()) or not self.tasks

    @property
    def tasks(self) -> Mapping[str, Task]:
        """The tasks that the model was trained on, by name."""
        return MappingProxyType({name: trained.task for name, trained in self.saved.tasks.items()})

    @property
    def preprocess(self) -> Mapping[str, Preprocess]:
        """What is made of the inputs of each task: sizes, frames, statistics, and the longest text."""
        return MappingProxyType({name: trained.preprocess for name, trained in self.saved.tasks.items()})

    @property
    def tokenizer(self) -> TextEncoder:
        """The text encoder: `encode(text)` gives ids, `decode(ids)` a text."""
        return self.codec

    def labels(self, task: str) -> list[str]:
        """What the classes of a task are called, in the order of the scores of `classify`.

        Raises:
            UserError: the model has no such task, or the task has no labels.
        """
        return labels_of(self.saved, task)

    def to(self, device: str | torch.device) -> "UniPerceiver":
        """The same model, which computes on that device from now on.

        Raises:
            UserError: there is no such device.
        """
        self.device = device_of(str(device))
        self._engine.move(self.device)
        return self

    def __repr__(self) -> str:
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        return f"UniPerceiver({in_words(self.saved.arch, parameters, self.saved.tasks)}; on {self.device})"

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str | torch.device = "cpu") -> "UniPerceiver":
        """The model saved in a directory, by a run (its `model` folder), or on the Hugging Face hub (OWNER/NAME).

        Raises:
            UserError: there is no model, or a file of it is damaged.
        """
        folder = model_folder(path)
        return cls(files.load(folder), device, home=folder)

    def save_pretrained(self, path: str | Path, *, whole: bool = False) -> None:
        """Write config.json, model.safetensors, tokenizer.json, preprocess.json and README.md into a directory.

        Args:
            whole: write all weights of a model whose prompts were tuned, instead of the tuned ones beside the place of
                the others.

        Raises:
            UserError: it could not be written, or holds other files. Another model there is replaced, and named.
        """
        saved = replace(self.saved, base=None) if whole else self.saved
        files.refuse_foreign(Path(path))
        with files.replacing(Path(path), saved, replace=True):
            files.save(Path(path), saved)

    def merge(self, tasks: str | Task | Iterable[str | Task] | None = None) -> "UniPerceiver":
        """A new model that answers these tasks alike, without experts: at the cost of a dense model.

        Args:
            tasks: names of the run's tasks, or Tasks; None: all of the run.

        Raises:
            UserError: an unknown task, or experts that cannot be merged; the line says why.
        """
        return UniPerceiver(merge(self.saved, tasks).saved, self.device, self.batch)

    def encode_image(self, images: Media | Iterable[Media], task: str | Task | None = None) -> Tensor:
        """Unit representations of images, (N, D) float32."""
        chosen = fitting(self.saved, "encode_image", task, "rank", "image", lambda task: "image" in task.inputs)
        return self._engine.encode(media_alone(chosen), inputs.samples_of(("image",), images))

    def encode_video(self, clips: Media | Iterable[Media], task: str | Task | None = None) -> Tensor:
        """Unit representations of clips, (N, D) float32."""
        chosen = fitting(self.saved, "encode_video", task, "rank", "video", lambda task: "video" in task.inputs)
        return self._engine.encode(media_alone(chosen), inputs.samples_of(("video",), clips))

    def encode_text(self, texts: str | Iterable[str], task: str | Task | None = None) -> Tensor:
        """Unit representations of texts as candidates of retrieval, (N, D) float32; how many were cut is said."""
        chosen = for_texts(self.saved, task)
        candidates = inputs.text_list(texts)
        if not candidates:
            return torch.empty(0, self.saved.arch.width)
        return self._engine.represent(self._engine.texts(chosen, candidates)).cpu()

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
            images: images, clips or texts.
            labels: a text, or several texts, per class, two classes or more; None: the labels of `task`.
            texts: for a task that reads a picture and a text: the text for each input, or one for all.
            template: a text, or several, into which each label is put: "a photo of {label}".
            modality: "image", "video" or "text", where the inputs leave it open (`inputs.modality_of`).

        Raises:
            UserError: neither labels nor a task with labels, an unknown task, or an unreadable input.
        """
        images, texts = at_hand(images), at_hand(texts)
        seen = inputs.modality_of(images, modality_asked(self.saved, task) if modality is None else modality)
        chosen = fitting(
            self.saved,
            "classify",
            task,
            "classify",
            seen,
            lambda task: (
                task.answer.question == "classify" and (bool(task.media) and TEXT in task.inputs) == (texts is not None)
            ),
        )
        refuse_other_modality("classify", chosen.task, images, modality)
        if labels is not None or template is not None:
            named = inputs.label_texts(chosen.task.labels if labels is None else labels, template)
            chosen = replace(chosen, task=replace(chosen.task, labels=named))
        if not chosen.task.answer.names(chosen.task, self.codec):
            raise UserError("classify: give labels=[...], or task= the name of a task of the run that has labels")
        refuse_other_classes(self.saved, chosen.task)
        if labels is not None:
            inputs.refuse_equal(chosen.task.labels, self.codec.clean)
        samples = inputs.with_texts(inputs.samples_of(chosen.task.media or (TEXT,), images), texts)
        self._engine.tell_cut(chosen, samples)
        return self._engine.likelihood(chosen, samples, self._engine.all_candidates(chosen))

    def caption(
        self,
        images: Media | Iterable[Media],
        beam: int = 2,
        task: str | Task | None = None,
        *,
        max_words: int = 21,
        length_penalty: float = 0.0,
    ) -> list[str]:
        """A caption for every image or clip, by beam search (greedy with beam=1).

        Args:
            max_words: most tokens of a caption, 1 or more.
            length_penalty: above 0, scores are divided by (number of words + 1) to that power: longer captions.
        """
        _check_caption(beam, self.codec.size, max_words, length_penalty)
        images = at_hand(images)
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

    def rank(self, images: Media | Iterable[Media], texts: Iterable[str], task: str | Task | None = None) -> Tensor:
        """Cosine similarity of every image or clip with every text, (N, len(texts)) float32, -1 to 1."""
        images = at_hand(images)
        modality = inputs.modality_of(images, modality_asked(self.saved, task), text=False)
        chosen = fitting(self.saved, "rank", task, "rank", modality, lambda task: bool(task.media))
        candidates = inputs.text_list(texts)
        z_ND = self._engine.encode(media_alone(chosen), inputs.samples_of(chosen.task.media, images))
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


def _check_caption(beam: int, most: int, max_words: int, length_penalty: float) -> None:
    if not isinstance(beam, int) or not 1 <= beam <= most:
        raise UserError(f"caption: beam must lie between 1 and the vocabulary's {most}, found {shown(beam)}")
    if not isinstance(max_words, int) or max_words < 1:
        raise UserError(f"caption: max_words must be a number of tokens, 1 or more, found {shown(max_words)}")
    if not isinstance(length_penalty, int | float) or not 0 <= length_penalty < math.inf:
        raise UserError(f"caption: length_penalty must be a number, 0 or more, found {shown(length_penalty)}")
