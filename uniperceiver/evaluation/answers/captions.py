"""Captions: the words of the first reference are scored, and a text is written and compared with all references.

Shape suffixes: R read-outs, V vocabulary, D width, S generated words.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from uniperceiver.evaluation.answers.kind import Evaluation, Metrics, Scores, Shown, batch_of, interval_of, tell
from uniperceiver.evaluation.captions import caption_scores, caption_statistics
from uniperceiver.evaluation.constant_caption import best_constant_captions
from uniperceiver.evaluation.intervals import bootstrap_captions
from uniperceiver.evaluation.predictions import Prediction, plain
from uniperceiver.evaluation.split import AnyModel, Settings, Split, autocast, measured, represented
from uniperceiver.records import Batch, Sample, Sequences, to_device
from uniperceiver.tasks.ask import represent_inputs
from uniperceiver.tasks.candidates import Candidates, represent_in_chunks, vocabulary_candidates
from uniperceiver.tasks.decode import generate, prefix_with_query
from uniperceiver.tasks.likelihood import logits, unit


class CaptionsEvaluation(Evaluation):
    """BLEU-4, CIDEr-D, ROUGE-L, loss and perplexity; chance is the best single caption of the training set."""

    main_metric = "cider_d"
    explained = "The caption that the model writes, word by word; as truth, captions that the data have."
    more_metrics = ("bleu4", "rouge_l", "perplexity")

    def metrics(self, model: AnyModel, split: Split, settings: Settings) -> Metrics:
        vocabulary = vocabulary_candidates(split.task, settings.codec, split.index)
        collected, written, references = captions(model, split, settings, vocabulary)
        statistics = caption_statistics(written, references)
        key = ("constant captions", split.task.name, split.name, settings.limit)
        if key not in settings.memory:
            best = best_constant_captions(list(split.training_texts()), references)
            settings.memory[key] = {name: constant.score for name, constant in best.items()}
        chance = settings.memory[key]
        metrics: Metrics = {}
        intervals = bootstrap_captions(statistics, seed=0)
        for name, score in caption_scores(statistics).items():
            metrics |= {name: score, **interval_of(name, intervals[name]), f"chance_{name}": chance[name]}
        metrics |= {**collected.loss(), **collected.perplexity()}
        return metrics | {"chance": chance[self.main_metric], "n": len(written)}

    @torch.no_grad()
    def shown(self, model: AnyModel, split: Split, settings: Settings, samples: Sequence[Sample]) -> Iterator[Shown]:
        task = split.task
        vocabulary = vocabulary_candidates(task, settings.codec, split.index)
        words_VD = represent_in_chunks(model, to_device(vocabulary, settings.device))
        inputs = batch_of(split, settings, samples).inputs
        written = write_captions(model, inputs, words_VD, model.scale(task.temperature), settings)
        for sample, caption in zip(samples, written, strict=True):
            yield Shown(truth=sample.captions[:3], answers=((caption, float("nan")),))


def captions(
    model: AnyModel, split: Split, settings: Settings, vocabulary: Candidates
) -> tuple[Scores, list[str], list[tuple[str, ...]]]:
    """Score the words of the first caption of each sample, and write a caption for it; with its references."""
    collected, written, references = Scores(), list[str](), list[tuple[str, ...]]()
    with torch.no_grad(), autocast(settings):
        words_VD = represented(model, vocabulary, settings)

        def scored(batch: Batch, captions_of_samples: list[tuple[str, ...]]) -> dict[str, Any]:
            scale, part = model.scale(split.task.temperature), Scores()
            logits_RV = logits(represent_inputs(model, batch), words_VD, scale)
            part.add(logits_RV, batch.readout.target_R, batch.readout.row_R)
            texts = write_captions(model, batch.inputs, words_VD, scale, settings)
            rows = zip(batch.ids, captions_of_samples, texts, strict=True)
            name = split.task.name
            answers = [
                Prediction(task=name, split=split.name, sample=s, truth=right, answer=text) for s, right, text in rows
            ]
            right = [list(captions) for captions in captions_of_samples]
            return {"scores": vars(part), "texts": texts, "right": right, "answers": plain(answers)}

        for part in measured(split, settings, scored):
            collected.extend(part["scores"], len(written))
            written += part["texts"]
            references += [tuple(captions) for captions in part["right"]]
            tell(settings, part["answers"])
    return collected, written, references


def write_captions(
    model: AnyModel, inputs: Sequences, words_VD: Tensor, scale: Tensor, settings: Settings
) -> list[str]:
    """A text for each input, of which only the media are seen, by greedy or beam search."""
    generated = generate(
        model,
        to_device(prefix_with_query(inputs, settings.codec.answer), settings.device),
        lambda x_RD: logits(unit(model.represent(x_RD), float32=model.likelihood_float32), words_VD, scale),
        end=settings.codec.end,
        beams=settings.beams,
        words=settings.max_words,
    )
    return [settings.codec.decode(ids.tolist()) for ids in generated.ids_BS]
