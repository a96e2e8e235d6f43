"""The answer is one of the task's classes: the likeliest of their texts."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from uniperceiver.modalities import TEXT
from uniperceiver.records import Readout, Sample, Sequences
from uniperceiver.streams import numpy_stream
from uniperceiver.tasks.answers.kind import AnswerKind, Asked, CandidateDraw, readout_in_text
from uniperceiver.tasks.candidates import Candidates, TextCodec, label_candidates
from uniperceiver.tasks.text import plain, templated

if TYPE_CHECKING:
    from uniperceiver.tasks.task import Task

_SHOWN = 8  # classes that a card names


class Labels(AnswerKind):
    """Classes with one or several texts each, read at the first <SPE> or at an <SPE> in a template."""

    candidates = "labels"
    read_at: tuple[str, ...] = ("summary", "masked")
    question = "classify"
    has_labels = True

    def contradictions(self, task: "Task") -> Iterator[str]:
        yield from super().contradictions(task)
        if self.answers_in_text(task) and TEXT not in task.inputs:
            yield f"read_at={task.read_at!r} needs a text among the inputs"

    def answers_in_text(self, task: "Task") -> bool:
        return task.read_at == "masked"

    def lacking(self, task: "Task", sample: Sample, *, training: bool) -> str | None:
        if len(sample.labels) > 1:
            return (
                f"single label: it has {len(sample.labels)}, which a task of tags takes (image_tagging, text_tagging)"
            )
        return "label" if training and sample.label is None else None

    def asked(
        self, task: "Task", sample: Sample, codec: TextCodec, length: int, rng: np.random.Generator, *, training: bool
    ) -> Asked:
        label, text = -1 if sample.label is None else sample.label, None
        if self.reads_text(task):
            assert sample.text is not None
            if self.answers_in_text(task):
                text = templated(codec, task.template, sample.text, length, label, sample.second)
            else:
                text = plain(codec, sample.text, length, task.template or "{text}", sample.second)
        return Asked(sample=sample.id, text=text, target=label)

    def readout(self, task: "Task", asked: Sequence[Asked], inputs: Sequences) -> Readout:
        return readout_in_text(asked, inputs) if self.answers_in_text(task) else super().readout(task, asked, inputs)

    def all_candidates(self, task: "Task", codec: TextCodec, index: int | None = None) -> Candidates:
        return label_candidates(task, codec, None, index)

    def training_candidates(
        self, task: "Task", codec: TextCodec, index: int | None, readout: Readout, draw: CandidateDraw
    ) -> Candidates:
        """A text of each class, drawn for the batch."""
        return label_candidates(task, codec, numpy_stream(draw.seed, "label texts", draw.step, draw.place), index)

    def names(self, task: "Task", codec: TextCodec) -> list[str]:
        return [texts[0] for texts in task.labels]

    def described(self, task: "Task") -> str:
        names = [texts[0] for texts in task.labels]
        return ", ".join(names[:_SHOWN]) + (f", ... ({len(names)} in all)" if len(names) > _SHOWN else "")
