"""Several parts of a clip or sound are looked at, spread evenly: their logits are averaged."""

from dataclasses import replace

import pytest
import torch

from tests.evaluation.test_evaluate import settings, split_of
from uniperceiver import UniPerceiver
from uniperceiver.evaluation.evaluate import evaluate
from uniperceiver.evaluation.split import as_evaluated, at_moments, batches
from uniperceiver.tasks.ask import compare, input_features
from uniperceiver.tasks.candidates import represent_in_chunks


@torch.no_grad()
def test_logits_of_three_moments_are_averaged(model: UniPerceiver) -> None:
    split = split_of("motions")
    split = replace(split, preprocess=replace(split.preprocess, frames=1))
    candidates = split.task.answer.all_candidates(split.task, model.codec, split.index)
    assert candidates is not None
    c_KD = represent_in_chunks(model.model, candidates)
    together = [batch for batch, _ in batches(split, settings(model, clips=3))]
    moments = at_moments(together[0])
    assert len(moments) == 3
    for moment, batch in zip((0.0, 0.5, 1.0), moments, strict=True):
        sample = replace(split.source.read(1), moment=moment)
        expected = as_evaluated(split, sample, model.codec).media["video"]
        torch.testing.assert_close(batch.inputs.parts[0].values[1], expected, rtol=0, atol=0)
    logits_RK = torch.stack(
        [compare(model.model, split.task, input_features(model.model, moment), c_KD) for moment in moments]
    ).mean(dim=0)
    target_R = together[0].readout.target_R
    figures = evaluate(model.model, split, settings(model, clips=3))
    assert figures["accuracy@1"] == pytest.approx(float((logits_RK.argmax(dim=1) == target_R).float().mean()))
    assert figures["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits_RK, target_R)), rel=1e-5)
    assert figures["loss"] != pytest.approx(evaluate(model.model, split, settings(model))["loss"], rel=1e-5)


@pytest.mark.parametrize("task", ["colours", "clip_retrieval", "captions", "words"])
def test_where_all_moments_are_alike_the_figures_stay(model: UniPerceiver, task: str) -> None:
    """Pictures have no moments, the clips here are as long as what is seen, texts and captions are asked once."""
    split = split_of(task)
    alone, several = (evaluate(model.model, split, settings(model, clips=clips)) for clips in (1, 3))
    assert several == pytest.approx(alone, rel=1e-5)


@torch.no_grad()
def test_retrieval_compares_the_mean_of_its_moments(model: UniPerceiver) -> None:
    split = split_of("clip_retrieval")
    split = replace(split, preprocess=replace(split.preprocess, frames=1))
    figures = [
        evaluate(model.model, split, settings(model, clips=clips, batch=batch))
        for clips, batch in ((1, 64), (3, 64), (3, 5))
    ]
    assert figures[1]["loss"] != pytest.approx(figures[0]["loss"], rel=1e-6)
    assert figures[2]["loss"] == pytest.approx(figures[1]["loss"], rel=1e-5)
