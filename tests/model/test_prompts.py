"""Prompt tuning's parameters: which they are, how many, and what they do to an encoder, its cache and its logits.

Shape suffixes: B sequences, N tokens, S words, R read-outs, V vocabulary, D width, K classes.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks.parts import changed, flat, sequences_of
from tests.moe_cases import inputs_of, moe_of
from tests.tiny import tiny_batch, tiny_candidates, tiny_model, tiny_task
from uniperceiver.config import ModelConfig, MoEConfig
from uniperceiver.errors import UserError
from uniperceiver.model.architecture import PromptShape
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.model.prompts import Prompts, is_tuned
from uniperceiver.records import Facts
from uniperceiver.runs.architecture import architecture
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.ask import ask
from uniperceiver.tasks.decode import prefix_with_query
from uniperceiver.tasks.task import TEMPERATURES

SHAPE = PromptShape(vectors=3)
BOTH = PromptShape(vectors=3, candidates=2)
ROUTED = {"dense": {}, "attribute": {"moe": moe_of("attribute")}, "token": {"moe": moe_of("token")}}


def tuned_model(shape: PromptShape, **fields: Any) -> Generalist:
    """A tiny model whose prompts, bias and head are not at their start."""
    model = tiny_model(prompts=shape, **fields).eval()
    with torch.no_grad():
        for number, parameter in enumerate(prompts_of(model).parameters()):
            parameter.add_(some(parameter, number))
    return model


def untuned(model: Generalist, **fields: Any) -> Generalist:
    """The same model without prompts."""
    plain = tiny_model(**fields).eval()
    plain.load_state_dict({name: value for name, value in model.state_dict().items() if "prompts." not in name})
    return plain


def prompts_of(model: Generalist) -> Prompts:
    assert model.prompts is not None
    return model.prompts


def some(like: Tensor, seed: int = 0) -> Tensor:
    """Values that a LayerNorm does not take away again."""
    return torch.randn(like.shape, generator=torch_stream(seed, "prompts"))


# The sets of the original's own configurations: (head, label vectors, vectors for candidates) -> parameters.
ORIGINAL = [
    ({"condition": "attribute"}, PromptShape(vectors=10, classes=1000), 901_865),
    ({}, PromptShape(vectors=10, candidates=10, classes=1000), 994_025),
    ({}, PromptShape(vectors=10, labels=1000), 900_864),
]


@pytest.mark.parametrize(("moe", "shape", "expected"), ORIGINAL)
def test_as_many_parameters_are_tuned_as_in_the_original(
    moe: Mapping[str, Any], shape: PromptShape, expected: int
) -> None:
    """Base, 1,000 classes (source: trainable parameters of the official code, built from its configurations)."""
    arch = architecture(ModelConfig(size="base"), MoEConfig(**moe), tasks=1, vocabulary=49411, end=49407, answer=49410)
    with torch.device("meta"):
        model = build(dataclasses.replace(arch, prompts=shape), TEMPERATURES)
    assert sum(each.numel() for name, each in model.named_parameters() if is_tuned(name)) == expected


@pytest.mark.parametrize("condition", ["attribute", "context"])
def test_gates_experts_and_scales_are_not_tuned(condition: str) -> None:
    model = tiny_model(moe=moe_of(condition), prompts=PromptShape(vectors=2, classes=4, labels=4))
    tuned = {name for name, _ in model.named_parameters() if is_tuned(name)}
    for word in ("router", "experts", "qkv", "linear", "scale", "temperatures", "words", "patches"):
        assert not any(word in name for name in tuned), word
    norms = {name for name, _ in model.named_parameters() if "norm" in name and "router" not in name}
    assert norms
    assert tuned == norms | {name for name, _ in model.named_parameters() if name.startswith("prompts.")}


@pytest.mark.parametrize("routed", ROUTED)
@pytest.mark.parametrize("kind", ["masked_language_modelling", "image_captioning", "video_classification"])
def test_prompts_are_looked_at_by_every_token_and_padding_is_not(routed: str, kind: str) -> None:
    model, inputs = tuned_model(SHAPE, **ROUTED[routed]), inputs_of(kind)
    plain = untuned(model, **ROUTED[routed])
    with torch.no_grad():
        x_BND, plain_BND = model.encode(inputs).x_BND, plain.encode(inputs).x_BND
        moved_BN = (x_BND - plain_BND).abs().amax(dim=2)
        if flat(inputs).ids_BN is None:
            assert float(moved_BN.min()) > 1e-3
            return
        assert flat(inputs).valid_BN is not None
        other = changed(inputs, ids_BN=torch.where(flat(inputs).valid_BN, flat(inputs).ids_BN, 9))
        again_BND = model.encode(other).x_BND
    start = x_BND.shape[1] - flat(inputs).ids_BN.shape[1]
    valid_BN = torch.nn.functional.pad(flat(inputs).valid_BN, (start, 0), value=True)
    assert not bool(valid_BN.all())
    assert float(moved_BN[valid_BN].min()) > 1e-3
    torch.testing.assert_close(again_BND[valid_BN], x_BND[valid_BN], atol=1e-6, rtol=0)


def test_prompts_are_the_keys_and_values_of_their_layer_only() -> None:
    """Each layer's own, through its first norm: a prompt of the last layer leaves the layers before it as they were."""
    model, inputs = tuned_model(SHAPE), inputs_of("video_classification")
    with torch.no_grad():
        before = model.encode(inputs, keep_layers=True).layers
        prompts_of(model).inputs[1].add_(some(prompts_of(model).inputs[1], 9))
        after = model.encode(inputs, keep_layers=True).layers
    assert torch.equal(before[0], after[0])
    assert not torch.allclose(before[1], after[1], atol=1e-4)
    assert before[0].shape == after[1].shape  # no token more


@torch.no_grad()
def test_prompts_go_through_the_first_norm_of_their_layer() -> None:
    """Which takes their size and mean away, so that only their direction counts."""
    model, inputs = tuned_model(SHAPE), inputs_of("video_classification")
    before_BND = model.encode(inputs).x_BND
    for prompt_PD in prompts_of(model).inputs:
        prompt_PD.mul_(4.0).add_(3.0)
    torch.testing.assert_close(model.encode(inputs).x_BND, before_BND, atol=1e-4, rtol=1e-4)
    model.encoder.blocks[0].norm1.bias.add_(1.0)  # type: ignore[union-attr, operator]
    assert not torch.allclose(model.encode(inputs).x_BND, before_BND, atol=1e-2)


@pytest.mark.parametrize(("shape", "own"), [(SHAPE, False), (BOTH, True)])
def test_candidates_have_the_prompts_of_inputs_or_their_own(shape: PromptShape, own: bool) -> None:
    model = tuned_model(shape)
    facts = Facts(side="input", inputs=("text",), targets=("text",))
    ids_BN = torch.tensor([[5, 6, 7]])
    sides = [
        sequences_of(facts=dataclasses.replace(facts, side=side), ids_BN=ids_BN) for side in ("input", "candidate")
    ]  # type: ignore[arg-type]
    with torch.no_grad():
        x_BND, y_BND = (model.encode(each).x_BND for each in sides)
        prompts_of(model).inputs[0].add_(some(prompts_of(model).inputs[0], 9))
        moved = not torch.allclose(model.encode(sides[1]).x_BND, y_BND, atol=1e-3)
    assert torch.equal(x_BND, y_BND) == (not own)
    assert moved == (not own)


@pytest.mark.parametrize("routed", ROUTED)
@torch.no_grad()
def test_with_a_cache_outputs_are_those_of_one_pass(routed: str) -> None:
    """Prompts stand in the cache of a prefix once, and are looked at by every word that is written."""
    words, ids_BS = 5, torch.tensor([[4, 9, 30, 2, 8], [7, 7, 1, 40, 3]])
    model, task = tuned_model(SHAPE, **ROUTED[routed]), tiny_task("image_captioning")
    answer = model.tokenizer.words.answer
    pixels = torch.randn(2, 1, 3, 32, 32, generator=torch_stream(1, "pixels"))
    prefix = sequences_of(facts=task.facts("input", 1), pixels_BFCHW=pixels)
    place_BS = torch.arange(words).expand_as(ids_BS)
    none_BS = torch.zeros_like(ids_BS, dtype=torch.bool)
    together = changed(
        prefix,
        ids_BN=torch.cat([ids_BS, torch.full_like(ids_BS, answer)], dim=1),
        position_BN=torch.cat([place_BS, place_BS], dim=1),
        order_BN=torch.cat([place_BS, place_BS], dim=1) + 1,
        query_BN=torch.cat([none_BS, ~none_BS], dim=1),
    )
    expected_BSD = model.encode(together).x_BND[:, -words:]
    cache, first_BD = model.begin(prefix_with_query(prefix, answer), words)
    found = [first_BD, *(model.extend(cache, ids_BS[:, place - 1], place) for place in range(1, words))]
    torch.testing.assert_close(torch.stack(found, dim=1), expected_BSD, atol=1e-5, rtol=1e-5)
    plain_BSD = untuned(model, **ROUTED[routed]).encode(together).x_BND[:, -words:]
    assert float((plain_BSD - expected_BSD).abs().max()) > 1e-2


def logits_of(model: Generalist) -> Tensor:
    task, batch = tiny_task("image_classification"), tiny_batch("image_classification")
    return ask(model, task, batch, tiny_candidates(task, batch))


@torch.no_grad()
def test_a_linear_head_is_added_to_the_logits() -> None:
    classes = len(tiny_task("image_classification").labels)
    model, batch = (
        tiny_model(prompts=PromptShape(vectors=0, classes=classes)).eval(),
        tiny_batch("image_classification"),
    )
    prompts, plain = prompts_of(model), untuned(model)
    prompts.initialise(None)
    assert prompts.classes is not None
    assert prompts.similarity is not None
    assert torch.equal(logits_of(model), logits_of(plain))  # at zero it changes nothing
    prompts.classes.weight.copy_(some(prompts.classes.weight, 1))
    prompts.classes.bias.copy_(some(prompts.classes.bias, 2))
    prompts.similarity.fill_(0.5)
    feature_RD = plain.represent(plain.encode(batch.inputs, summary=True).x_BND[:, 0])
    added_RK = feature_RD @ prompts.classes.weight.T + prompts.classes.bias
    torch.testing.assert_close(logits_of(model), 0.5 * logits_of(plain) + added_RK, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_vector_of_a_class_moves_its_logit_only() -> None:
    classes = len(tiny_task("image_classification").labels)
    model = tuned_model(PromptShape(vectors=0, labels=classes))
    before_RK = logits_of(model)
    labels_KD = prompts_of(model).labels
    assert labels_KD is not None
    labels_KD[2] += some(labels_KD[2], 9)
    moved_K = (logits_of(model) - before_RK).abs().amax(dim=0)
    assert float(moved_K[2]) > 1e-3
    moved_K[2] = 0.0
    assert float(moved_K.max()) < 1e-5


def test_the_bias_of_the_answer_token_is_added_wherever_it_stands() -> None:
    model, inputs = tuned_model(PromptShape(vectors=0)), inputs_of("masked_language_modelling")
    shifted, plain = untuned(model), untuned(model)
    with torch.no_grad():
        words = shifted.tokenizer.words
        words.words[words.answer] += prompts_of(model).answer
        assert bool((flat(inputs).ids_BN == words.answer).any())
        assert torch.equal(model.encode(inputs).x_BND, shifted.encode(inputs).x_BND)
        assert not torch.allclose(model.encode(inputs).x_BND, plain.encode(inputs).x_BND, atol=1e-2)


def test_prompts_begin_small_and_everything_else_without_an_effect() -> None:
    prompts = Prompts(PromptShape(vectors=40, candidates=30, classes=3, labels=3), layers=2, width=50)
    prompts.initialise(torch_stream(0))
    for side in ("input", "candidate"):
        for prompt_PD in prompts.deep(side) or ():  # type: ignore[arg-type]
            assert float(prompt_PD.detach().std()) == pytest.approx(0.02, rel=0.1)
    others = {
        name: each for name, each in prompts.named_parameters() if name.split(".")[0] not in ("inputs", "candidates")
    }
    assert float(others.pop("similarity").detach()) == 1.0
    assert not any(bool(each.any()) for each in others.values())
    assert Prompts(PromptShape(vectors=0), layers=2, width=8).deep("input") is None


def test_a_head_for_another_number_of_classes_is_one_line() -> None:
    with pytest.raises(UserError, match=r"linear head for 3 classes, not for 7; ask it about the labels of its task"):
        logits_of(tiny_model(prompts=PromptShape(vectors=0, classes=3)))


def test_tasks_without_classes_are_not_asked_through_the_head() -> None:
    """It knows the classes of its own task: captions and galleries keep their plain logits."""
    head = tuned_model(PromptShape(classes=3))
    for name in ("image_text_retrieval", "masked_language_modelling"):
        task = tiny_task(name)
        batch = tiny_batch(task)
        logits_RK = ask(head, task, batch, tiny_candidates(task, batch))
        with torch.no_grad():
            prompts_of(head).similarity.mul_(3.0)  # type: ignore[union-attr]
        assert torch.equal(ask(head, task, batch, tiny_candidates(task, batch)), logits_RK)


def test_what_is_added_begins_without_an_effect_whatever_lay_in_memory() -> None:
    prompts = Prompts(PromptShape(vectors=2, classes=3, labels=3), layers=1, width=8)
    with torch.no_grad():
        for parameter in prompts.parameters():
            parameter.fill_(7.0)
    prompts.initialise(torch_stream(0))
    assert not prompts.answer.any()
    assert prompts.labels is not None
    assert not prompts.labels.any()
    assert prompts.classes is not None
    assert not prompts.classes.weight.any()
    assert not prompts.classes.bias.any()
    assert 0 < float(prompts.inputs[0].detach().abs().max()) < 0.2
