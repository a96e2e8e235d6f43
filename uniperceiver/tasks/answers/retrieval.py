"""The answer is the text (or the sound, ...) that belongs to the input, among those of its batch.

Shape suffixes: B inputs, and as many candidates; R read-outs, K candidates.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from uniperceiver.modalities import TEXT
from uniperceiver.records import Readout, Sample, Sequences
from uniperceiver.tasks.answers.kind import AnswerKind, Asked, caption_of
from uniperceiver.tasks.candidates import Candidates, TextCodec
from uniperceiver.tasks.loss import contrastive
from uniperceiver.tasks.sequences import text_sequences

if TYPE_CHECKING:
    from uniperceiver.tasks.task import Task


class Retrieval(AnswerKind):
    """Every input's own text is right for it, those of the others are not; compared in both directions.

    Of a task whose target is another modality than text, likewise the sample's own sound, picture or clip.
    """

    candidates = "in_batch"
    question = "rank"
    among_batch = True

    def contradictions(self, task: "Task") -> Iterator[str]:
        """Another target than text is no contradiction."""
        return iter(())

    def lacking(self, task: "Task", sample: Sample, *, training: bool) -> str | None:
        return "caption" if task.target == TEXT and not sample.captions else None

    def asked(
        self, task: "Task", sample: Sample, codec: TextCodec, length: int, rng: np.random.Generator, *, training: bool
    ) -> Asked:
        asked = super().asked(task, sample, codec, length, rng, training=training)
        if task.target != TEXT:
            return asked
        own = codec.encode(caption_of(sample, rng, training=training))[: length - 1]  # the end token comes behind
        class_name = f"class {sample.label}" if sample.captioned_by_label else ""
        return replace(asked, candidate=tuple(own), class_name=class_name)

    def lengths(self, task: "Task", sample: Sample, codec: TextCodec) -> list[int]:
        if task.target != TEXT:
            return super().lengths(task, sample, codec)
        return [len(codec.encode(caption)) + 1 for caption in sample.captions]

    def readout(self, task: "Task", asked: Sequence[Asked], inputs: Sequences) -> Readout:
        return replace(super().readout(task, asked, inputs), soft_RK=_same(asked))

    def batch_candidates(self, task: "Task", asked: Sequence[Asked], codec: TextCodec, index: int | None) -> Sequences:
        return text_sequences([sample.candidate for sample in asked], task.facts("candidate", index), codec.end)

    def all_candidates(self, task: "Task", codec: TextCodec, index: int | None = None) -> None:
        return None

    def loss_terms(
        self, logits_RK: Tensor, readout: Readout, candidates: Candidates, smoothing: float
    ) -> Mapping[str, Tensor]:
        assert readout.soft_RK is not None
        return contrastive(logits_RK, readout.soft_RK, smoothing)

    def accuracies(self, logits_RK: Tensor, readout: Readout, candidates: Candidates) -> dict[str, Tensor]:
        """Those of both directions."""
        assert readout.soft_RK is not None
        return {
            "accuracy_to_candidate": _share_right(logits_RK, readout.soft_RK),
            "accuracy_to_input": _share_right(logits_RK.T, readout.soft_RK.T),
        }

    def described(self, task: "Task") -> str:
        return "sounds that are given" if task.target == "audio" else "texts or pictures that are given"


def _same(asked: Sequence[Asked]) -> Tensor:
    """1 where a candidate has the text of the input's own, or comes from its sample or kin, (B, B) float32."""
    text_B, sample_B = _numbered([a.candidate or a.kin for a in asked]), _numbered([a.kin for a in asked])
    return ((text_B[:, None] == text_B) | (sample_B[:, None] == sample_B)).float()


def _numbered(values: Sequence[Hashable]) -> Tensor:
    """The same number for equal values, (B,) int64."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(value, len(numbers)) for value in values])


def _share_right(logits_RK: Tensor, right_RK: Tensor) -> Tensor:
    return (right_RK.gather(1, logits_RK.argmax(dim=1, keepdim=True)) > 0).float().mean()
