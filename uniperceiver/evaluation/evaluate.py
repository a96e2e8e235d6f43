"""The figures of a task on a split: metrics, their 95 % intervals, and what chance would give."""

import math
from collections.abc import Mapping

import numpy as np
import torch

from uniperceiver.evaluation.answers import Answers, AnyModel, Settings, Split, answers, captions, gallery
from uniperceiver.evaluation.captions import caption_scores, caption_statistics
from uniperceiver.evaluation.chance import majority_share
from uniperceiver.evaluation.constant_caption import best_constant_captions
from uniperceiver.evaluation.intervals import Interval, bootstrap_captions, bootstrap_confusion, bootstrap_mean, wilson
from uniperceiver.evaluation.metrics import confusion, f1, matthews, perplexity
from uniperceiver.evaluation.retrieval import retrieval_chance, retrieval_hits, retrieval_loss
from uniperceiver.tasks.candidates import label_candidates, vocabulary_candidates
from uniperceiver.tasks.likelihood import logits
from uniperceiver.tasks.task import Task

Metrics = dict[str, float]


# The metric by which a task is judged first is the one of these that it has.
MAIN_METRICS = ("accuracy@1", "masked_accuracy", "cider_d", "i2t_recall@1")


def main_metric(task: Task) -> str:
    """The metric by which a task is judged first, and to which `chance` belongs."""
    if task.candidates == "labels":
        return "accuracy@1"
    if task.candidates == "in_batch":
        return "i2t_recall@1"
    return "cider_d" if task.read_at == "next" else "masked_accuracy"


def evaluate(model: AnyModel, split: Split, settings: Settings) -> Metrics:
    """All metrics of the split under the names of docs/results.md, with NAME_low and NAME_high (95 %).

    Losses are means of -log P in nats, over the whole candidate set. Retrieval's loss adds both ways, as in training.

    Raises:
        UserError: too many broken samples.
    """
    task = split.task
    if task.candidates == "labels":
        return _classification(model, split, settings)
    if task.candidates == "in_batch":
        return _retrieval(model, split, settings)
    return _captions(model, split, settings) if task.read_at == "next" else _masked_words(model, split, settings)


def _classification(model: AnyModel, split: Split, settings: Settings) -> Metrics:
    found = answers(model, split, settings, label_candidates(split.task, settings.codec, None, split.index))
    hit1, hit5 = torch.cat(found.hit1), torch.cat(found.hit5)
    target, predicted = torch.cat(found.target), torch.cat(found.predicted)
    table = confusion(predicted, target, len(split.task.labels))
    metrics = {"accuracy@1": float(hit1.mean()), **_interval("accuracy@1", wilson(float(hit1.sum()), len(hit1)))}
    if len(split.task.labels) > 5:
        metrics |= {"accuracy@5": float(hit5.mean()), **_interval("accuracy@5", wilson(float(hit5.sum()), len(hit5)))}
    for name, metric in (("f1", f1), ("matthews", matthews)):
        metrics |= {name: metric(table), **_interval(name, bootstrap_confusion(table, metric, seed=0))}
    return metrics | {**_loss(found), "chance": majority_share(target.tolist()), "n": len(target)}


def _masked_words(model: AnyModel, split: Split, settings: Settings) -> Metrics:
    found = answers(model, split, settings, vocabulary_candidates(split.task, settings.codec, split.index))
    hits, sample = torch.cat(found.hit1).numpy(), torch.cat(found.sample).numpy()
    loss = _loss(found)
    return {
        "masked_accuracy": float(hits.mean()),
        **_interval("masked_accuracy", bootstrap_mean(hits, seed=0, groups_N=sample)),
        **loss,
        **_perplexity(loss),
        "chance": majority_share(torch.cat(found.target).tolist()),
        "n": len(hits),
    }


def _captions(model: AnyModel, split: Split, settings: Settings) -> Metrics:
    vocabulary = vocabulary_candidates(split.task, settings.codec, split.index)
    found, written, references = captions(model, split, settings, vocabulary)
    statistics = caption_statistics(written, references)
    key = ("constant captions", split.task.name, split.name, settings.limit)
    if key not in settings.memory:
        best = best_constant_captions(list(split.training_texts()), references)
        settings.memory[key] = {name: one.score for name, one in best.items()}
    chance = settings.memory[key]
    metrics: Metrics = {}
    intervals = bootstrap_captions(statistics, seed=0)
    for name, score in caption_scores(statistics).items():
        metrics |= {name: score, **_interval(name, intervals[name]), f"chance_{name}": chance[name]}
    loss = _loss(found)
    metrics |= {**loss, **_perplexity(loss)}
    return metrics | {"chance": chance[main_metric(split.task)], "n": len(written)}


def _retrieval(model: AnyModel, split: Split, settings: Settings) -> Metrics:
    found = gallery(model, split, settings)
    similarity_IC = logits(found.z_ID, found.c_CD, torch.ones((), device=found.z_ID.device))
    owner_C = found.owner_C
    hits = retrieval_hits(similarity_IC, owner_C, found.texts)
    chance = retrieval_chance(len(similarity_IC), owner_C.cpu(), found.texts)
    metrics: Metrics = {}
    for name, hit in hits.items():
        groups = owner_C.cpu().numpy() if len(hit) == len(owner_C) else None
        interval = bootstrap_mean(hit.cpu().numpy(), seed=0, groups_N=groups)
        metrics |= {name: float(hit.mean()), **_interval(name, interval), f"chance_{name}": chance[name]}
    with torch.no_grad():
        loss = retrieval_loss(similarity_IC * model.scale(split.task.temperature), owner_C, found.texts)
    return metrics | {"loss": float(loss), "chance": chance[main_metric(split.task)], "n": len(similarity_IC)}


def _loss(found: Answers) -> Metrics:
    nll, sample = torch.cat(found.nll).double().numpy(), torch.cat(found.sample).numpy()
    return {"loss": float(nll.mean()), **_interval("loss", bootstrap_mean(nll, seed=0, groups_N=sample))}


def _perplexity(loss: Metrics) -> Metrics:
    return {name.replace("loss", "perplexity"): perplexity(value) for name, value in loss.items()}


def _interval(metric: str, interval: Interval) -> Metrics:
    return {
        f"{metric}_{end}": value
        for end, value in (("low", interval.low), ("high", interval.high))
        if math.isfinite(value)
    }


def score(results: Mapping[str, Metrics]) -> float:
    """One number for a whole evaluation, lower is better: the mean loss of the tasks."""
    return float(np.mean([metrics["loss"] for metrics in results.values()]))
