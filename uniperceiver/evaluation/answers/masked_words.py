"""Masked words: how many hidden tokens the model finds."""

from collections.abc import Iterator, Sequence
from itertools import groupby

import torch

from uniperceiver.evaluation.answers.kind import (
    TOP,
    Evaluation,
    Metrics,
    Shown,
    batch_of,
    interval_of,
    scores,
)
from uniperceiver.evaluation.intervals import bootstrap_mean
from uniperceiver.evaluation.metrics import majority_share
from uniperceiver.evaluation.split import AnyModel, Settings, Split
from uniperceiver.records import Sample, to_device
from uniperceiver.tasks.ask import compare, input_features
from uniperceiver.tasks.candidates import TextCodec, represent_in_chunks, vocabulary_candidates

_ASKED, _HIDDEN = "▢", "–"  # the hidden token that is asked for, and others that are hidden at the same time


class MaskedWordsEvaluation(Evaluation):
    """Every hidden token is an answer; those of a sample belong together; chance is that of the commonest token."""

    main_metric = "masked_accuracy"
    explained = (
        f"{_ASKED} is the hidden word that is asked for; the likeliest words for it stand below, and as truth the one "
        f"that was there. {_HIDDEN} are other hidden words; of ten hidden words one is another word instead. What is "
        "hidden may be a part of a word, or the end of a line."
    )
    more_metrics = ("perplexity",)

    def metrics(self, model: AnyModel, split: Split, settings: Settings) -> Metrics:
        candidates = vocabulary_candidates(split.task, settings.codec, split.index)
        collected = scores(model, split, settings, candidates)
        hits, sample = torch.cat(collected.hit1).numpy(), torch.cat(collected.sample).numpy()
        interval = bootstrap_mean(hits, seed=0, groups_N=sample)
        return {
            "masked_accuracy": float(hits.mean()),
            **interval_of("masked_accuracy", interval),
            **collected.loss(),
            **collected.perplexity(),
            "chance": majority_share(torch.cat(collected.target).tolist()),
            "n": len(hits),
        }

    @torch.no_grad()
    def shown(self, model: AnyModel, split: Split, settings: Settings, samples: Sequence[Sample]) -> Iterator[Shown]:
        """The first hidden token of each text as ▢, others as –, with the words that the model would put there."""
        task, codec = split.task, settings.codec
        candidates = vocabulary_candidates(task, codec, split.index)
        c_KD = represent_in_chunks(model, to_device(candidates, settings.device))
        for sample in samples:
            batch = batch_of(split, settings, [sample])
            text = batch.inputs.text
            assert text is not None
            place = int(batch.readout.position_R[0]) - (batch.readout.segment == 0)  # behind the <SPE> prefix
            ids, target = text.values[0].tolist(), int(batch.readout.target_R[0])
            best = compare(model, task, input_features(model, batch), c_KD)[0].softmax(dim=-1).topk(TOP)
            before, after = (_decoded(codec, part) for part in (ids[:place], ids[place + 1 :]))
            yield Shown(
                text=f"{before} {_ASKED} {after}",
                truth=(_word(codec, target),),
                answers=tuple((_word(codec, int(word)), float(value)) for value, word in zip(*best, strict=True)),
                right=int(best.indices[0]) == target,
            )


def _decoded(codec: TextCodec, ids: list[int]) -> str:
    """The text without the end tokens inside it, behind which `decode` would stop; what is hidden there as _HIDDEN."""
    parts = groupby((token for token in ids if token != codec.end), key=lambda token: token == codec.answer)
    return " ".join(_HIDDEN if hidden else codec.decode(part) for hidden, part in parts)


def _word(codec: TextCodec, token: int) -> str:
    return "(end)" if token == codec.end else codec.decode([token]) or "(part of a letter)"
