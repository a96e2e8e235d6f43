"""The one question: where it is read, which loss it has, and that a new task is nothing but a new declaration.

Shape suffixes: B sequences, N tokens, R read-outs, K candidates.
"""

from dataclasses import replace

import pytest
import torch

from benchmarks.parts import changed, flat
from tests.tiny import (
    VIEW,
    hearing,
    tiny_batch,
    tiny_candidates,
    tiny_codec,
    tiny_model,
    tiny_prepared,
    tiny_source,
    tiny_task,
)
from uniperceiver.config import AugmentConfig
from uniperceiver.data.batch import collate, prepare
from uniperceiver.records import Batch, Encoded, Facts, Readout, Segment
from uniperceiver.streams import numpy_stream, torch_stream
from uniperceiver.tasks.ask import ask, loss_terms, read, represent_inputs
from uniperceiver.tasks.candidates import label_candidates, represent_candidates
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.likelihood import log_likelihood, logits
from uniperceiver.tasks.task import Task

# What is read at proposals is asked of a model that makes some: tests/runs/regions.
READ_BY_POSITION = [name for name, task in CATALOGUE.items() if not task.answer.reads_objects]
FACTS = Facts(side="input", inputs=("visual", "text"), targets=("text",))
QUESTION = Task(
    name="colour_question",
    inputs=("image", "text"),
    candidates="labels",
    read_at="masked",
    temperature="downstream",
    template="question: {text} answer: {answer}",
    labels=(("red", "it is red"), ("green",), ("blue",)),
)


def question_batch(texts: list[str], labels: list[int | None]) -> Batch:
    """Pictures of scenes with a question each."""
    source = tiny_source(tiny_task("image_classification"))
    view = replace(VIEW, length=24)
    items = []
    for index, (text, label) in enumerate(zip(texts, labels, strict=True)):
        sample = replace(source.read(index), text=text, label=label)
        items.append(prepare(QUESTION, sample, view, tiny_codec(), None, numpy_stream(0)))
    return collate(QUESTION, items, tiny_codec())


def test_answers_are_read_at_row_and_position_of_their_segment() -> None:
    x_BND = torch.arange(2 * 7 * 3.0).reshape(2, 7, 3)
    first = Segment(start=0, stop=3, kind="visual", causal=False, facts=FACTS)
    second = Segment(start=3, stop=7, kind="text", causal=False, facts=FACTS)
    encoded = Encoded(x_BND=x_BND, segments=(first, second))
    row_R, position_R = torch.tensor([1, 0, 1]), torch.tensor([2, 0, 0])
    for segment, start in ((0, 0), (1, 3)):
        readout = Readout(segment=segment, row_R=row_R, position_R=position_R, target_R=row_R)
        expected = torch.stack([x_BND[1, start + 2], x_BND[0, start], x_BND[1, start]])
        assert torch.equal(read(encoded, readout), expected)
    summary = Readout(segment=0, row_R=row_R, position_R=position_R, target_R=row_R, summary=True)
    assert torch.equal(read(encoded, summary), x_BND[:, 0])


@pytest.mark.parametrize("name", READ_BY_POSITION)
def test_every_task_gives_probabilities_and_teaches_what_it_uses(name: str) -> None:
    task, batch = tiny_task(name), tiny_batch(name)
    model = tiny_model(**hearing(task))
    candidates = tiny_candidates(task, batch)
    logits_RK = ask(model, task, batch, candidates)
    classes = len(task.labels) or candidates.sequences.size
    assert logits_RK.shape == (len(batch.readout.target_R), classes)
    torch.testing.assert_close(log_likelihood(logits_RK).exp().sum(dim=1), torch.ones(len(logits_RK)))
    terms = loss_terms(task, logits_RK, batch.readout, candidates, 0.1)
    assert len(terms) == (2 if task.candidates == "in_batch" else 1)
    sum(terms.values()).backward()
    learned = {
        key for key, parameter in model.named_parameters() if parameter.grad is not None and parameter.grad.any()
    }
    assert {f"temperatures.{task.temperature}", "head.linear.weight", "encoder.blocks.0.scale1"} <= learned
    assert {key for key in learned if "temperatures" in key} == {f"temperatures.{task.temperature}"}
    assert ("tokenizer.patches.project.weight" in learned) == (task.visual is not None)
    assert ("tokenizer.sound.project.weight" in learned) == task.hears


@pytest.mark.parametrize("name", READ_BY_POSITION)
def test_neighbours_and_padding_in_the_batch_change_no_answer(name: str) -> None:
    """Each sample alone (no padding) and in a batch (padded) gets the same representations at its read-outs."""
    task = tiny_task(name)
    model = tiny_model(**hearing(task))
    items = tiny_prepared(task, 4, preprocess=replace(VIEW, length=40))
    together = collate(task, items, tiny_codec())
    with torch.no_grad():
        z_RD = represent_inputs(model, together)
        for row, item in enumerate(items):
            alone = collate(task, [item], tiny_codec())
            mine = together.readout.row_R == row
            torch.testing.assert_close(z_RD[mine], represent_inputs(model, alone), atol=1e-6, rtol=0)
            assert torch.equal(together.readout.target_R[mine], alone.readout.target_R)


def test_soft_targets_take_the_place_of_hard_ones() -> None:
    task, model, batch = tiny_task("image_classification"), tiny_model(), tiny_batch("image_classification")
    candidates = tiny_candidates(task, batch)
    logits_RK = ask(model, task, batch, candidates)
    hard = loss_terms(task, logits_RK, batch.readout, candidates)["nll"]
    one_hot = torch.nn.functional.one_hot(batch.readout.target_R, len(task.labels)).float()
    soft = replace(batch.readout, soft_RK=one_hot, target_R=batch.readout.target_R * 0 - 1)
    torch.testing.assert_close(loss_terms(task, logits_RK, soft, candidates)["nll"], hard)
    rolled = replace(soft, soft_RK=one_hot.roll(1, dims=1))
    assert loss_terms(task, logits_RK, rolled, candidates)["nll"].item() != pytest.approx(hard.item())


def test_a_new_task_over_two_modalities_is_only_a_declaration() -> None:
    model, parameters = tiny_model(), {key: each.shape for key, each in tiny_model().named_parameters()}
    batch = question_batch(["what colour has it?", "which colour has the largest thing?"], [2, 0])
    candidates = label_candidates(QUESTION, tiny_codec(), numpy_stream(0))
    logits_RK = ask(model, QUESTION, batch, candidates, torch_stream(0))
    assert logits_RK.shape == (2, 3)
    assert {key: each.shape for key, each in model.named_parameters()} == parameters
    terms = loss_terms(QUESTION, logits_RK, batch.readout, candidates)
    assert terms["nll"].item() == pytest.approx(-log_likelihood(logits_RK)[[0, 1], [2, 0]].mean().item(), rel=1e-6)
    terms["nll"].backward()
    assert model.tokenizer.patches.project.weight.grad.any()
    assert model.tokenizer.words.words.grad.any()


def test_a_question_is_answered_from_both_its_picture_and_its_words() -> None:
    model, texts = tiny_model(), ["what colour has it?", "which colour has the largest thing?"]
    batch = question_batch(texts, [None, None])
    assert batch.readout.target_R.tolist() == [-1, -1]
    answers = flat(batch.inputs).ids_BN[batch.readout.row_R, batch.readout.position_R]
    assert answers.tolist() == [tiny_codec().answer] * 2
    with torch.no_grad():
        z_RD = represent_inputs(model, batch)
        other_text = represent_inputs(model, question_batch(["is it green?", texts[1]], [None, None]))
        pixels = flat(batch.inputs).pixels_BFCHW.clone()
        pixels[0] += 0.5
        other_picture = represent_inputs(model, replace(batch, inputs=changed(batch.inputs, pixels_BFCHW=pixels)))
    for other_RD in (other_text, other_picture):
        assert (other_RD[0] - z_RD[0]).abs().max() > 1e-3
        torch.testing.assert_close(other_RD[1], z_RD[1], atol=1e-6, rtol=0)


def test_a_few_steps_learn_the_new_task() -> None:
    model = tiny_model()
    batch = question_batch(["what colour?", "which colour?", "what colour is it?"], [2, 0, 1])
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        candidates = label_candidates(QUESTION, tiny_codec(), None)
        loss = loss_terms(QUESTION, ask(model, QUESTION, batch, candidates), batch.readout, candidates)["nll"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]
    with torch.no_grad():
        assert ask(model, QUESTION, batch, label_candidates(QUESTION, tiny_codec(), None)).argmax(dim=1).tolist() == [
            2,
            0,
            1,
        ]


@pytest.mark.parametrize("name", ["image_classification", "image_captioning"])
def test_nothing_is_random_without_a_stream_and_everything_is_the_streams(name: str) -> None:
    task, model = tiny_task(name), tiny_model(drop_path=0.5).train()
    batch = tiny_batch(name, augment=AugmentConfig())
    candidates = tiny_candidates(task, batch)
    with torch.no_grad():
        assert torch.equal(ask(model, task, batch, candidates), ask(model, task, batch, candidates))
        first, again, other = (ask(model, task, batch, candidates, torch_stream(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("name", ["image_classification", "image_text_retrieval"])
def test_candidates_draw_from_the_stream_behind_their_inputs(name: str) -> None:
    task, model, batch = tiny_task(name), tiny_model(drop_path=0.5).train(), tiny_batch(name)
    candidates, stream = tiny_candidates(task, batch), torch_stream(1)
    with torch.no_grad():
        z_RD = represent_inputs(model, batch, stream)
        c_KD = represent_candidates(model, candidates, stream)
        found_RK = ask(model, task, batch, candidates, torch_stream(1))
        assert not torch.allclose(c_KD, represent_candidates(model, candidates), atol=1e-2)
        torch.testing.assert_close(found_RK, logits(z_RD, c_KD, model.scale(task.temperature)))


def test_autocast_leaves_the_likelihood_in_float32() -> None:
    task, batch = tiny_task("masked_language_modelling"), tiny_batch("masked_language_modelling")
    for float32 in (True, False):
        model = tiny_model(likelihood_float32=float32)
        candidates = tiny_candidates(task, batch)
        with torch.no_grad():
            exact_RK = ask(model, task, batch, candidates)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                found_RK = ask(model, task, batch, candidates)
                assert represent_candidates(model, candidates).dtype == (torch.float32 if float32 else torch.bfloat16)
        assert found_RK.dtype == (torch.float32 if float32 else torch.bfloat16)
        assert (found_RK.float() - exact_RK).abs().max() < 0.1 * exact_RK.abs().max()
