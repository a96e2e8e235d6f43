"""Classification: accuracies, F1 and Matthews correlation over a split."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from uniperceiver.evaluation.answers.kind import (
    Evaluation,
    Metrics,
    Shown,
    batch_of,
    interval_of,
    likeliest,
    scores,
)
from uniperceiver.evaluation.intervals import bootstrap_confusion, wilson
from uniperceiver.evaluation.metrics import confusion, f1, majority_share, matthews
from uniperceiver.evaluation.predictions import ClassTable
from uniperceiver.evaluation.split import AnyModel, Settings, Split
from uniperceiver.records import Sample, to_device
from uniperceiver.tasks.ask import compare, input_features
from uniperceiver.tasks.candidates import Candidates, label_candidates, represent_in_chunks


def _by_prompt(split: Split, settings: Settings) -> dict[str, Candidates]:
    """The classes in each prompt alone, where there are several."""
    task = split.task
    prompts = task.evaluation_prompts or task.prompts
    alone = (replace(task, prompts=(prompt,), evaluation_prompts=()) for prompt in prompts if len(prompts) > 1)
    return {task.prompts[0]: label_candidates(task, settings.codec, None, split.index) for task in alone}


class LabelsEvaluation(Evaluation):
    """One answer for a sample, among the task's classes; chance is the share of the commonest class."""

    main_metric = "accuracy@1"
    more_metrics = ("accuracy@5", "f1", "matthews")

    def metrics(self, model: AnyModel, split: Split, settings: Settings) -> Metrics:
        candidates = split.task.answer.all_candidates(split.task, settings.codec, split.index)
        collected = scores(model, split, settings, candidates, _by_prompt(split, settings))
        target, predicted = torch.cat(collected.target), torch.cat(collected.predicted)
        names = split.task.answer.names(split.task, settings.codec)
        classes, table = len(names), confusion(predicted, target, len(names))
        settings.on_classes(ClassTable.of(names, table))
        metrics: Metrics = {}
        for name, hits in (("accuracy@1", torch.cat(collected.hit1)), ("accuracy@5", torch.cat(collected.hit5))):
            if name == "accuracy@1" or classes > 5:
                interval = wilson(float(hits.sum()), len(hits))
                metrics |= {name: float(hits.mean()), **interval_of(name, interval)}
        for prompt, parts in collected.hit1_of.items():
            hit_R = torch.cat(parts)
            name = f'accuracy@1 "{prompt}"'
            metrics |= {name: float(hit_R.mean()), **interval_of(name, wilson(float(hit_R.sum()), len(hit_R)))}
        for name, metric in (("f1", f1), ("matthews", matthews)):
            interval = bootstrap_confusion(table, metric, seed=0)
            metrics |= {name: metric(table), **interval_of(name, interval)}
        return metrics | {**collected.loss(), "chance": majority_share(target.tolist()), "n": len(target)}

    @torch.no_grad()
    def shown(self, model: AnyModel, split: Split, settings: Settings, samples: Sequence[Sample]) -> Iterator[Shown]:
        task, batch = split.task, batch_of(split, settings, samples)
        candidates = task.answer.all_candidates(task, settings.codec, split.index)
        assert candidates is not None
        names = task.answer.names(task, settings.codec)
        c_KD = represent_in_chunks(model, to_device(candidates, settings.device))
        probability_RK = compare(model, task, input_features(model, batch), c_KD).softmax(dim=-1)
        for sample, target, probability_K in zip(samples, batch.readout.target_R.tolist(), probability_RK, strict=True):
            yield Shown(
                text=sample.text or "",
                truth=() if target < 0 else (names[target],),
                answers=likeliest(probability_K, names),
                right=None if target < 0 else int(probability_K.argmax()) == target,
            )
