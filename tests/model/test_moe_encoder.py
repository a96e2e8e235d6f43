"""The encoder with experts: summaries, neighbours, padding, orders of tokens, and what a context may look at.

Shape suffixes: B sequences, N tokens, T tokens of all sequences, D width.
"""

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.parts import changed, flat
from tests.moe_cases import BY_ROW, BY_VALUES, KINDS, ROUTINGS, TASKS, inputs_of, moe_model, padded, some
from uniperceiver.model.attention import attend_plainly, visible
from uniperceiver.model.encoder import Block
from uniperceiver.model.model import Generalist
from uniperceiver.records import Decision, Sequences, Tokens
from uniperceiver.streams import torch_stream

# Settings beside the routing: each of their values occurs with every routing.
SETTINGS: dict[str, dict[str, Any]] = {
    "both": {},
    "attention": {"where": "attention", "gates": 2, "k": 4},
    "ffn": {"where": "ffn", "gates": 2, "layers": (1,), "k": 1},
    "whole ffn": {"where": "ffn", "level": "ffn", "k": 1},
    "first layer": {"gates": 2, "layers": (0,)},
}


def kinds_of(condition: str) -> list[str]:
    return [kind for kind in KINDS if condition != "expert_choice" or kind != "image_captioning"]


def cases(*conditions: str) -> list[tuple[str, str]]:
    return [(condition, kind) for condition in conditions for kind in kinds_of(condition)]


def weight_of(decision: Decision | None) -> Tensor:
    """The weights of the experts for every token, (B, N, E); without a gate, task 1 has its own expert."""
    if decision is None:
        return torch.eye(TASKS)[1].expand(3, 1, -1)
    if not decision.group_S:
        return decision.weight_TE.unflatten(0, (3, -1))
    lengths = torch.tensor([segment.stop - segment.start for segment in decision.segments])
    return decision.weight_TE[list(decision.group_S)].repeat_interleave(lengths, dim=0).expand(3, -1, -1)


def mixed(experts: nn.ModuleList, x_BND: Tensor, weight_BNE: Tensor) -> Tensor:
    """Eq. 4: every expert for every token, weighted."""
    return torch.stack([expert(x_BND) * weight_BNE[..., e : e + 1] for e, expert in enumerate(experts)]).sum(dim=0)


def layer_plainly(block: Block, x_BND: Tensor, mask: Tensor | None, weights: dict[tuple[str, int], Tensor]) -> Tensor:
    attention, ffn = block.attention, block.ffn
    packed = mixed(attention.qkv.experts, block.norm1(x_BND), weights["attention", 0])
    q, k, v = packed.unflatten(2, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
    y_BND = attend_plainly(q, k, v, mask).transpose(1, 2).flatten(2)
    x_BND = x_BND + block.scale1 * mixed(attention.out.experts, y_BND, weights["attention", -1])
    hidden = F.gelu(mixed(ffn.linear1.experts, block.norm2(x_BND), weights["ffn", 0]))
    return x_BND + block.scale2 * mixed(ffn.linear2.experts, hidden, weights["ffn", -1])


@pytest.mark.parametrize("gates", [1, 2])
@pytest.mark.parametrize(("condition", "kind"), cases(*ROUTINGS))
@torch.no_grad()
def test_layers_are_those_of_the_formula(condition: str, kind: str, gates: int) -> None:
    model = moe_model(condition, gates=gates)
    tokens = model.tokenizer(inputs_of(kind))
    encoded, x_BND = model.encoder(tokens, keep_layers=True), tokens.x_BND
    seen_BN = torch.ones(x_BND.shape[:2], dtype=torch.bool) if tokens.valid_BN is None else tokens.valid_BN
    for layer, found_BND in enumerate(encoded.layers):
        decisions = {(each.part, each.gate): each for each in encoded.decisions if each.layer == layer}
        weights = {
            (part, gate): weight_of(decisions.get((part, gate % gates)))
            for part in ("attention", "ffn")
            for gate in (0, -1)
        }
        x_BND = layer_plainly(model.encoder.blocks[layer], x_BND, visible(tokens), weights)
        torch.testing.assert_close(found_BND[seen_BN], x_BND[seen_BN], atol=1e-5, rtol=1e-5)


def summaries_and_gradients(
    model: Generalist, inputs: Sequences, *, summary: bool, training: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    x_BND = model.encode(inputs, torch_stream(3) if training else None, summary=summary).x_BND
    assert x_BND.shape[1] == 1 or not summary
    (x_BND[:, 0] * torch.randn(x_BND[:, 0].shape, generator=torch_stream(4))).sum().backward()
    gradients = {name: each.grad for name, each in model.named_parameters() if each.grad is not None}
    return x_BND[:, 0].detach(), {name: each for name, each in gradients.items() if each.any()}


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize(("condition", "kind"), cases(*ROUTINGS))
def test_the_summary_alone_is_that_of_the_whole(condition: str, kind: str, settings: str) -> None:
    model, inputs = moe_model(condition, arch={"drop_path": 0.3}, **SETTINGS[settings]), inputs_of(kind)
    for training in (False, True):
        (whole, expected), (alone, found) = (
            summaries_and_gradients(model, inputs, summary=summary, training=training) for summary in (False, True)
        )
        torch.testing.assert_close(alone, whole, atol=1e-5, rtol=1e-5)
        assert found.keys() == expected.keys()
        for name, gradient in found.items():
            torch.testing.assert_close(gradient, expected[name], atol=2e-5, rtol=1e-4, msg=name)


def test_with_capacity_the_summary_competes_for_room_with_all_tokens() -> None:
    model, inputs = moe_model("token", training_capacity=0.5, evaluation_capacity=0.5), inputs_of("vqa")
    (whole, _), (alone, _) = (
        summaries_and_gradients(model, inputs, summary=summary, training=False) for summary in (False, True)
    )
    torch.testing.assert_close(alone, whole, atol=1e-5, rtol=1e-5)


def valid_outputs(model: Generalist, inputs: Sequences) -> list[Tensor]:
    """The outputs of each sequence without padding."""
    with torch.no_grad():
        x_BND = model.encode(inputs).x_BND
    if flat(inputs).valid_BN is None:
        return list(x_BND)
    valid_BN = torch.nn.functional.pad(
        flat(inputs).valid_BN, (x_BND.shape[1] - flat(inputs).valid_BN.shape[1], 0), value=True
    )
    return [x_ND[valid_N] for x_ND, valid_N in zip(x_BND, valid_BN, strict=True)]


@pytest.mark.parametrize("settings", ["both", "whole ffn"])
@pytest.mark.parametrize(("condition", "kind"), cases(*ROUTINGS))
def test_neighbours_change_nothing(condition: str, kind: str, settings: str) -> None:
    model, inputs = moe_model(condition, **SETTINGS[settings]), inputs_of(kind)
    together = valid_outputs(model, inputs)
    for row in range(3):
        torch.testing.assert_close(valid_outputs(model, some(inputs, [row]))[0], together[row], atol=1e-5, rtol=1e-5)
    turned = valid_outputs(model, some(inputs, [2, 0, 1]))
    for row, found in zip((2, 0, 1), turned, strict=True):
        torch.testing.assert_close(found, together[row], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("share", [0.3, 0.9])
@pytest.mark.parametrize(("condition", "kind"), [case for case in cases(*ROUTINGS) if case[1] != KINDS[0]])
def test_padding_moves_nothing(condition: str, kind: str, share: float) -> None:
    model, inputs = moe_model(condition, arch={"max_text": 256}), inputs_of(kind)
    more = round(flat(inputs).ids_BN.shape[1] * share / (1 - share))  # type: ignore[union-attr]
    for token in (0, 7):  # whatever stands there
        longer = valid_outputs(model, padded(inputs, more, token))
        for found, expected in zip(longer, valid_outputs(model, inputs), strict=True):
            assert float((found - expected).abs().max()) <= 1e-6 * float(expected.abs().max())


@pytest.mark.parametrize("condition", ROUTINGS)
def test_what_is_padded_away_cannot_be_seen(condition: str) -> None:
    model, inputs = moe_model(condition), inputs_of("vqa")
    tokens = model.tokenizer(inputs)
    spoiled_BND = tokens.x_BND.masked_fill(~tokens.valid_BN[:, :, None], 1e4)  # type: ignore[index]
    with torch.no_grad():
        plain, spoiled = (model.encoder(replace(tokens, x_BND=x)).x_BND for x in (tokens.x_BND, spoiled_BND))
    torch.testing.assert_close(spoiled[tokens.valid_BN], plain[tokens.valid_BN], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["image_captioning", "vqa"])
@pytest.mark.parametrize("condition", ["token", "context"])
def test_the_order_of_the_tokens_is_of_no_account(condition: str, kind: str) -> None:
    model, inputs = moe_model(condition), inputs_of(kind)
    with torch.no_grad():
        sequence_first = model.encode(inputs)
        model.encoder.token_first = True
        token_first = model.encode(inputs)
    torch.testing.assert_close(token_first.x_BND, sequence_first.x_BND, atol=1e-5, rtol=1e-5)
    for one, other in zip(token_first.decisions, sequence_first.decisions, strict=True):
        turned_TE = other.chosen_TE.unflatten(0, (3, -1)).transpose(0, 1).flatten(0, 1)
        assert torch.equal(one.chosen_TE, turned_TE)


@pytest.mark.parametrize("condition", BY_ROW)
def test_a_single_segment_is_encoded_alike_in_both_orders(condition: str) -> None:
    model, tokens = moe_model(condition), moe_model(condition).tokenizer(inputs_of("masked_language_modelling"))
    flows = [replace(model.encoder._context_of(tokens, None, None), token_first=order) for order in (False, True)]
    x_BND = tokens.x_BND
    with torch.no_grad():
        one, other = (context.unpack(model.encoder.blocks[0].ffn(context.pack(x_BND), context)) for context in flows)
    torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def pooled(model: Generalist, tokens: Tokens) -> Tensor:
    """The context of every sequence, (B, D), if a half-block began with these tokens."""
    context = model.encoder._context_of(tokens, None, None)
    model.encoder.blocks[0].attention.router(context.pack(tokens.x_BND), context)
    return context.pooled[0, "attention"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_context_looks_at_what_all_tokens_may_look_at(kind: str) -> None:
    """Each token is moved in turn: the pooled vector moves with those of the prefix (or the valid ones), only."""
    model = moe_model("context")
    tokens = model.tokenizer(inputs_of(kind))
    with torch.no_grad():
        before_BD = pooled(model, tokens)
        for place in range(tokens.x_BND.shape[1]):
            moved_BND = tokens.x_BND.clone()
            moved_BND[:, place] += 1.0
            after_BD = pooled(model, replace(tokens, x_BND=moved_BND))
            seen_B = (after_BD - before_BD).abs().amax(dim=1) > 1e-6
            expected_B = torch.ones(3, dtype=torch.bool)
            if tokens.valid_BN is not None:
                expected_B = expected_B & tokens.valid_BN[:, place]
            if tokens.order_BN is not None:
                expected_B = expected_B & (tokens.order_BN[:, place] == 0)
            assert seen_B.tolist() == expected_B.tolist(), place
    if kind == "image_captioning":
        assert tokens.order_BN[:, 0].tolist() == [0, 0, 0]  # type: ignore[index]


def test_padding_before_a_text_that_is_written_is_no_context_of_it() -> None:
    """As that of a modality of one's own may be."""
    model = moe_model("context")
    tokens = model.tokenizer(inputs_of("image_captioning"))
    valid_BN = torch.ones(tokens.x_BND.shape[:2], dtype=torch.bool)
    valid_BN[1, 3], valid_BN[2, 2:4] = False, False
    tokens = replace(tokens, valid_BN=valid_BN)
    with torch.no_grad():
        spoiled_BND = tokens.x_BND.masked_fill(~valid_BN[:, :, None], 100.0)
        torch.testing.assert_close(pooled(model, replace(tokens, x_BND=spoiled_BND)), pooled(model, tokens))


def test_a_text_alone_that_is_written_has_spe_as_its_context() -> None:
    model, inputs = moe_model("context"), inputs_of("image_captioning")
    tokens = model.tokenizer(changed(inputs, pixels_BFCHW=None))
    with torch.no_grad():
        whole_BD = pooled(model, tokens)
        alone = replace(tokens, x_BND=tokens.x_BND[:, :1], segments=(replace(tokens.segments[0], stop=1),))
        spe_BD = pooled(model, replace(alone, valid_BN=None, order_BN=None, query_BN=None))
    torch.testing.assert_close(whole_BD, spe_BD)


@pytest.mark.parametrize("condition", BY_VALUES)
def test_routing_that_reads_values_reads_them(condition: str) -> None:
    """A test of these tests: tokens do get different experts, and so do sequences."""
    with torch.no_grad():
        for decision in moe_model(condition).encode(inputs_of("vqa")).decisions:
            assert len(decision.chosen_TE.unique(dim=0)) > 3


@pytest.mark.parametrize("condition", ["attribute", "token"])
def test_a_branch_is_dropped_for_all_tokens_of_a_sequence(condition: str) -> None:
    """In whichever order a pass holds its tokens."""
    model = moe_model(condition, arch={"drop_path": 0.5})
    tokens = model.tokenizer(inputs_of("vqa"))
    context = model.encoder._context_of(tokens, torch_stream(0), None)
    keep_L2T = model.encoder._keep(tokens, context)
    assert keep_L2T is not None
    assert context.token_first == (condition == "attribute")
    for keep_T in keep_L2T.flatten(0, 1):
        keep_BN = context.unpack(keep_T[:, None])[:, :, 0]
        assert bool((keep_BN == keep_BN[:, :1]).all())
    assert 0 < float((keep_L2T == 0).float().mean()) < 1
