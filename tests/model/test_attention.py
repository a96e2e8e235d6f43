"""Attention: the fast way equals the plain one, who sees whom, and the cache of keys and values.

Shape suffixes: B sequences, N tokens, H heads, d head width, D width.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uniperceiver.model.attention import Attention, KeyValueCache, attend, attend_plainly, visible
from uniperceiver.moe.context import ForwardContext
from uniperceiver.moe.layer import Linear
from uniperceiver.moe.route import NoRouter
from uniperceiver.records import Tokens
from uniperceiver.streams import torch_stream


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_stream(seed, *shape))


def a_mask(form: str, b: int, n: int, m: int) -> Tensor | None:
    """Everything; padding as (B, 1, 1, M); who sees whom as (B, 1, N, M)."""
    if form == "none":
        return None
    shape = (b, 1, 1, m) if form == "padding" else (b, 1, n, m)
    mask = torch.rand(shape, generator=torch_stream(1)) < 0.5
    mask[..., 0] = True  # <SPE> is seen by all
    return mask


def value_and_gradients(how: object, dtype: torch.dtype, form: str, head: int, n: int, m: int) -> list[Tensor]:
    inputs = [random(2, 3, length, head, seed=which).to(dtype) for which, length in enumerate((n, m, m))]
    inputs = [each.requires_grad_() for each in inputs]
    y = how(*inputs, a_mask(form, 2, n, m))
    (y.float() * random(2, 3, n, head, seed=9)).sum().backward()
    return [each.detach().float() for each in (y, *(each.grad for each in inputs))]


@pytest.mark.parametrize("head", [4, 8, 17, 64])
@pytest.mark.parametrize("form", ["none", "padding", "pairs"])
@pytest.mark.parametrize(("n", "m"), [(5, 5), (1, 5), (2, 7)])
def test_the_fast_way_equals_the_plain_one(head: int, form: str, n: int, m: int) -> None:
    plain = value_and_gradients(attend_plainly, torch.float32, form, head, n, m)
    for found, expected in zip(value_and_gradients(attend, torch.float32, form, head, n, m), plain, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    # In 16 bit on a CPU `attend` is the plain way; the fused kernel is what a GPU takes.
    fused = F.scaled_dot_product_attention
    for how in (attend, lambda q, k, v, mask: fused(q, k, v, attn_mask=mask)):
        for found, expected in zip(value_and_gradients(how, torch.bfloat16, form, head, n, m), plain, strict=True):
            assert (found - expected).abs().max() <= 2e-2 * max(1.0, float(expected.abs().max()))


def test_the_plain_way_is_the_formula() -> None:
    q, k, v = (random(1, 1, 4, 3, seed=which) for which in range(3))
    mask = a_mask("pairs", 1, 4, 4)
    found = attend_plainly(q, k, v, mask)[0, 0]
    for a in range(4):
        seen = [b for b in range(4) if mask[0, 0, a, b]]
        weights = [math.exp(float(q[0, 0, a] @ k[0, 0, b]) / math.sqrt(3)) for b in seen]
        expected = sum(w * v[0, 0, b] for w, b in zip(weights, seen, strict=True)) / sum(weights)
        torch.testing.assert_close(found[a], expected)


def test_queries_keys_and_values_are_packed_in_this_order_by_heads() -> None:
    attention, x = Attention(2, Linear(6, 18), Linear(6, 6), NoRouter()), random(2, 5, 6)
    context = ForwardContext(sequences=2, length=5, segments=(), device=x.device)
    weight, bias = attention.qkv.weight, attention.qkv.bias
    three = [x @ weight[rows].T + bias[rows] for rows in (slice(0, 6), slice(6, 12), slice(12, 18))]
    q, k, v = (each.unflatten(2, (2, 3)).transpose(1, 2) for each in three)  # head-major channels
    y = attention(context.pack(x), context, None, summary=False, cache=None, layer=0)
    expected = attend_plainly(q, k, v, None).transpose(1, 2).flatten(2) @ attention.out.weight.T + attention.out.bias
    torch.testing.assert_close(context.unpack(y), expected)


def tokens(valid: Tensor | None, order: Tensor | None = None, query: Tensor | None = None) -> Tokens:
    some = order if valid is None else valid
    shape = (1, 4) if some is None else some.shape
    return Tokens(x_BND=torch.zeros(*shape, 2), segments=(), valid_BN=valid, order_BN=order, query_BN=query)


def test_without_padding_and_order_there_is_no_mask() -> None:
    assert visible(tokens(None)) is None
    assert visible(tokens(None), cached=3) is None


def test_padding_is_seen_by_nobody() -> None:
    valid = torch.tensor([[True, True, False, False], [True, True, True, True]])
    mask = visible(tokens(valid))
    assert mask.shape == (2, 1, 1, 4)
    assert torch.equal(mask[:, 0, 0], valid)


@pytest.mark.parametrize("padded", [0, 1, 2])
def test_words_see_earlier_words_and_queries_see_what_they_may_know(padded: int) -> None:
    """The rules of OFFICIAL.md, section 3, one pair at a time: prefix of 2, words 1..3, queries 1..3."""
    order = torch.tensor([[0, 0, 1, 2, 3, 1, 2, 3]])
    query = torch.tensor([[False] * 5 + [True] * 3])
    real = [True] * (3 - padded) + [False] * padded
    valid = torch.tensor([[True, True, *real, *real]])
    mask = visible(tokens(valid, order, query))[0, 0]
    for a in range(8):
        for b in range(8):
            if b < 2:
                allowed = True  # everyone looks at the prefix, which looks only at itself
            elif a < 2 or b >= 5:
                allowed = a == b  # nobody looks at queries, but each at itself
            elif a < 5:
                allowed = b <= a  # a word: the words before it and itself
            else:
                allowed = b < a - 3  # a query: the words strictly before its own
            assert bool(mask[a, b]) == (allowed and bool(valid[0, b])), (a, b)


def test_cached_tokens_are_seen_by_all() -> None:
    order, query = torch.tensor([[3, 4]]), torch.tensor([[False, True]])
    mask = visible(tokens(None, order, query), cached=4)[0, 0]
    assert mask.tolist() == [[True] * 4 + [True, False], [True] * 4 + [True, True]]


def test_the_cache_holds_what_was_kept_and_overwrites_the_rest() -> None:
    cache = KeyValueCache(layers=2, room=4)
    first = [random(2, 3, 5, 4, seed=which) for which in range(4)]
    for layer in range(2):
        keys, values = cache.extend(layer, first[2 * layer], first[2 * layer + 1])
        assert torch.equal(keys, first[2 * layer])
        assert torch.equal(values, first[2 * layer + 1])
    cache.keep(4)  # the fifth was a query
    for step in range(2):
        new = random(2, 3, 2, 4, seed=10 + step)
        for layer in range(2):
            keys, values = cache.extend(layer, new, -new)
            assert keys.shape[2] == 4 + step + 2
            assert torch.equal(keys[:, :, :4], first[2 * layer][:, :, :4])
            assert torch.equal(keys[:, :, -2:], new)
            assert torch.equal(values[:, :, -2:], -new)
        cache.keep(1)
    assert (cache.prefix, cache.length) == (4, 6)


def test_beams_are_copied_and_continue_the_words_of_their_parents() -> None:
    cache = KeyValueCache(layers=1, room=4)
    prefix = random(2, 1, 3, 2)
    cache.extend(0, prefix, -prefix)
    cache.keep(2)
    cache.repeat(3)
    words = random(6, 1, 2, 2)
    cache.extend(0, words, -words)
    cache.keep(1)
    parent = torch.tensor([2, 0, 0, 5, 5, 3])
    cache.reorder(parent)
    after = random(6, 1, 2, 2, seed=5)
    keys, values = cache.extend(0, after, -after)
    assert torch.equal(keys[:, :, :2], prefix[:, :, :2].repeat_interleave(3, dim=0))
    assert torch.equal(keys[:, :, 2], words[parent, :, 0])
    assert torch.equal(keys[:, :, 3:], after)
    assert torch.equal(values, -keys)
