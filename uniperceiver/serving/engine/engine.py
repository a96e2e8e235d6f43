"""SAMPLES AND TEXTS -> REPRESENTATIONS: what all questions to a loaded model have in common.

Shape suffixes: N items, K candidates, D width.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from uniperceiver.data.batch import Batch, collate, prepare
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.modalities import TEXT
from uniperceiver.records import Decision, Sample, to_device
from uniperceiver.records.regions import PictureThings, Regions
from uniperceiver.serving.asking.numbers import refuse_unbounded, tell_cut
from uniperceiver.serving.candidate_cache import CandidateCache
from uniperceiver.serving.engine.vocabulary import KeptVocabulary, is_worth_keeping
from uniperceiver.serving.saved import KnownTask, SavedModel
from uniperceiver.serving.task_choice import media_alone
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.ask import answer_among, compare, input_features, read, represent_inputs
from uniperceiver.tasks.candidates import Candidates, represent_in_chunks
from uniperceiver.tasks.likelihood import unit
from uniperceiver.tasks.sequences import text_sequences


class Engine:
    """A model on a device, which encodes items batch by batch and keeps the representations of candidates.

    Args:
        batch: items encoded together.
        home: the folder that the model was loaded from, where its encoded vocabulary may be kept; None: it lies
            nowhere, or its weights were changed.
        dtype: what the model computes in; its weights, and what boxes, cosines and answers are made of, stay float32.
    """

    def __init__(
        self,
        saved: SavedModel,
        device: torch.device,
        batch: int,
        home: Path | None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.saved, self.model, self.codec, self.batch = saved, saved.model, saved.codec, batch
        self.cache = CandidateCache()
        self.dtype = dtype
        self._home, self._generation = home, saved.model.weights_generation
        self.move(device)

    def move(self, device: torch.device) -> None:
        """Compute on that device from now on."""
        as_loaded = self._generation == self.model.weights_generation
        self.device = device
        self.model.to(device).eval()
        if as_loaded:
            self._generation = self.model.weights_generation

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Compute in the engine's type, without gradients."""
        with torch.no_grad(), torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            yield

    def batches(self, chosen: KnownTask, samples: Sequence[Sample]) -> Iterator[Batch]:
        """The samples as a task sees them, on the device.

        Raises:
            UserError: one of them cannot be used.
        """
        for start in range(0, len(samples), self.batch):
            items = []
            for sample in samples[start : start + self.batch]:
                try:
                    rng = numpy_stream(0, sample.id)
                    items.append(prepare(chosen.task, sample, chosen.preprocess, self.codec, None, rng))
                except BrokenSample as error:
                    raise UserError(f"{error}; give another file") from None
            yield to_device(collate(chosen.task, items, self.codec, chosen.index), self.device)

    def encode(self, chosen: KnownTask, samples: Sequence[Sample]) -> Tensor:
        """Unit representations of a task's media, without the text that it may read behind them, (N, D)."""
        alone, facts = media_alone(chosen), chosen.task.facts("input", chosen.index)
        facts = facts if chosen.task.target != TEXT else alone.task.facts("input", alone.index)
        with self.computing():
            parts = [
                represent_inputs(self.model, replace(batch, inputs=replace(batch.inputs, facts=facts)))
                for batch in self.batches(alone, samples)
            ]
        return finite(torch.cat(parts)).float().cpu() if parts else torch.empty(0, self.saved.arch.width)

    def comparison(self, chosen: KnownTask, samples: Sequence[Sample], c_KD: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines of all candidates with the samples, and P(candidate | sample), (N, K) each."""
        cosines, parts = [torch.empty(0, len(c_KD))], [torch.empty(0, len(c_KD))]
        with self.computing():
            for batch in self.batches(chosen, samples):
                x_RD = input_features(self.model, batch)
                cosines.append((unit(x_RD) @ c_KD.T).float().cpu())
                parts.append(compare(self.model, chosen.task, x_RD, c_KD).softmax(dim=-1).cpu())
        return finite(torch.cat(cosines)), finite(torch.cat(parts))

    def located(
        self, chosen: KnownTask, samples: Sequence[Sample], c_KD: Tensor
    ) -> Iterator[tuple[tuple[PictureThings, ...], Regions, Tensor]]:
        """The proposals in every batch of pictures and the logits of the candidates at each, (R, K)."""
        for batch in self.batches(chosen, samples):
            with self.computing():
                answered = answer_among(self.model, chosen.task, batch, c_KD, settle=False)
            assert answered.regions is not None
            assert batch.readout.objects is not None
            finite(answered.regions.layers[-1].objectness_BQ)
            yield batch.readout.objects.pictures, answered.regions, finite(answered.logits_RK)

    def decisions(self, chosen: KnownTask, samples: Sequence[Sample]) -> Iterator[tuple[Batch, tuple[Decision, ...]]]:
        """What the gates decide on all tokens, batch by batch."""
        for batch in self.batches(chosen, samples):
            with self.computing():
                decisions = self.model.encode(batch.inputs).decisions
            yield batch, decisions

    def compared(
        self, chosen: KnownTask, samples: Sequence[Sample], c_KD: Tensor
    ) -> Iterator[tuple[Batch, Tensor, Tensor, tuple[Decision, ...]]]:
        """Batches, with the cosines of all candidates, (R, K), their probabilities, and what the gates decided."""
        for batch in self.batches(chosen, samples):
            with self.computing():
                encoded = self.model.encode(batch.inputs)  # all tokens, also those that no answer is read from
                feature_RD = self.model.represent(read(encoded, batch.readout))
                cosine_RK = unit(feature_RD) @ c_KD.T
                probability_RK = compare(self.model, chosen.task, feature_RD, c_KD).softmax(dim=-1)
            yield batch, finite(cosine_RK).float().cpu(), finite(probability_RK).float().cpu(), encoded.decisions

    def represent_media(self, chosen: KnownTask, samples: Sequence[Sample]) -> Tensor:
        """Representations of the candidates of a task that are no texts, (K, D) float32."""
        target, facts = chosen.task.target, chosen.task.facts("candidate", chosen.index)
        alone = media_alone(replace(chosen, task=replace(chosen.task, inputs=(target,))))
        parts = [
            self.represent(Candidates(sequences=replace(batch.inputs, facts=facts)))
            for batch in self.batches(alone, samples)
        ]
        return torch.cat(parts) if parts else torch.empty(0, self.saved.arch.width)

    def texts(self, chosen: KnownTask, texts: Sequence[str]) -> Candidates:
        """Texts as candidates of a task, cut to its longest text; how many were cut is said."""
        ids, length = [self.codec.encode(text) for text in texts], chosen.preprocess.length
        tell_cut([len(text) + 1 for text in ids], length, chosen.task.name)
        facts = chosen.task.facts("candidate", chosen.index)
        return Candidates(sequences=text_sequences(ids, facts, self.codec.end, length))

    def tell_cut(self, chosen: KnownTask, samples: Iterable[Sample]) -> None:
        """Say how many of the samples' texts are longer than the task reads, if any are; media are not looked at."""
        lengths = [
            length for sample in samples for length in chosen.task.answer.lengths(chosen.task, sample, self.codec)
        ]
        tell_cut(lengths, chosen.preprocess.length, chosen.task.name)

    def all_candidates(self, chosen: KnownTask) -> Tensor:
        """Representations of all candidates of a task, (K, D), kept until the weights change."""

        def make() -> Tensor:
            candidates = chosen.task.answer.all_candidates(chosen.task, self.codec, chosen.index)
            assert candidates is not None
            if not chosen.task.answer.from_vocabulary or not is_worth_keeping(self.model, candidates):
                return self.represent(candidates)
            as_loaded = self._generation == self.model.weights_generation and self.dtype == torch.float32
            kept = KeptVocabulary(self.model, to_device(candidates, self.device), self._home if as_loaded else None)
            with self.computing():
                return kept.get()

        return self._cached("all", chosen, make)

    def some_texts(self, chosen: KnownTask, texts: tuple[str, ...]) -> Tensor:
        """Representations of texts as candidates of a task, (K, D), kept likewise."""
        return self._cached(texts, chosen, lambda: self.represent(self.texts(chosen, texts)))

    def _cached(self, what: str | tuple[str, ...], chosen: KnownTask, make: Callable[[], Tensor]) -> Tensor:
        """Keyed by texts and by what routing sees."""
        task = chosen.task
        key = (
            what,
            task.class_texts(),
            task.class_term,
            chosen.preprocess.length,
            task.facts("candidate", chosen.index),
        )
        return self.cache.get(key, self.model, lambda: finite(make()))

    def represent(self, candidates: Candidates) -> Tensor:
        """Representations of candidates, (K, D) float32.

        Raises:
            UserError: a text is longer than the model's positions, or what it comes to is not finite.
        """
        text, most = candidates.sequences.text, self.saved.arch.max_text
        if text is not None and text.values.shape[1] > most:
            raise UserError(f"a text has {text.values.shape[1]} tokens, more than the model's {most}; shorten it")
        with self.computing():
            return finite(represent_in_chunks(self.model, to_device(candidates, self.device)).float())


def finite(x: Tensor) -> Tensor:
    """What a model has computed.

    Raises:
        UserError: it is not finite, and so no answer.
    """
    refuse_unbounded(
        bool(x.isfinite().all()),
        "take an earlier checkpoint of the run (--step NUMBER), or train with a smaller optimiser.lr",
    )
    return x
