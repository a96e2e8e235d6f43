"""Retrieval: every input of a split is compared with every caption of it, in both directions.

Shape suffixes: I inputs, C captions, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from uniperceiver.evaluation.answers.kind import (
    CANDIDATES,
    Evaluation,
    Metrics,
    Shown,
    batch_of,
    interval_of,
    likeliest,
)
from uniperceiver.evaluation.intervals import bootstrap_mean
from uniperceiver.evaluation.predictions import Prediction
from uniperceiver.evaluation.retrieval import retrieval_chance, retrieval_hits, retrieval_loss
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
from uniperceiver.records import Batch, Sample
from uniperceiver.tasks.ask import represent_inputs
from uniperceiver.tasks.candidates import Candidates
from uniperceiver.tasks.likelihood import logits
from uniperceiver.tasks.sequences import text_sequences

_CHUNK = 256  # captions that are encoded together


class RetrievalEvaluation(Evaluation):
    """Recall at 1, 5 and 10; the loss adds both directions, as in training; chance is that of a random ranking."""

    main_metric = "i2t_recall@1"
    explained = (
        "Each sample chooses among the texts of the samples that are shown here; the figures are among all texts."
    )
    more_metrics = ("i2t_recall@5", "i2t_recall@10", "t2i_recall@1", "t2i_recall@5", "t2i_recall@10")

    def metrics(self, model: AnyModel, split: Split, settings: Settings) -> Metrics:
        collected = gallery(model, split, settings)
        similarity_IC = logits(collected.z_ID, collected.c_CD, torch.ones((), device=collected.z_ID.device))
        owner_C = collected.owner_C
        hits = retrieval_hits(similarity_IC, owner_C, collected.texts)
        chance = retrieval_chance(len(similarity_IC), owner_C.cpu(), collected.texts)
        metrics: Metrics = {}
        for name, hit in hits.items():
            groups = owner_C.cpu().numpy() if len(hit) == len(owner_C) else None
            interval = bootstrap_mean(hit.cpu().numpy(), seed=0, groups_N=groups)
            metrics |= {name: float(hit.mean()), **interval_of(name, interval), f"chance_{name}": chance[name]}
        with torch.no_grad():
            logits_IC = similarity_IC * model.scale(split.task.temperature)
            loss = retrieval_loss(logits_IC, owner_C, collected.texts)
            if settings.on_predictions is not None:
                settings.on_predictions(_best_texts(split, collected, logits_IC))
        sizes = {"n": len(similarity_IC), CANDIDATES: len(collected.texts)}
        return metrics | {"loss": float(loss), "chance": chance[self.main_metric], **sizes}

    @torch.no_grad()
    def shown(self, model: AnyModel, split: Split, settings: Settings, samples: Sequence[Sample]) -> Iterator[Shown]:
        """Each sample among the first captions of all that are shown."""
        texts = list(dict.fromkeys(sample.captions[0] for sample in samples))
        z_ID = represent_inputs(model, batch_of(split, settings, samples))
        scale = model.scale(split.task.temperature)
        probability_IC = logits(z_ID, _represented(model, split, settings, texts), scale).softmax(dim=-1)
        for sample, probability_C in zip(samples, probability_IC, strict=True):
            answers = likeliest(probability_C, texts)
            yield Shown(truth=sample.captions[:1], answers=answers, right=answers[0][0] == sample.captions[0])


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Representations of all inputs and all their captions."""

    z_ID: Tensor
    c_CD: Tensor
    owner_C: Tensor  # int64, which input a caption belongs to
    texts: list[str]
    samples: list[str]  # the name of each input


def gallery(model: AnyModel, split: Split, settings: Settings) -> Gallery:
    """Encode every input of the split and every one of its captions."""
    inputs, owners, texts, samples = list[Tensor](), list[int](), list[str](), list[str]()
    with torch.no_grad(), autocast(settings):

        def encoded(batch: Batch, captions_of_samples: list[tuple[str, ...]]) -> dict[str, Any]:
            captions = [list(captions) for captions in captions_of_samples]
            z_BD = averaged([represent_inputs(model, moment) for moment in at_moments(batch)])
            return {"inputs": z_BD, "samples": list(batch.ids), "captions": captions}

        for part in measured(split, settings, encoded):
            inputs.append(part["inputs"].to(settings.device))
            owners += [len(samples) + row for row, captions in enumerate(part["captions"]) for _ in captions]
            samples += part["samples"]
            texts += [text for captions in part["captions"] for text in captions]
        c_CD = _represented(model, split, settings, texts)
    owner_C = torch.tensor(owners, device=c_CD.device)
    return Gallery(z_ID=torch.cat(inputs), c_CD=c_CD, owner_C=owner_C, texts=texts, samples=samples)


def _best_texts(split: Split, collected: Gallery, logits_IC: Tensor) -> list[Prediction]:
    """The likeliest caption for each input, beside its own."""
    right = [list[str]() for _ in collected.samples]
    for owner, text in zip(collected.owner_C.tolist(), collected.texts, strict=True):
        right[owner].append(text)
    best = logits_IC.float().softmax(dim=-1).max(dim=-1)
    rows = zip(collected.samples, right, best.indices.tolist(), best.values.tolist(), strict=True)
    return [
        Prediction(
            task=split.task.name,
            split=split.name,
            sample=sample,
            truth=tuple(own),
            answer=collected.texts[caption],
            probability=probability,
            right=collected.texts[caption] in own,
        )
        for sample, own, caption, probability in rows
    ]


def _represented(model: AnyModel, split: Split, settings: Settings, texts: Sequence[str]) -> Tensor:
    """Texts as candidates of the split's task, (C, D)."""
    ids, facts = [settings.codec.encode(text) for text in texts], split.task.facts("candidate", split.index)
    sequences = text_sequences(ids, facts, settings.codec.end, split.preprocess.length)
    return represented(model, Candidates(sequences=sequences), settings, _CHUNK)
