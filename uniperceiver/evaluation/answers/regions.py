"""Things in pictures: average precision of their boxes and masks over a split.

Shape suffixes: K classes.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from uniperceiver.errors import UserError
from uniperceiver.evaluation.answers.kind import Evaluation, Metrics, Shown, batch_of, interval_of
from uniperceiver.evaluation.localisation.collected import MASK, FoundThings
from uniperceiver.evaluation.localisation.constant_boxes import best_constant_boxes
from uniperceiver.evaluation.localisation.matching import Matches
from uniperceiver.evaluation.localisation.shown import ShownThings
from uniperceiver.evaluation.predictions import Prediction
from uniperceiver.evaluation.split import AnyModel, Settings, Split, autocast, batches
from uniperceiver.records import Batch, Sample, to_device
from uniperceiver.records.regions import Detections, PictureThings, ProposalLayer
from uniperceiver.tasks.ask import Answered, answer_among
from uniperceiver.tasks.candidates import represent_in_chunks
from uniperceiver.tasks.localisation.classes import class_loss, class_weight
from uniperceiver.tasks.localisation.detections import detections_of
from uniperceiver.tasks.task import Task

_LEARNT_FROM = 500  # training pictures that chance looks at
_NLL = "nll"


class RegionsEvaluation(Evaluation):
    """COCO's average precision; chance is that of the best constant boxes of the training set, in every picture."""

    main_metric = "ap"
    more_metrics = ("ap50", "ap75")
    explained = (
        "Solid: what the model finds with a score of 0.3 or more. Dashed: what people have marked. A colour is a "
        "class; found is what overlaps a marked thing of its class by half."
    )

    def metrics_of(self, task: Task) -> tuple[str, ...]:
        boxes = super().metrics_of(task)
        return (*(MASK + name for name in boxes), *boxes) if task.masks else boxes

    def judged_by(self, metrics: Mapping[str, float]) -> str | None:
        return next((name for name in (MASK + self.main_metric, self.main_metric) if name in metrics), None)

    def metrics(self, model: AnyModel, split: Split, settings: Settings) -> Metrics:
        task, names = split.task, split.task.answer.names(split.task, settings.codec)
        collected, losses = FoundThings(names=names, masks=task.masks), _Losses()
        key = ("constant boxes", task.name, split.name, settings.limit)
        truth: list[PictureThings] = []  # that chance is still to be worked out of
        for batch, answered, detections in _answers(model, split, settings):
            losses.add(task, batch, answered)
            for sample, picture, things in zip(batch.ids, detections, _pictures(batch), strict=True):
                matches = collected.add(picture, things)
                if key not in settings.memory:
                    truth.append(things)
                if settings.on_detections is not None:
                    settings.on_detections(sample, picture)
                if settings.on_predictions is not None:
                    settings.on_predictions(list(_predictions(split, sample, picture, matches)))
        if not collected.things.any():
            raise UserError(f"{task.name}/{split.name}: no picture has a thing in it, so there is nothing to find")
        if key not in settings.memory:
            settings.memory[key] = _chance(split, settings, names, truth)
        chance = settings.memory[key]
        figures, by_class = collected.precision()
        settings.on_precision(by_class)
        metrics: Metrics = {}
        for name, (value, interval) in figures.items():
            metrics |= {name: value, **interval_of(name, interval), f"chance_{name}": chance[name]}
        return metrics | losses.means() | {"chance": chance[self.metrics_of(task)[0]], "n": len(collected.boxes)}

    @torch.no_grad()
    def shown(self, model: AnyModel, split: Split, settings: Settings, samples: Sequence[Sample]) -> Iterator[Shown]:
        batch = batch_of(split, settings, samples)
        c_KD = _represented(model, split, settings)
        answered = answer_among(model, split.task, batch, c_KD, settle=False)
        for picture, things in zip(_detections(split, settings, batch, answered), _pictures(batch), strict=True):
            yield Shown(things=ShownThings.of(picture, things))


class _Losses:
    """The terms of the loss over a split: means over all things, which do not depend on the batches."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = {}
        self._counts = {"answers": 0.0, "things": 0.0}

    def add(self, task: Task, batch: Batch, answered: Answered) -> None:
        """Take in the terms of a batch, each of which is divided by the number of its things, 1 at least."""
        objects = batch.readout.objects
        assert objects is not None
        things = int(objects.single_BG.sum())
        target_R = answered.readout.target_R
        answers = float(class_weight(target_R, task.class_term))
        terms = {_NLL: class_loss(answered.logits_RK, target_R, task.class_term) * answers}
        terms |= {name: term * max(1, things) for name, term in answered.terms.items()}
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, 0.0) + float(term)
        self._counts["answers"] += answers
        self._counts["things"] += things

    def means(self) -> Metrics:
        """`nll` of the classes, `localisation` of all else, and their sum."""
        nll = self._sums.pop(_NLL, 0.0) / max(1.0, self._counts["answers"])
        localisation = sum(self._sums.values()) / max(1.0, self._counts["things"])
        return {"loss": nll + localisation, "nll": nll, "localisation": localisation}


def _answers(
    model: AnyModel, split: Split, settings: Settings
) -> Iterator[tuple[Batch, Answered, Iterator[Detections]]]:
    """What the model finds in every batch of a split."""
    with torch.no_grad(), autocast(settings):
        c_KD = _represented(model, split, settings)
        for batch, _ in batches(split, settings):
            answered = answer_among(model, split.task, batch, c_KD)
            yield batch, answered, _detections(split, settings, batch, answered)


def _represented(model: AnyModel, split: Split, settings: Settings) -> Tensor:
    """The texts of the classes, (K, D)."""
    candidates = split.task.answer.all_candidates(split.task, settings.codec, split.index)
    assert candidates is not None
    return represent_in_chunks(model, to_device(candidates, settings.device))


def _detections(split: Split, settings: Settings, batch: Batch, answered: Answered) -> Iterator[Detections]:
    """What was found in each picture; picture by picture, as a hundred masks of each are large."""
    regions = answered.regions
    assert regions is not None
    names = split.task.answer.names(split.task, settings.codec)
    proposals = regions.chosen_BN.shape[1]
    for row, things in enumerate(_pictures(batch)):
        last = _of_row(regions.layers[-1], row, masks=split.task.masks)
        own = replace(regions, layers=(last,), chosen_BN=regions.chosen_BN[row : row + 1])
        logits_NK = answered.logits_RK[row * proposals : (row + 1) * proposals]
        yield from detections_of(logits_NK, own, [things], names, term=split.task.class_term)


def _of_row(layer: ProposalLayer, row: int, *, masks: bool) -> ProposalLayer:
    """The queries of a picture, with their masks if these are asked for."""
    own = slice(row, row + 1)
    mask_BQHW = layer.mask_BQHW[own] if masks and layer.mask_BQHW is not None else None
    return ProposalLayer(objectness_BQ=layer.objectness_BQ[own], box_BQ4=layer.box_BQ4[own], mask_BQHW=mask_BQHW)


def _pictures(batch: Batch) -> tuple[PictureThings, ...]:
    assert batch.readout.objects is not None
    return batch.readout.objects.pictures


def _chance(split: Split, settings: Settings, names: Sequence[str], truth: Iterable[PictureThings]) -> Metrics:
    """The figures of the best constant boxes of the training set."""
    training = replace(split, name="train", source=split.training or split.source)
    quiet = Settings(
        codec=settings.codec, device=torch.device("cpu"), batch=settings.batch, limit=_LEARNT_FROM, max_broken=1.0
    )
    marked = (things for batch, _ in batches(training, quiet) for things in _pictures(batch))
    constant = best_constant_boxes(things for things in marked if things.box_O4 is not None)
    collected = FoundThings(names=names, masks=split.task.masks)
    for things in truth:
        collected.add(constant.in_picture(things.size, names), things)
    return collected.figures()


def _predictions(split: Split, sample: str, picture: Detections, matches: Matches | None) -> Iterator[Prediction]:
    """Every thing that was found, best first; right is what overlaps a thing of its class by half."""
    right: dict[int, bool | None] = {}
    if matches is not None:
        for place, is_right, ignored in zip(
            matches.place_D, matches.right_ATD[0, 0], matches.ignored_ATD[0, 0], strict=True
        ):
            right[int(place)] = None if ignored else bool(is_right)
    for place, (label, score, box_4) in enumerate(zip(picture.labels, picture.scores, picture.boxes, strict=True)):
        is_right = right.get(place)
        yield Prediction(
            task=split.task.name,
            split=split.name,
            sample=sample,
            truth=(label,) if is_right else (),
            answer=label,
            probability=float(score),
            right=is_right,
            box=" ".join(f"{side:.2f}" for side in box_4.tolist()),
        )
