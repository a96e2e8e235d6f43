"""What a kind of answer says of itself: what a sample lacks, what is read of it, where the answer is read, its loss.

Shape suffixes: R read-outs, K candidates, V vocabulary.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from uniperceiver.modalities import TEXT
from uniperceiver.records import Encoded, Part, Readout, Sample, Sequences
from uniperceiver.tasks.candidates import Candidates, TextCodec
from uniperceiver.tasks.loss import cross_entropy, soft_cross_entropy
from uniperceiver.tasks.sequences import pad
from uniperceiver.tasks.text import Text, plain

if TYPE_CHECKING:
    from uniperceiver.tasks.task import Task

_UNCUT = 2**62  # tokens


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a kind of answer takes of a sample beside its media; a kind that needs more derives a record of its own."""

    sample: str  # its name
    text: Text | None = None  # the text that is read, and what is asked in it
    target: int = -1  # the right candidate of a task that answers once for a sample; -1: unknown
    candidate: tuple[int, ...] = ()  # ids of the text that is this sample's own candidate
    class_name: str = ""  # of samples that share their right candidates; "": it has its own

    @property
    def kin(self) -> str:
        """The same for samples whose candidates are right for each other."""
        return self.class_name or self.sample


@dataclass(frozen=True, kw_only=True)
class CandidateDraw:
    """What decides which candidates a training batch is compared with: a pure function of these numbers."""

    seed: int
    step: int
    place: int  # of the batch in the step
    sample: int = 0  # entries of the vocabulary that are drawn; 0: all
    proposal_V: Tensor | None = None  # float, weight of each entry when it is drawn


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What is right at the read-outs of a batch, once its inputs are encoded."""

    readout: Readout
    terms: Mapping[str, Tensor] = field(default_factory=dict)  # of the loss, beside that of the likelihood


class AnswerKind:
    """A kind of answer: everything about a task that depends on what its candidates are and where they are read.

    The methods here are those of a kind that reads its answer once, at the first <SPE>. A kind of one's own overrides
    what differs, and is entered into `ANSWERS` under a name; `evaluation.answers.EVALUATIONS` has the other half.
    """

    candidates: str
    """What a Task of this kind has as `candidates`: where the possible answers come from."""
    read_at: tuple[str, ...] = ("summary",)
    """What it may have as `read_at`."""
    question: str | None = None
    """The method of a loaded model that asks such a task: "classify", "caption" or "rank"; None: there is none."""
    causal: bool = False
    """Whether its text is written word after word, so that no word may know of those behind it."""
    has_labels: bool = False
    """Whether a Task of this kind has `labels`, and a prompt-tuned head or vector for each of them."""
    from_vocabulary: bool = False
    """Whether the candidates are the words of the vocabulary, of which training may draw some."""
    among_batch: bool = False
    """Whether the candidates are those of the other samples of a batch, so that a sample alone has nothing to learn."""
    needs_text: bool = False
    """Whether a text must be among the inputs."""
    reads_objects: bool = False
    """Whether it is about the things in a picture, whose boxes go through the same crop and flips as its pixels."""

    def contradictions(self, task: "Task") -> Iterator[str]:
        """What is wrong with a task's declaration."""
        if self.needs_text and TEXT not in task.inputs:
            yield f"read_at={task.read_at!r} needs a text among the inputs"
        if task.target != TEXT:
            yield f"target={task.target!r}, but labels and words are texts"

    def reads_text(self, task: "Task") -> bool:
        """Whether the sample's own text is read, which it then must have."""
        return TEXT in task.inputs

    def answers_in_text(self, task: "Task") -> bool:
        """Whether the answer is read at an {answer} in the template."""
        return False

    def lacking(self, task: "Task", sample: Sample, *, training: bool) -> str | None:
        """What the sample does not have beside its media and text, such as "label"; None: it has all."""
        return None

    def asked(
        self, task: "Task", sample: Sample, codec: TextCodec, length: int, rng: np.random.Generator, *, training: bool
    ) -> Asked:
        """What is asked of a sample.

        Args:
            length: tokens of the longest text, the end token counted.
            rng: the sample's own stream.
        """
        text = None
        if self.reads_text(task):
            assert sample.text is not None
            text = plain(codec, sample.text, length, task.template or "{text}", sample.second)
        return Asked(sample=sample.id, text=text)

    def most_tokens(self, task: "Task", length: int) -> int:
        """How many tokens the text part of a sample has at most, if its texts have that many."""
        return length if self.reads_text(task) else 0

    def lengths(self, task: "Task", sample: Sample, codec: TextCodec) -> list[int]:
        """The lengths of a sample's texts in tokens, if none were cut: with end token, template and answer."""
        if not self.reads_text(task) or sample.text is None:
            return []
        asked = self.asked(task, sample, codec, _UNCUT, np.random.default_rng(0), training=False)
        return [] if asked.text is None else [len(asked.text.ids)]

    def text_part(self, asked: Sequence[Asked], codec: TextCodec) -> Part | None:
        """The texts of a batch as the last part of its sequences; None: nothing is read."""
        texts = [sample.text for sample in asked if sample.text is not None]
        if not texts:
            return None
        ids_BN, valid_BN = pad([text.ids for text in texts])
        return Part(modality=TEXT, values=ids_BN, valid_BN=valid_BN)

    def readout(self, task: "Task", asked: Sequence[Asked], inputs: Sequences) -> Readout:
        """Where the answers of a batch are read, and which are right."""
        row_R = torch.arange(len(asked))
        target_R = torch.tensor([sample.target for sample in asked])
        return Readout(segment=0, row_R=row_R, position_R=row_R * 0, target_R=target_R, summary=True)

    def settled(self, encoded: Encoded, readout: Readout) -> Settled:
        """What is right at the read-outs, where the model's outputs decide what is asked; usually nothing changes."""
        return Settled(readout=readout)

    def shifted(self, task: "Task", logits_RK: Tensor, encoded: Encoded) -> Tensor:
        """Logits with what the model adds to those of such tasks alone; usually nothing."""
        return logits_RK

    def batch_candidates(
        self, task: "Task", asked: Sequence[Asked], codec: TextCodec, index: int | None
    ) -> Sequences | None:
        """Candidates that come with the batch; None: they do not depend on it."""
        return None

    def all_candidates(self, task: "Task", codec: TextCodec, index: int | None = None) -> Candidates | None:
        """All candidates of the task, in order, as evaluation compares them; None: they come with the batch.

        Args:
            index: the task's index among the tasks of the run.
        """
        raise NotImplementedError

    def training_candidates(
        self, task: "Task", codec: TextCodec, index: int | None, readout: Readout, draw: CandidateDraw
    ) -> Candidates | None:
        """The candidates that a training batch is compared with; None: those that come with it."""
        return self.all_candidates(task, codec, index)

    def loss_terms(
        self, logits_RK: Tensor, readout: Readout, candidates: Candidates, smoothing: float
    ) -> Mapping[str, Tensor]:
        """The named terms whose sum is the loss of a batch."""
        if readout.soft_RK is not None:
            return {"nll": soft_cross_entropy(logits_RK, readout.soft_RK, smoothing)}
        return {"nll": cross_entropy(logits_RK, targets(readout, candidates), smoothing, candidates.correction_K)}

    def accuracies(self, logits_RK: Tensor, readout: Readout, candidates: Candidates) -> dict[str, Tensor]:
        """The accuracies of a batch, without gradient, as the original release adds them to its losses."""
        if readout.soft_RK is not None:  # labels are mixed: none of them is right
            return {}
        return {"accuracy": (logits_RK.argmax(dim=-1) == targets(readout, candidates)).float().mean()}

    def names(self, task: "Task", codec: TextCodec) -> list[str]:
        """What people call the candidates, in the order of `all_candidates`; empty where they come with the batch."""
        return []

    def described(self, task: "Task") -> str:
        """The possible answers, in a few words for the model card."""
        raise NotImplementedError


def targets(readout: Readout, candidates: Candidates) -> Tensor:
    """The right candidates, (R,) int64, as numbers among these candidates; -1 where unknown."""
    return readout.target_R if candidates.target_R is None else candidates.target_R


def readout_in_text(asked: Sequence[Asked], inputs: Sequences, behind: int = 0) -> Readout:
    """Answers that are read at the places that each text asks at.

    Args:
        behind: tokens of the text before its first place.
    """
    segment = len(inputs.media)
    # Positions count from the segment's start: behind the <SPE> prefix, if the text is the first segment.
    start = (segment == 0) + behind
    texts = [sample.text for sample in asked if sample.text is not None]
    return Readout(
        segment=segment,
        row_R=torch.tensor([row for row, text in enumerate(texts) for _ in text.ask_at]),
        position_R=torch.tensor([start + place for text in texts for place in text.ask_at]),
        target_R=torch.tensor([target for text in texts for target in text.target]),
    )


def caption_of(sample: Sample, rng: np.random.Generator, *, training: bool) -> str:
    """One of the sample's captions: drawn in training, else the first."""
    return sample.captions[rng.integers(len(sample.captions)) if training else 0]
