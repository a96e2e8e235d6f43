"""The answer is a hidden word of a text: the likeliest entry of the vocabulary."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from uniperceiver.records import Readout, Sample, Sequences
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.answers.kind import AnswerKind, Asked, CandidateDraw, readout_in_text
from uniperceiver.tasks.candidates import Candidates, TextCodec, sampled_candidates, vocabulary_candidates
from uniperceiver.tasks.text import masked

if TYPE_CHECKING:
    from uniperceiver.tasks.task import Task


class VocabularyAnswer(AnswerKind):
    """Words of the vocabulary as candidates; in training all of them, or the right ones and some that are drawn."""

    candidates = "vocabulary"
    from_vocabulary = True
    needs_text = True

    def all_candidates(self, task: "Task", codec: TextCodec, index: int | None = None) -> Candidates:
        return vocabulary_candidates(task, codec, index)

    def training_candidates(
        self, task: "Task", codec: TextCodec, index: int | None, readout: Readout, draw: CandidateDraw
    ) -> Candidates:
        if not draw.sample:
            return vocabulary_candidates(task, codec, index)
        assert draw.proposal_V is not None
        stream = torch_stream(draw.seed, "candidates", draw.step, draw.place)
        facts = task.facts("candidate", index)
        return sampled_candidates(readout.target_R, draw.proposal_V, draw.sample, stream, facts, codec.end)

    def names(self, task: "Task", codec: TextCodec) -> list[str]:
        return [codec.decode([word]) for word in range(codec.size)]

    def described(self, task: "Task") -> str:
        return "words of the vocabulary"


class MaskedWords(VocabularyAnswer):
    """Whole words of a text are hidden, and read where they stood."""

    read_at = ("masked",)

    def asked(
        self, task: "Task", sample: Sample, codec: TextCodec, length: int, rng: np.random.Generator, *, training: bool
    ) -> Asked:
        assert sample.text is not None
        return Asked(sample=sample.id, text=masked(codec, sample.text, length, rng, sample.second))

    def readout(self, task: "Task", asked: Sequence[Asked], inputs: Sequences) -> Readout:
        return readout_in_text(asked, inputs)
