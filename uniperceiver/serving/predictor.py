"""UniPerceiver: a saved model and the questions it answers.

Shape suffixes: N items, K candidates, D width.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from uniperceiver.data.batch import Batch, collate, prepare
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.modalities import TEXT
from uniperceiver.records import Sample, to_device
from uniperceiver.serving import inputs
from uniperceiver.serving import saved as files
from uniperceiver.serving.candidate_cache import CandidateCache
from uniperceiver.serving.inputs import Media
from uniperceiver.serving.locate import model_folder
from uniperceiver.serving.merge import merge
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.serving.task_choice import fitting, for_texts, media_alone, refuse_other_classes
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.ask import compare, input_features, represent_inputs
from uniperceiver.tasks.candidates import Candidates, represent_in_chunks
from uniperceiver.tasks.decode import generate, prefix_with_query
from uniperceiver.tasks.likelihood import logits, unit
from uniperceiver.tasks.sequences import text_sequences
from uniperceiver.tasks.task import Task


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

    Example:
        >>> import numpy
        >>> from uniperceiver import UniPerceiver  # runs/tiny is the run that `uniperceiver.train` has as its example
        >>> model = UniPerceiver.from_pretrained("runs/tiny")
        >>> pictures = [numpy.zeros((32, 32, 3), dtype=numpy.uint8)] * 2
        >>> model.rank(pictures, ["a red circle", "a blue square", "a cat"]).shape
        torch.Size([2, 3])
    """

    def __init__(self, saved: SavedModel, device: str | torch.device = "cpu", batch: int = 64) -> None:
        self.saved = saved
        self.device = torch.device(device)
        self.model = saved.model.to(self.device).eval()
        self.codec = saved.codec
        self.batch = batch
        self._cache = CandidateCache()

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str | torch.device = "cpu") -> "UniPerceiver":
        """The model saved in a directory, by a run (its `model` folder), or on the Hugging Face hub (OWNER/NAME).

        Raises:
            UserError: there is no model, or a file of it is damaged.
        """
        return cls(files.load(model_folder(path)), device)

    def save_pretrained(self, path: str | Path, *, whole: bool = False) -> None:
        """Write config.json, model.safetensors, tokenizer.json, preprocess.json and README.md into a directory.

        Args:
            whole: write all weights of a model whose prompts were tuned, instead of the tuned ones beside the place of
                the others.

        Raises:
            UserError: it could not be written, or holds other files: the directory is replaced as a whole.
        """
        files.refuse_foreign(Path(path))
        files.save(Path(path), replace(self.saved, base=None) if whole else self.saved)

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
        return self._encode(media_alone(chosen), inputs.samples_of(("image",), images))

    def encode_video(self, clips: Media | Iterable[Media], task: str | Task | None = None) -> Tensor:
        """Unit representations of clips, (N, D) float32."""
        chosen = fitting(self.saved, "encode_video", task, "rank", "video", lambda task: "video" in task.inputs)
        return self._encode(media_alone(chosen), inputs.samples_of(("video",), clips))

    def encode_text(self, texts: str | Iterable[str], task: str | Task | None = None) -> Tensor:
        """Unit representations of texts as candidates of retrieval, (N, D) float32."""
        chosen = for_texts(self.saved, task)
        candidates = tuple(inputs.as_list(texts))
        if not candidates:
            return torch.empty(0, self.saved.arch.width)
        return self._candidates(self._texts(chosen, candidates)).cpu()

    def _texts(self, chosen: KnownTask, texts: Sequence[str]) -> Candidates:
        """Texts as candidates of a task."""
        facts, ids = chosen.task.facts("candidate", chosen.index), [self.codec.encode(text) for text in texts]
        return Candidates(sequences=text_sequences(ids, facts, self.codec.end, chosen.preprocess.length))

    def classify(
        self,
        images: Media | Iterable[Media] | str | Iterable[str],
        labels: Sequence[str | Sequence[str]] | None = None,
        task: str | Task | None = None,
        *,
        texts: str | Sequence[str] | None = None,
        modality: str | None = None,
    ) -> Tensor:
        """Probability of every label for every input, (N, len(labels)) float32; rows add up to 1.

        Args:
            images: images, clips or texts.
            labels: a text, or several texts, per class; None: the labels of `task`.
            texts: for a task that reads a picture and a text: the text for each input, or one for all.
            modality: "image", "video" or "text", where the inputs leave it open (`inputs.modality_of`).

        Raises:
            UserError: neither labels nor a task with labels, an unknown task, or an unreadable input.
        """
        images = inputs.at_hand(images)
        chosen = fitting(
            self.saved,
            "classify",
            task,
            "classify",
            inputs.modality_of(images, modality),
            lambda task: task.answer.question == "classify" and _reads_beside(task) == bool(texts),
        )
        if labels is not None:
            chosen = replace(chosen, task=replace(chosen.task, labels=inputs.label_texts(labels)))
        if not chosen.task.answer.names(chosen.task, self.codec):
            raise UserError("classify: give labels=[...], or task= the name of a task of the run that has labels")
        refuse_other_classes(self.saved, chosen.task)
        samples = inputs.with_texts(inputs.samples_of(chosen.task.media or (TEXT,), images), texts)
        return self._likelihood(chosen, samples, self._cached(chosen, "all", lambda: self._all_candidates(chosen)))

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
            max_words: most tokens of a caption.
            length_penalty: above 0, scores are divided by (number of words + 1) to that power: longer captions.
        """
        if not 1 <= beam <= self.codec.size:
            raise UserError(f"caption: beam must lie between 1 and the vocabulary's {self.codec.size}, found {beam}")
        images = inputs.at_hand(images)
        modality = inputs.modality_of(images, text=False)
        chosen = fitting(
            self.saved, "caption", task, "caption", modality, lambda task: task.answer.question == "caption"
        )
        words_VD = self._cached(chosen, "all", lambda: self._all_candidates(chosen))
        facts = chosen.task.facts("input", chosen.index)
        texts: list[str] = []
        for batch in self._batches(media_alone(chosen), inputs.samples_of(chosen.task.media, images)):
            prefix = prefix_with_query(replace(batch.inputs, facts=facts), self.codec.answer)
            generated = generate(
                self.model,
                to_device(prefix, self.device),
                lambda x_RD: logits(unit(self.model.represent(x_RD)), words_VD, self._scale(chosen)),
                end=self.codec.end,
                beams=beam,
                words=min(max_words, self.saved.arch.max_text),
                length_penalty=length_penalty,
            )
            texts += [self.codec.decode(ids.tolist()) for ids in generated.ids_BS]
        return texts

    def rank(self, images: Media | Iterable[Media], texts: Sequence[str], task: str | Task | None = None) -> Tensor:
        """Cosine similarity of every image or clip with every text, (N, len(texts)) float32, -1 to 1."""
        images = inputs.at_hand(images)
        modality = inputs.modality_of(images, text=False)
        chosen = fitting(self.saved, "rank", task, "rank", modality, lambda task: bool(task.media))
        z_ND = self._encode(media_alone(chosen), inputs.samples_of(chosen.task.media, images))
        candidates = tuple(inputs.as_list(texts))
        if not candidates:
            return torch.empty(len(z_ND), 0)
        c_KD = self._cached(chosen, candidates, lambda: self._texts(chosen, candidates))
        return z_ND @ c_KD.cpu().T

    def _batches(self, chosen: KnownTask, samples: list[Sample]) -> Iterable[Batch]:
        for start in range(0, len(samples), self.batch):
            items = []
            for sample in samples[start : start + self.batch]:
                try:
                    rng = numpy_stream(0, sample.id)
                    items.append(prepare(chosen.task, sample, chosen.preprocess, self.codec, None, rng))
                except BrokenSample as error:
                    raise UserError(f"{error}; give another file") from None
            yield to_device(collate(chosen.task, items, self.codec, chosen.index), self.device)

    @torch.no_grad()
    def _encode(self, chosen: KnownTask, samples: list[Sample]) -> Tensor:
        """Unit representations at the task's read-outs, (N, D)."""
        parts = [
            represent_inputs(self.model, to_device(batch, self.device)) for batch in self._batches(chosen, samples)
        ]
        return torch.cat(parts).float().cpu() if parts else torch.empty(0, self.saved.arch.width)

    @torch.no_grad()
    def _likelihood(self, chosen: KnownTask, samples: list[Sample], c_KD: Tensor) -> Tensor:
        """P(candidate | sample), (N, K)."""
        features = (
            input_features(self.model, to_device(batch, self.device)) for batch in self._batches(chosen, samples)
        )
        parts = [compare(self.model, chosen.task, x_RD, c_KD).softmax(dim=-1).cpu() for x_RD in features]
        return torch.cat(parts) if parts else torch.empty(0, len(c_KD))

    def _scale(self, chosen: KnownTask) -> Tensor:
        return self.model.scale(chosen.task.temperature)

    def _all_candidates(self, chosen: KnownTask) -> Candidates:
        candidates = chosen.task.answer.all_candidates(chosen.task, self.codec, chosen.index)
        assert candidates is not None
        return candidates

    def _cached(self, chosen: KnownTask, what: str | tuple[str, ...], make: Callable[[], Candidates]) -> Tensor:
        """Representations of candidates, kept until the weights change; keyed by texts and by what routing sees."""
        key = (what, chosen.task.labels, chosen.preprocess.length, chosen.task.facts("candidate", chosen.index))
        return self._cache.get(key, self.model, lambda: self._candidates(make()))

    def _candidates(self, candidates: Candidates) -> Tensor:
        text, most = candidates.sequences.text, self.saved.arch.max_text
        if text is not None and text.values.shape[1] > most:
            raise UserError(f"a text has {text.values.shape[1]} tokens, more than the model's {most}; shorten it")
        return represent_in_chunks(self.model, to_device(candidates, self.device)).float()


def _reads_beside(task: Task) -> bool:
    """Whether a task reads a text beside its media, such as a question."""
    return bool(task.media) and TEXT in task.inputs
