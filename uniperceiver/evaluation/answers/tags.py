"""Several right classes: mean average precision over a split.

Shape suffixes: N samples, K classes.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from uniperceiver.evaluation.answers.kind import Evaluation, Metrics, Shown, batch_of, interval_of, likeliest, tell
from uniperceiver.evaluation.intervals import bootstrap_mean, bootstrap_precision
from uniperceiver.evaluation.metrics import mean_average_precision
from uniperceiver.evaluation.predictions import Prediction, plain
from uniperceiver.evaluation.split import (
    AnyModel,
    Settings,
    Split,
    at_moments,
    autocast,
    averaged,
    measured,
    represented,
)
from uniperceiver.records import Batch, Sample, to_device
from uniperceiver.tasks.ask import compare, input_features
from uniperceiver.tasks.candidates import represent_in_chunks


class TagsEvaluation(Evaluation):
    """How high the right classes' samples stand when all are ranked by a class's probability; chance is its share."""

    main_metric = "mAP"

    def metrics(self, model: AnyModel, split: Split, settings: Settings) -> Metrics:
        task = split.task
        candidates = task.answer.all_candidates(task, settings.codec, split.index)
        assert candidates is not None
        names = task.answer.names(task, settings.codec)
        scores, targets = [], []
        with torch.no_grad(), autocast(settings):
            c_KD = represented(model, candidates, settings)

            def scored(batch: Batch, captions: list[tuple[str, ...]]) -> dict[str, Any]:
                logits_NK = averaged(
                    [compare(model, task, input_features(model, moment), c_KD) for moment in at_moments(batch)]
                )
                log_NK = logits_NK.float().log_softmax(dim=-1).cpu()
                assert batch.readout.soft_RK is not None
                target_NK, answers = batch.readout.soft_RK.cpu(), list[Prediction]()
                if settings.on_predictions is not None:
                    answers = _predictions(split, names, batch.ids, log_NK, target_NK)
                return {"scores": log_NK, "targets": target_NK, "answers": plain(answers)}

            for part in measured(split, settings, scored):
                scores.append(part["scores"])
                targets.append(part["targets"])
                tell(settings, part["answers"])
        log_NK, target_NK = torch.cat(scores), torch.cat(targets)
        right_NK, score_NK = (target_NK > 0).numpy(), log_NK.double().numpy()
        labelled_N = right_NK.any(axis=1)
        loss_N = -(target_NK * log_NK).sum(dim=1).double().numpy()[labelled_N]
        metrics: Metrics = {
            "mAP": mean_average_precision(score_NK, right_NK),
            **interval_of("mAP", bootstrap_precision(score_NK, right_NK, seed=0)),
        }
        if len(loss_N):
            metrics |= {"loss": float(loss_N.mean()), **interval_of("loss", bootstrap_mean(loss_N, seed=0))}
        else:  # no sample has a tag
            metrics["loss"] = math.nan
        return metrics | {"chance": mean_average_precision(np.zeros_like(score_NK), right_NK), "n": len(right_NK)}

    @torch.no_grad()
    def shown(self, model: AnyModel, split: Split, settings: Settings, samples: Sequence[Sample]) -> Iterator[Shown]:
        task, batch = split.task, batch_of(split, settings, samples)
        candidates = task.answer.all_candidates(task, settings.codec, split.index)
        assert candidates is not None
        assert batch.readout.soft_RK is not None
        names = task.answer.names(task, settings.codec)
        c_KD = represent_in_chunks(model, to_device(candidates, settings.device))
        probability_NK = compare(model, task, input_features(model, batch), c_KD).softmax(dim=-1)
        for sample, right_K, probability_K in zip(samples, batch.readout.soft_RK > 0, probability_NK, strict=True):
            truth = tuple(name for name, right in zip(names, right_K.tolist(), strict=True) if right)
            yield Shown(
                text=sample.text or "",
                truth=truth,
                answers=likeliest(probability_K, names),
                right=names[int(probability_K.argmax())] in truth if truth else None,
            )


def _predictions(
    split: Split, names: Sequence[str], ids: Sequence[str], log_NK: torch.Tensor, target_NK: torch.Tensor
) -> list[Prediction]:
    """The likeliest class of each sample beside all that are right."""
    rows = zip(
        ids, log_NK.exp().max(dim=1).values.tolist(), log_NK.argmax(dim=1).tolist(), target_NK.tolist(), strict=True
    )
    return [
        Prediction(
            task=split.task.name,
            split=split.name,
            sample=sample,
            truth=tuple(name for name, share in zip(names, target_K, strict=True) if share > 0),
            answer=names[best],
            probability=probability,
            right=target_K[best] > 0 if any(target_K) else None,
        )
        for sample, probability, best, target_K in rows
    ]
