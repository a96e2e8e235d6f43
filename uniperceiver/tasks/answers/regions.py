"""The answer is a set of things: at every proposal of a picture, the likeliest class of its box.

Shape suffixes beside those of `records`: G things of a picture as the model sees them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from uniperceiver.records import Encoded, Readout, Sample, Sequences
from uniperceiver.records.regions import BACKGROUND, Objects, PictureThings
from uniperceiver.tasks.answers.kind import Asked, CandidateDraw, Settled
from uniperceiver.tasks.answers.labels import Labels
from uniperceiver.tasks.candidates import Candidates, TextCodec, label_candidates
from uniperceiver.tasks.localisation.classes import CLASS_TERMS, class_loss, class_targets
from uniperceiver.tasks.localisation.criterion import localise

if TYPE_CHECKING:
    from uniperceiver.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class AskedThings(Asked):
    """The things of a picture, beside what every kind of answer takes."""

    things: PictureThings
    kept: bool  # whether the picture's own pixels matter later, as in evaluation


class RegionLabels(Labels):
    """Classes with one or several texts each, read at every proposal (Uni-Perceiver v2, Eq. 7); no text is read."""

    read_at = ("proposals",)
    question = "detect"
    reads_objects = True

    def contradictions(self, task: "Task") -> Iterator[str]:
        yield from super().contradictions(task)
        if task.inputs != ("image",):
            yield f"read_at={task.read_at!r} needs inputs=('image',): a picture alone, as proposals are made of it"
        if task.class_term not in CLASS_TERMS:
            yield f"unknown class_term {task.class_term!r}"
        if task.objectness not in ("focal", "iou"):
            yield f"unknown objectness {task.objectness!r}"
        if task.class_term == "background" and any(BACKGROUND in texts for texts in task.labels):
            yield (
                f"class_term='background' has the text {BACKGROUND!r} for what is no thing, and a class is called so, "
                "too; give that class another text"
            )

    def answers_in_text(self, task: "Task") -> bool:
        return False

    def lacking(self, task: "Task", sample: Sample, *, training: bool) -> str | None:
        if not training:
            return None
        if sample.boxes is None:
            return "boxes"
        if len(sample.boxes) and sample.classes is None:
            return "classes of its boxes"
        return "masks" if task.masks and len(sample.boxes) and sample.masks is None else None

    def asked(
        self, task: "Task", sample: Sample, codec: TextCodec, length: int, rng: np.random.Generator, *, training: bool
    ) -> Asked:
        assert sample.things is not None, "samples of this kind come from framed(), data/media/objects.py"
        return AskedThings(sample=sample.id, things=sample.things, kept=not training)

    def readout(self, task: "Task", asked: Sequence[Asked], inputs: Sequences) -> Readout:
        """Every proposal; which class is right at which is known when they are paired with the things (`settled`)."""
        samples = [sample for sample in asked if isinstance(sample, AskedThings)]
        objects = collated([sample.things for sample in samples], kept=all(sample.kept for sample in samples))
        row_R, position_R = torch.where(objects.single_BG)
        return Readout(
            segment=0,
            row_R=row_R,
            position_R=position_R,
            target_R=objects.class_BG[row_R, position_R],
            objects=objects,
            class_term=task.class_term,
            objectness=task.objectness,
        )

    def all_candidates(self, task: "Task", codec: TextCodec, index: int | None = None) -> Candidates:
        return label_candidates(_with_background(task), codec, None, index)

    def training_candidates(
        self, task: "Task", codec: TextCodec, index: int | None, readout: Readout, draw: CandidateDraw
    ) -> Candidates:
        return super().training_candidates(_with_background(task), codec, index, readout, draw)

    def shifted(self, task: "Task", logits_RK: Tensor, encoded: Encoded) -> Tensor:
        if task.class_term != "sigmoid":
            return logits_RK
        assert encoded.regions is not None, "the model makes no proposals"
        assert encoded.regions.name_bias is not None, "the model has no bias of names"
        return logits_RK + encoded.regions.name_bias

    def loss_terms(
        self, logits_RK: Tensor, readout: Readout, candidates: Candidates, smoothing: float
    ) -> Mapping[str, Tensor]:
        return {"nll": class_loss(logits_RK, readout.target_R, readout.class_term, smoothing)}

    def settled(self, encoded: Encoded, readout: Readout) -> Settled:
        assert encoded.regions is not None, "the model makes no proposals"
        assert readout.objects is not None
        located = localise(encoded.regions, readout.objects, readout.objectness)
        rows, proposals = located.class_BN.shape
        row_R = torch.arange(rows, device=located.class_BN.device).repeat_interleave(proposals)
        position_R = torch.arange(proposals, device=row_R.device).repeat(rows) + encoded.regions.start
        target_R = class_targets(located.class_BN, located.none_BN, readout.class_term)
        targets = replace(readout, row_R=row_R, position_R=position_R, target_R=target_R)
        return Settled(readout=targets, terms=located.terms)


def _with_background(task: "Task") -> "Task":
    """The task with a class more, behind the others, where what is no thing is one of its candidates."""
    if task.class_term != "background":
        return task
    return replace(task, labels=(*task.labels, (BACKGROUND,)), class_term="softmax")


def collated(pictures: Sequence[PictureThings], *, kept: bool) -> Objects:
    """The things of several pictures as a batch, padded to the most; boxes of nothing where they are padded.

    Args:
        kept: keep the pictures' own records, too.
    """
    counts = [len(picture.seen_class_G) for picture in pictures]
    most = max([1, *counts])

    def padded(values: list[np.ndarray], fill: float, dtype: torch.dtype) -> Tensor:
        batch = torch.full((len(values), most, *values[0].shape[1:]), fill, dtype=dtype)
        for row, value in enumerate(values):
            batch[row, : len(value)] = torch.from_numpy(value)
        return batch

    masks = [picture.seen_mask_GHW for picture in pictures if picture.seen_mask_GHW is not None]
    has_mask = [picture.seen_has_mask_G for picture in pictures if picture.seen_has_mask_G is not None]
    return Objects(
        box_BG4=padded([picture.seen_box_G4 for picture in pictures], 0.0, torch.float32),
        class_BG=padded([picture.seen_class_G for picture in pictures], -1, torch.int64),
        known_BG=torch.arange(most) < torch.tensor(counts)[:, None],
        crowd_BG=padded([picture.seen_crowd_G for picture in pictures], False, torch.bool),
        mask_BGHW=padded(masks, False, torch.bool) if masks else None,
        has_mask_BG=padded(has_mask, False, torch.bool) if masks else None,
        pictures=tuple(pictures) if kept else (),
    )
