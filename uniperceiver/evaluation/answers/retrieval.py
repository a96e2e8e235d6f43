"""Retrieval: every input of a split is compared with every caption of it, in both directions.

Where the candidates are no texts but sounds (or another modality), each sample has one, which is called as the sample.

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
from uniperceiver.modalities import TEXT
from uniperceiver.records import Batch, Sample
from uniperceiver.tasks.ask import represent_inputs
from uniperceiver.tasks.candidates import Candidates, represent_candidates
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
        batch = batch_of(split, settings, samples)
        own = [_candidates(split, sample.id, sample.captions)[0] for sample in samples]
        texts, scale = list(dict.fromkeys(own)), model.scale(split.task.temperature)
        if split.task.target == TEXT:
            c_CD = _represented(model, split, settings, texts)
        else:
            c_CD = _represented_of_batch(model, batch)[[own.index(text) for text in texts]]
        probability_IC = logits(represent_inputs(model, batch), c_CD, scale).softmax(dim=-1)
        for truth, probability_C in zip(own, probability_IC, strict=True):
            answers = likeliest(probability_C, texts)
            yield Shown(truth=(truth,), answers=answers, right=answers[0][0] == truth)


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """Representations of all inputs and all their captions, or of what else is their candidate."""

    z_ID: Tensor
    c_CD: Tensor
    owner_C: Tensor  # int64, which input a caption belongs to
    texts: list[str]  # of candidates that are no texts, the names of their samples
    samples: list[str]  # the name of each input


def gallery(model: AnyModel, split: Split, settings: Settings) -> Gallery:
    """Encode every input of the split and every one of its candidates."""
    inputs, others, owners, texts, samples = list[Tensor](), list[Tensor](), list[int](), list[str](), list[str]()
    with torch.no_grad(), autocast(settings):

        def encoded(batch: Batch, captions_of_samples: list[tuple[str, ...]]) -> dict[str, Any]:
            pairs = zip(batch.ids, captions_of_samples, strict=True)
            of_batch = {} if split.task.target == TEXT else {"others": _represented_of_batch(model, batch)}
            return {
                "inputs": averaged([represent_inputs(model, moment) for moment in at_moments(batch)]),
                "samples": list(batch.ids),
                "captions": [list(_candidates(split, name, captions)) for name, captions in pairs],
                **of_batch,
            }

        for part in measured(split, settings, encoded):
            inputs.append(part["inputs"].to(settings.device))
            others += [part["others"].to(settings.device)] if "others" in part else []
            owners += [len(samples) + row for row, captions in enumerate(part["captions"]) for _ in captions]
            samples += part["samples"]
            texts += [text for captions in part["captions"] for text in captions]
        c_CD = torch.cat(others) if others else _represented(model, split, settings, texts)
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


def _candidates(split: Split, name: str, captions: tuple[str, ...]) -> tuple[str, ...]:
    """What the candidates of a sample are called: its captions, or where they are no texts, as itself."""
    return captions if split.task.target == TEXT else (name,)


def _represented_of_batch(model: AnyModel, batch: Batch) -> Tensor:
    """The candidates that come with a batch, (C, D)."""
    assert batch.candidates is not None
    return represent_candidates(model, Candidates(sequences=batch.candidates))


def _represented(model: AnyModel, split: Split, settings: Settings, texts: Sequence[str]) -> Tensor:
    """Texts as candidates of the split's task, (C, D)."""
    ids, facts = [settings.codec.encode(text) for text in texts], split.task.facts("candidate", split.index)
    sequences = text_sequences(ids, facts, settings.codec.end, split.preprocess.length)
    return represented(model, Candidates(sequences=sequences), settings, _CHUNK)
