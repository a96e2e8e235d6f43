"""The encoder: its layers written out, the summary alone, DropPath.

Shape suffixes: B sequences, N tokens, D width, L layers.
"""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.parts import changed, flat
from tests.tiny import tiny_batch, tiny_model
from uniperceiver.model.attention import attend_plainly, visible
from uniperceiver.model.encoder import Block
from uniperceiver.model.model import Generalist
from uniperceiver.records import Sequences, Tokens
from uniperceiver.streams import torch_stream


def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, 1e-5)


def layer_plainly(block: Block, x_BND: Tensor, mask: Tensor | None) -> Tensor:
    """x + gamma_1 * Attn(LN1 x), then x + gamma_2 * FFN(LN2 x), GELU by the error function (OFFICIAL.md, section 3)."""
    qkv = block.attention.qkv
    packed = F.linear(norm(x_BND, block.norm1), qkv.weight, qkv.bias)
    q, k, v = packed.unflatten(2, (3, block.attention.heads, -1)).permute(2, 0, 3, 1, 4)
    y_BND = attend_plainly(q, k, v, mask).transpose(1, 2).flatten(2)
    x_BND = x_BND + block.scale1 * F.linear(y_BND, block.attention.out.weight, block.attention.out.bias)
    hidden = F.linear(norm(x_BND, block.norm2), block.ffn.linear1.weight, block.ffn.linear1.bias)
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
    return x_BND + block.scale2 * F.linear(hidden, block.ffn.linear2.weight, block.ffn.linear2.bias)


def inputs_of(name: str) -> Sequences:
    """A batch's inputs; in texts, one sample is padded by 60 %."""
    inputs = tiny_batch(name).inputs
    text = flat(inputs)
    if text.ids_BN is None:
        return inputs
    valid_BN = torch.ones_like(text.ids_BN, dtype=torch.bool) if text.valid_BN is None else text.valid_BN.clone()
    half = text.ids_BN.shape[1] // (2 if text.order_BN is not None else 1)  # words, then as many queries
    for start in range(0, text.ids_BN.shape[1], half):
        valid_BN[0, start + max(1, half * 2 // 5) : start + half] = False
    return changed(inputs, valid_BN=valid_BN)


NAMES = ("video_classification", "masked_language_modelling", "image_captioning")


@pytest.mark.parametrize("name", NAMES)
def test_layers_are_those_of_the_formula(name: str) -> None:
    model = tiny_model(layers=3)
    tokens = model.tokenizer(inputs_of(name))
    encoded = model.encoder(tokens, keep_layers=True)
    x_BND, mask = tokens.x_BND, visible(tokens)
    assert len(encoded.layers) == 3
    for block, found in zip(model.encoder.blocks, encoded.layers, strict=True):
        x_BND = layer_plainly(block, x_BND, mask)
        torch.testing.assert_close(found, x_BND, atol=1e-5, rtol=1e-5)
    assert torch.equal(encoded.x_BND, encoded.layers[-1])  # no norm at the end
    assert encoded.segments == tokens.segments
    assert model.encoder(tokens).layers == ()


def summaries_and_gradients(model: Generalist, inputs: Sequences, *, summary: bool, drop: bool) -> list[Tensor]:
    model.zero_grad()
    x_BND = model.encode(inputs, torch_stream(3) if drop else None, summary=summary).x_BND
    assert x_BND.shape[1] == 1 or not summary
    weights = torch.randn(x_BND.shape[0], x_BND.shape[2], generator=torch_stream(4))
    (x_BND[:, 0] * weights).sum().backward()
    return [x_BND[:, 0].detach(), *(each.grad for each in model.parameters() if each.grad is not None)]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("drop", [False, True])
@pytest.mark.parametrize("layers", [1, 3])
def test_the_summary_alone_is_that_of_the_whole(name: str, drop: bool, layers: int) -> None:
    model, inputs = tiny_model(drop_path=0.4, layers=layers), inputs_of(name)
    whole, alone = (summaries_and_gradients(model, inputs, summary=summary, drop=drop) for summary in (False, True))
    assert len(whole) == len(alone) > 10
    for found, expected in zip(alone, whole, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def some_tokens(b: int) -> Tokens:
    return Tokens(x_BND=torch.randn(1, 3, 16, generator=torch_stream(0)).expand(b, -1, -1), segments=())


def test_drop_path_drops_branches_of_samples_and_scales_the_rest() -> None:
    """With one layer a sample has four outcomes; each has its probability, and the branches their mean."""
    model, b, p = tiny_model(drop_path=0.3, layers=1), 4000, 0.3
    block, tokens = model.encoder.blocks[0], some_tokens(b)
    with torch.no_grad():
        x_BND = model.encoder(tokens, torch_stream(1)).x_BND
        start = tokens.x_BND[:1]
        context = model.encoder._context_of(some_tokens(1), None, None)
        attention = block.attention(block.norm1(start[0]), context, None, summary=False, cache=None, layer=0)
        attention = attention * block.scale1
        counted, places = 0, {}
        for first in (0.0, 1 / (1 - p)):
            for second in (0.0, 1 / (1 - p)):
                middle = start + first * attention
                outcome = middle + second * block.scale2 * block.ffn(block.norm2(middle), context)
                same_B = (x_BND - outcome).abs().amax(dim=(1, 2)) < 1e-5  # all tokens of a sample alike
                share = (p if first == 0 else 1 - p) * (p if second == 0 else 1 - p)
                places[first, second] = same_B
                counted += int(same_B.sum())
                assert abs(float(same_B.float().mean()) - share) < 4 * (share * (1 - share) / b) ** 0.5
    assert counted == b


def test_the_mean_of_drop_path_is_the_branch() -> None:
    model = tiny_model(drop_path=0.3, layers=2)
    tokens = replace(some_tokens(20_000), x_BND=some_tokens(20_000).x_BND[:, :1])
    keep_L2B = model.encoder._keep(tokens, model.encoder._context_of(tokens, torch_stream(5), None))
    assert keep_L2B.shape == (2, 2, 20_000)
    assert keep_L2B.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    torch.testing.assert_close(keep_L2B.mean(dim=2), torch.ones(2, 2), atol=0.02, rtol=0)
    different = (keep_L2B[0, 0] != keep_L2B[0, 1]).float().mean(), (keep_L2B[0, 0] != keep_L2B[1, 0]).float().mean()
    assert all(abs(float(share) - 2 * 0.3 * 0.7) < 0.03 for share in different)  # drawn independently


def test_the_stream_decides_and_without_one_nothing_is_random() -> None:
    model, tokens = tiny_model(drop_path=0.5, layers=2).train(), some_tokens(12)
    with torch.no_grad():
        first, again, other = (model.encoder(tokens, torch_stream(seed)).x_BND for seed in (1, 1, 2))
        none, still = model.encoder(tokens).x_BND, tiny_model(layers=2).encoder(tokens).x_BND
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(none, still)
    with torch.no_grad():
        assert torch.equal(tiny_model(layers=2).encoder(tokens, torch_stream(1)).x_BND, still)  # drop_path 0


def test_a_sample_that_is_left_out_changes_no_other_ones_drop_path() -> None:
    model = tiny_model(0, drop_path=0.5)
    x_BND = torch.randn(4, 3, model.head.norm.weight.shape[0], generator=torch_stream(0, "x"))
    kept = [0, 2, 3]
    whole = model.encoder(Tokens(x_BND=x_BND, segments=()), torch_stream(1, "drop")).x_BND
    part = Tokens(x_BND=x_BND[kept], segments=(), place_B=torch.tensor(kept), planned=4)
    stream = torch_stream(1, "drop")
    torch.testing.assert_close(model.encoder(part, stream).x_BND, whole[kept])
    assert torch.equal(torch.rand(2, generator=stream), _rest_of_stream(model, x_BND))


def _rest_of_stream(model: Generalist, x_BND: Tensor) -> Tensor:
    stream = torch_stream(1, "drop")
    model.encoder(Tokens(x_BND=x_BND, segments=()), stream)
    return torch.rand(2, generator=stream)
