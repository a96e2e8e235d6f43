"""Candidate answers as sequences to encode: label texts, the vocabulary (whole or sampled), texts of the batch.

Shape suffixes: K candidates, M tokens of the longest, R read-outs, V vocabulary, D width.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from uniperceiver.modalities import TEXT
from uniperceiver.records import Encoded, Facts, Part, Sequences
from uniperceiver.tasks.likelihood import unit
from uniperceiver.tasks.sequences import text_sequences

if TYPE_CHECKING:
    from uniperceiver.tasks.task import Task


class TextCodec(Protocol):
    """Strings to ids and back; `end` closes every text, `answer` is <SPE>, `size` counts all ids."""

    @property
    def size(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def answer(self) -> int: ...
    def encode(self, text: str) -> list[int]: ...
    def encode_words(self, text: str) -> list[list[int]]: ...
    def decode(self, ids: Iterable[int]) -> str: ...


class Model(Protocol):
    """What tasks ask of a model; any module with these methods will do."""

    likelihood_float32: bool

    def encode(
        self, sequences: Sequences, stream: torch.Generator | None = None, *, summary: bool = False
    ) -> Encoded: ...
    def represent(self, x_RD: Tensor) -> Tensor: ...
    def scale(self, temperature: str) -> Tensor: ...
    def finish(self, logits_RK: Tensor, feature_RD: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Candidates to encode, and how the read-outs refer to them."""

    sequences: Sequences
    owner_K: Tensor | None = None  # int64 class of each text, where classes have several texts
    correction_K: Tensor | None = None  # float32, added to the logits (sampled vocabulary)
    target_R: Tensor | None = None  # int64, targets as indices into these candidates, when they were sampled


def label_candidates(
    task: "Task", codec: TextCodec, rng: np.random.Generator | None, index: int | None = None
) -> Candidates:
    """The label texts of a task: one text per class drawn by `rng` in training, all of them without.

    Args:
        index: the task's index among the tasks of the run.
    """
    texts_of_class = task.class_texts(training=rng is not None)
    drawn = texts_of_class if rng is None else [(texts[rng.integers(len(texts))],) for texts in texts_of_class]
    owner = [label for label, texts in enumerate(drawn) for _ in texts]
    ids = [codec.encode(text) for texts in drawn for text in texts]
    sequences = text_sequences(ids, task.facts("candidate", index), codec.end)
    sequences = replace(sequences, class_B=torch.tensor(owner))
    has_synonyms = len(owner) > len(task.labels)
    return Candidates(sequences=sequences, owner_K=torch.tensor(owner) if has_synonyms else None)


def vocabulary_sequences(word_K: Tensor, facts: Facts, end: int) -> Sequences:
    """Words of the vocabulary as candidates: [word, end]; all of one length, so without a mask."""
    ids_K2 = torch.stack([word_K, torch.full_like(word_K, end)], dim=1)
    return Sequences(facts=facts, parts=(Part(modality=TEXT, values=ids_K2),))


def vocabulary_candidates(task: "Task", codec: TextCodec, index: int | None = None) -> Candidates:
    """Every entry of the vocabulary, in order."""
    return Candidates(
        sequences=vocabulary_sequences(torch.arange(codec.size), task.facts("candidate", index), codec.end)
    )


def sampled_candidates(
    target_R: Tensor, q_V: Tensor, samples: int, stream: torch.Generator, facts: Facts, end: int
) -> Candidates:
    """The targets of a batch, once each, and `samples` draws with replacement from the other words.

    A drawn word's logit is lowered by log(samples * q), with q renormalised without the targets, so that the
    expected sum of exp(logit) equals the exact partition sum; a word drawn n times counts n times. Targets are
    certain, so they are not corrected. (Sampled softmax as importance sampling; Bengio & Senecal, 2003.)

    Args:
        q_V: positive proposal weights of the vocabulary, any sum.
    """
    target_U = target_R[target_R >= 0].unique()
    others_V = q_V.double().clone()
    others_V[target_U] = 0.0
    word_K, correction_K = target_U, torch.zeros(len(target_U))
    if samples and bool((others_V > 0).any()):
        drawn_S = torch.multinomial(others_V, samples, replacement=True, generator=stream)
        drawn_D, count_D = drawn_S.unique(return_counts=True)
        q_D = others_V[drawn_D] / others_V.sum()
        word_K = torch.cat([target_U, drawn_D])
        correction_K = torch.cat([correction_K, (count_D.log() - (samples * q_D).log()).float()])
    place_V = torch.full((len(q_V),), -1, dtype=torch.int64)
    place_V[target_U] = torch.arange(len(target_U))
    target_R = torch.where(target_R >= 0, place_V[target_R.clamp(min=0)], -1)
    sequences = vocabulary_sequences(word_K, facts, end)
    return Candidates(sequences=sequences, correction_K=correction_K, target_R=target_R)


def represent_candidates(model: Model, candidates: Candidates, stream: torch.Generator | None = None) -> Tensor:
    """Unit representations of the candidates, (K, D); several texts of a class are averaged and normalised again."""
    return representations(model, candidates, model.encode(candidates.sequences, stream, summary=True))


def representations(model: Model, candidates: Candidates, encoded: Encoded) -> Tensor:
    """As `represent_candidates`, for candidates that are encoded already."""
    c_KD = unit(model.represent(encoded.x_BND[:, 0]), float32=model.likelihood_float32)
    if candidates.owner_K is None:
        return c_KD
    owner_K = candidates.owner_K.to(c_KD.device)
    classes = int(owner_K.max()) + 1
    sum_CD = torch.zeros(classes, c_KD.shape[1], dtype=c_KD.dtype, device=c_KD.device).index_add(0, owner_K, c_KD)
    return unit(sum_CD, float32=model.likelihood_float32)


@torch.no_grad()
def represent_in_chunks(model: Model, candidates: Candidates, chunk: int = 2048) -> Tensor:
    """As `represent_candidates` at inference, in bounded memory, for candidates without padding owners."""
    sequences = candidates.sequences
    if candidates.owner_K is not None or sequences.size <= chunk:
        return represent_candidates(model, candidates)
    parts = []
    for start in range(0, sequences.size, chunk):
        rows = rows_of(sequences, slice(start, start + chunk))
        parts.append(represent_candidates(model, Candidates(sequences=rows)))
    return torch.cat(parts)


def rows_of(sequences: Sequences, rows: slice | Tensor) -> Sequences:
    """Some of the sequences, as a slice or as row numbers."""

    def of(value: Tensor | None) -> Tensor | None:
        return None if value is None else value[rows]

    parts = tuple(
        replace(
            part,
            values=part.values[rows],
            valid_BN=of(part.valid_BN),
            keep_BG=of(part.keep_BG),
            position_BN=of(part.position_BN),
            order_BN=of(part.order_BN),
            query_BN=of(part.query_BN),
        )
        for part in sequences.parts
    )
    return replace(sequences, parts=parts, class_B=of(sequences.class_B), place_B=of(sequences.place_B))
