"""Runner: an exported model, which answers as `UniPerceiver` does, with arrays instead of tensors.

Shape suffixes: N items, K candidates, D width.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import numpy as np

from uniperceiver.data.media.pixels import Preprocess
from uniperceiver.errors import UserError, nearest
from uniperceiver.modalities import TEXT
from uniperceiver.records.exported import ExportedTask
from uniperceiver.runner.choice import asked_of, chosen, graph_of, media_of, refuse_other_modality
from uniperceiver.runner.folder import ExportedFolder
from uniperceiver.runner.graph_engine import GraphEngine
from uniperceiver.runner.reading import Reading
from uniperceiver.runner.vector_cache import VectorCache
from uniperceiver.runner.writing import CaptionWriter
from uniperceiver.serving import inputs
from uniperceiver.serving.values import Media, at_hand, shown
from uniperceiver.tasks.prompts import filled
from uniperceiver.tokenizers import bpe
from uniperceiver.tokenizers.bpe import TextEncoder


class Runner:
    """An exported model with its tokenizer, preprocessing and tasks, which runs without torch.

    Its methods are those of `UniPerceiver`, and their answers are equal to 1e-4; `task=` is the name of a task. Several
    threads may ask at the same time.

    Args:
        path: a folder that `uniperceiver export` wrote.
        device: where it computes: "cpu".
        batch: items encoded together.
        int8: use the graphs with weights of 8 bits, where there are some.
        threads: that compute an answer; None: as many as onnxruntime thinks best.

    Raises:
        UserError: no such folder, or a damaged file.

    Example:
        >>> from uniperceiver.runner import Runner  # doctest: +SKIP
        >>> Runner("export").classify("picture.jpg", labels=["a cat", "a dog"]).shape  # doctest: +SKIP
        (1, 2)
    """

    def __init__(
        self, path: str | Path, device: str = "cpu", batch: int = 64, *, int8: bool = False, threads: int | None = None
    ) -> None:
        if str(device) != "cpu":
            raise UserError(f"device {device!r}: an export runs on the CPU; leave it out")
        self.device, self.batch, self.home = "cpu", batch, Path(path)
        self._folder = ExportedFolder(Path(path), int8=int8, threads=threads)
        self._exported = self._folder.exported
        self.codec = bpe.load(Path(path) / "encoder.json")
        self._cache = VectorCache()
        self._engine = GraphEngine(self._folder, self.codec, batch)

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str = "cpu") -> "Runner":
        """The model exported into a folder."""
        return cls(path, device)

    @property
    def tasks(self) -> Mapping[str, ExportedTask]:
        """The tasks that the export answers, by name."""
        return MappingProxyType(self._exported.tasks)

    @property
    def preprocess(self) -> Mapping[str, Preprocess]:
        """What is made of the inputs of each task: sizes, frames, statistics, and the longest text."""
        return MappingProxyType({name: Preprocess(**task.view) for name, task in self._exported.tasks.items()})

    @property
    def width(self) -> int:
        """Numbers in a representation."""
        return self._exported.width

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text that the graphs read."""
        return self._exported.max_text

    @property
    def tokenizer(self) -> TextEncoder:
        """The text encoder: `encode(text)` gives ids, `decode(ids)` a text."""
        return self.codec

    def labels(self, task: str) -> list[str]:
        """What the classes of a task are called, in the order of the scores of `classify`.

        Raises:
            UserError: the model has no such task, or the task has no labels.
        """
        if not isinstance(task, str) or task not in self._exported.tasks:
            raise UserError(f"labels: no task {shown(task)}; {nearest(shown(task), self._exported.tasks)}")
        if not (labels := self._exported.tasks[task].labels):
            raise UserError(f"labels: task {task!r} has none")
        return [texts[0] for texts in labels]

    def __repr__(self) -> str:
        return (
            f"Runner({self.home}; width {self._exported.width}, tasks: {', '.join(self._exported.tasks) or '(none)'})"
        )

    def encode_image(self, images: Media | Iterable[Media], task: str | None = None) -> np.ndarray:
        """Unit representations of images, (N, D) float32."""
        return self._encode_media("encode_image", "image", images, task)

    def encode_video(self, clips: Media | Iterable[Media], task: str | None = None) -> np.ndarray:
        """Unit representations of clips, (N, D) float32."""
        return self._encode_media("encode_video", "video", clips, task)

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
            images: images, clips or texts.
            labels: a text, or several texts, per class, two classes or more; None: the labels of `task`.
            texts: for a task that reads a picture and a text: the text for each input, or one for all.
            template: a text, or several, into which each label is put: "a photo of {label}".
            modality: "image", "video" or "text", where the inputs leave it open.

        Raises:
            UserError: neither labels nor a task with labels, an unknown task, or an unreadable input.
        """
        images, texts, task = at_hand(images), at_hand(texts), asked_of(task)
        seen = inputs.modality_of(images, self._modality_asked(task) if modality is None else modality)
        asked = chosen(
            self._exported,
            "classify",
            task,
            seen if texts is None or seen == TEXT else f"{seen} {TEXT}",
            lambda asked: (
                asked.question == "classify" and (bool(media_of(asked)) and TEXT in asked.inputs) == (texts is not None)
            ),
        )
        refuse_other_modality("classify", asked, modality)
        c_KD = self._labels(asked, labels, template)
        samples = inputs.with_texts(inputs.samples_of(media_of(asked) or (TEXT,), images), texts)
        return self._engine.likelihood(asked, samples, c_KD)

    def caption(
        self,
        images: Media | Iterable[Media],
        beam: int = 2,
        task: str | None = None,
        *,
        max_words: int = 21,
        length_penalty: float = 0.0,
    ) -> list[str]:
        """A caption for every image or clip, by beam search (greedy with beam=1).

        Args:
            max_words: most tokens of a caption, 1 or more.
            length_penalty: above 0, scores are divided by (number of words + 1) to that power: longer captions.
        """
        inputs.check_caption(beam, self.codec.size, max_words, length_penalty)
        images, task = at_hand(images), asked_of(task)
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
            ids_BS = writer.write(reading.pixels(samples), beams=beam, words=words, length_penalty=length_penalty)
            texts += [self.codec.decode(ids) for ids in ids_BS.tolist()]
        return texts

    def rank(self, images: Media | Iterable[Media], texts: Iterable[str], task: str | None = None) -> np.ndarray:
        """Cosine similarity of every image or clip with every text, (N, len(texts)) float32, -1 to 1."""
        images, task = at_hand(images), asked_of(task)
        seen = inputs.modality_of(images, self._modality_asked(task), text=False)
        asked = chosen(self._exported, "rank", task, seen, lambda asked: bool(media_of(asked)))
        candidates = inputs.text_list(texts)
        z_ND = self._engine.encode("rank", asked, inputs.samples_of(media_of(asked), images))
        if not candidates:
            return np.empty((len(z_ND), 0), dtype=np.float32)
        key = (candidates, asked.text_graph, asked.view.get("length"))
        return z_ND @ self._cache.get(key, lambda: self._engine.represent("rank", asked, candidates, cut=True)).T

    def detect(self, *_: object, **__: object) -> NoReturn:
        """Things in pictures are not exported.

        Raises:
            UserError: always; ask the model itself.
        """
        raise UserError("detect: things in pictures are not exported; ask the model itself (uniperceiver.load)")

    def segment(self, *_: object, **__: object) -> NoReturn:
        """As `detect`."""
        raise UserError("segment: things in pictures are not exported; ask the model itself (uniperceiver.load)")

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
    ) -> np.ndarray:
        """Representations of the classes, (K, D)."""
        named, prompts = asked.labels, asked.prompts if template is None else ()
        if labels is not None or template is not None:
            named = inputs.label_texts(asked.labels if labels is None else labels, template)
        if not named:
            raise UserError("classify: give labels=[...], or task= the name of a task of the run that has labels")
        if asked.own_labels_only and _composed(named) != _composed(asked.labels):
            raise UserError(
                f"task {asked.name!r}: this model was tuned with parameters for each class, so other labels mean "
                "nothing to it; use its own labels, or the model that it was made from"
            )
        if labels is not None:
            inputs.refuse_equal(named, self.codec.clean)
        if asked.vectors is not None and ((named == asked.labels and template is None) or asked.own_labels_only):
            return self._folder.vectors(asked.vectors)
        texts = filled(named, prompts)
        return self._cache.get((texts, asked.text_graph), lambda: self._engine.represent_classes(asked, texts))


def _composed(labels: Sequence[Sequence[str]]) -> list[list[str]]:
    return [[unicodedata.normalize("NFC", text) for text in texts] for texts in labels]
