"""What a kind of answer says of its evaluation: what is collected over a split, its metrics, and how it is shown.

Shape suffixes: R read-outs, K candidates.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from uniperceiver.data.batch import collate
from uniperceiver.evaluation.intervals import Interval, bootstrap_mean
from uniperceiver.evaluation.localisation.shown import ShownThings
from uniperceiver.evaluation.metrics import perplexity, top_k_hits
from uniperceiver.evaluation.predictions import Prediction, likeliest_of, of_plain, plain
from uniperceiver.evaluation.split import (
    AnyModel,
    Settings,
    Split,
    as_evaluated,
    at_moments,
    autocast,
    averaged,
    measured,
    represented,
)
from uniperceiver.records import Batch, Sample, to_device
from uniperceiver.tasks.ask import compare, input_features
from uniperceiver.tasks.candidates import Candidates
from uniperceiver.tasks.task import Task

Metrics = dict[str, float]

TOP = 4  # candidates shown
CANDIDATES = "candidates"  # the key of how many texts an input chooses among, where that depends on the split


@dataclass(frozen=True, kw_only=True)
class Shown:
    """An answer to a sample, for people."""

    text: str = ""  # that was read
    truth: tuple[str, ...] = ()  # right answers, or the captions that people wrote
    answers: tuple[tuple[str, float], ...] = ()  # with probability, best first; NaN: without one
    right: bool | None = None  # None: not a matter of right or wrong
    things: ShownThings | None = None  # in the picture, instead of answers


class Evaluation:
    """The evaluation of a kind of answer; the other half of `tasks.answers.AnswerKind`."""

    main_metric: str
    """The metric by which a task of this kind is usually judged first, and to which `chance` belongs."""
    more_metrics: tuple[str, ...] = ()
    """Its other metrics, beside the loss, by which a checkpoint may be the best."""
    explained: str = ""
    """What is seen where its answers are shown, for people who have not read how it works; "": that explains itself."""
    lower_is_better: frozenset[str] = frozenset()
    """Its metrics, beside loss and perplexity, of which a small value is a good value."""

    def metrics_of(self, task: Task) -> tuple[str, ...]:
        """The metrics, beside the loss, by which a checkpoint may be the best; the first is the task's main metric."""
        return (self.main_metric, *self.more_metrics)

    def judged_by(self, metrics: Mapping[str, float]) -> str | None:
        """The main metric among the figures of a task; None: they are not of this kind."""
        return self.main_metric if self.main_metric in metrics else None

    def metrics(self, model: AnyModel, split: Split, settings: Settings) -> Metrics:
        """All metrics of a split, with NAME_low and NAME_high (95 %), `loss`, `chance` and `n`."""
        raise NotImplementedError

    def shown(self, model: AnyModel, split: Split, settings: Settings, samples: Sequence[Sample]) -> Iterator[Shown]:
        """The model's answers to some samples, in order."""
        raise NotImplementedError


@dataclass
class Scores:
    """Scores of the read-outs of a split, batch by batch; of those whose target is known."""

    nll: list[Tensor] = field(default_factory=list)  # -log P(right candidate)
    hit1: list[Tensor] = field(default_factory=list)  # whether the best candidate is right
    hit5: list[Tensor] = field(default_factory=list)
    predicted: list[Tensor] = field(default_factory=list)
    target: list[Tensor] = field(default_factory=list)
    sample: list[Tensor] = field(default_factory=list)  # which sample a read-out belongs to
    hit1_of: dict[str, list[Tensor]] = field(default_factory=dict)  # as `hit1`, among other candidates, by their name

    def add(self, logits_RK: Tensor, target_R: Tensor, sample_R: Tensor) -> None:
        """Score one batch; read-outs without a known target are left out."""
        known_R = target_R >= 0
        scores_RK, target_R = logits_RK[known_R].float(), target_R[known_R]
        self.nll.append(torch.nn.functional.cross_entropy(scores_RK, target_R, reduction="none").cpu())
        self.hit1.append(top_k_hits(scores_RK, target_R, 1).cpu())
        self.hit5.append(top_k_hits(scores_RK, target_R, 5).cpu())
        self.predicted.append(scores_RK.argmax(dim=1).cpu())
        self.target.append(target_R.cpu())
        self.sample.append(sample_R[known_R].cpu())

    def extend(self, others: Mapping[str, Sequence[Tensor] | Mapping[str, Sequence[Tensor]]], first: int) -> None:
        """Take in scores, as their fields by name, of samples that begin with number `first` here."""
        for name, values in others.items():
            if isinstance(values, Mapping):
                for key, hits in values.items():
                    self.hit1_of.setdefault(key, []).extend(hits)
                continue
            getattr(self, name).extend(value + first if name == "sample" else value for value in values)

    def loss(self) -> Metrics:
        """The mean of -log P in nats, with its interval; a sample's read-outs belong together."""
        nll, sample = torch.cat(self.nll).double().numpy(), torch.cat(self.sample).numpy()
        return {"loss": float(nll.mean()), **interval_of("loss", bootstrap_mean(nll, seed=0, groups_N=sample))}

    def perplexity(self) -> Metrics:
        """exp of the loss, with its interval."""
        return {name.replace("loss", "perplexity"): perplexity(value) for name, value in self.loss().items()}


def scores(
    model: AnyModel,
    split: Split,
    settings: Settings,
    candidates: Candidates | None,
    others: Mapping[str, Candidates] | None = None,
) -> Scores:
    """Compare every read-out of a split with candidates that are the same for all.

    Args:
        others: more candidates by name, with which the same inputs are compared: `Scores.hit1_of`.
    """
    assert candidates is not None, f"the candidates of task {split.task.name!r} come with its batches"
    task, collected, seen = split.task, Scores(), 0
    names = [] if settings.on_predictions is None else task.answer.names(task, settings.codec)
    with torch.no_grad(), autocast(settings):
        c_KD = represented(model, candidates, settings)
        others_KD = {name: represented(model, other, settings) for name, other in (others or {}).items()}

        def scored(batch: Batch, captions: list[tuple[str, ...]]) -> dict[str, Any]:
            features = [input_features(model, moment) for moment in at_moments(batch)]

            def compared(other_KD: Tensor) -> Tensor:
                return averaged([compare(model, task, feature_RD, other_KD) for feature_RD in features])

            logits_RK, target_R, part = compared(c_KD), batch.readout.target_R, Scores()
            part.add(logits_RK, target_R, batch.readout.row_R)
            for name, other_KD in others_KD.items():
                of_other = Scores()
                of_other.add(compared(other_KD), target_R, batch.readout.row_R)
                part.hit1_of[name] = of_other.hit1
            answers: Sequence[Prediction] = []
            if settings.on_predictions is not None:
                answers = likeliest_of(task.name, split.name, names, batch, logits_RK, target_R)
            return {"scores": vars(part), "samples": len(captions), "answers": plain(answers)}

        for part in measured(split, settings, scored):
            collected.extend(part["scores"], seen)
            seen += part["samples"]
            tell(settings, part["answers"])
    return collected


def batch_of(split: Split, settings: Settings, samples: Sequence[Sample]) -> Batch:
    """Some samples as evaluation sees them."""
    task, codec = split.task, settings.codec
    items = [as_evaluated(split, sample, codec) for sample in samples]
    return to_device(collate(task, items, codec, split.index), settings.device)


def likeliest(probability_K: Tensor, names: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """The names and probabilities of the likeliest candidates, best first."""
    best = probability_K.topk(min(TOP, len(names)))
    return tuple((names[candidate], float(value)) for value, candidate in zip(*best, strict=True))


def tell(settings: Settings, answers: Sequence[Mapping[str, Any]]) -> None:
    """Hand on the answers of a batch, as `predictions.plain` gave them, if anybody asks for them."""
    if settings.on_predictions is not None:
        settings.on_predictions(of_plain(answers))


def interval_of(metric: str, interval: Interval) -> Metrics:
    """The ends of a metric's interval under their keys; one that cannot be said is left out."""
    ends = (("low", interval.low), ("high", interval.high))
    return {f"{metric}_{end}": value for end, value in ends if math.isfinite(value)}
