"""Attention pooling, against CLIP's written with torch's own attention.

Shape suffixes: B sequences, N tokens, M the mean and the tokens, D width.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from uniperceiver.moe.token_router import AttentionPool
from uniperceiver.streams import torch_stream

SHARED_BN = torch.tensor([[1, 1, 1, 1, 1, 0], [1, 0, 1, 1, 0, 0], [1, 0, 0, 0, 0, 0]]).bool()


def drawn_pool() -> AttentionPool:
    pool, stream = AttentionPool(12, heads=3), torch_stream(0, "pool")
    with torch.no_grad():
        for parameter in pool.parameters():
            parameter.uniform_(-0.6, 0.6, generator=stream)
    return pool


def x_of_three() -> Tensor:
    return torch.randn(3, 6, 12, generator=torch_stream(0, "x"))


def as_clip(pool: AttentionPool, x_ND: Tensor) -> Tensor:
    """CLIP's AttentionPool2d without positions: the mean token in front of the tokens asks all of them, itself too."""
    x_M1D = torch.cat([x_ND.mean(dim=0, keepdim=True), x_ND])[:, None]
    y_11D, _ = F.multi_head_attention_forward(
        query=x_M1D[:1],
        key=x_M1D,
        value=x_M1D,
        embed_dim_to_check=12,
        num_heads=3,
        q_proj_weight=pool.query.weight,
        k_proj_weight=pool.key.weight,
        v_proj_weight=pool.value.weight,
        in_proj_weight=None,
        in_proj_bias=torch.cat([pool.query.bias, torch.zeros(12), pool.value.bias]),
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=pool.out.weight,
        out_proj_bias=pool.out.bias,
        use_separate_proj_weight=True,
        need_weights=False,
    )
    return y_11D[0, 0]


def as_clip_for_each(pool: AttentionPool, x_BND: Tensor, shared_BN: Tensor | None) -> Tensor:
    parts = list(x_BND) if shared_BN is None else [x[shared] for x, shared in zip(x_BND, shared_BN, strict=True)]
    return torch.stack([as_clip(pool, x_ND) for x_ND in parts])


@pytest.mark.parametrize("shared_BN", [None, SHARED_BN])
def test_values_and_gradients_are_those_of_clip(shared_BN: Tensor | None) -> None:
    pool, results = drawn_pool(), []
    for function in (pool, lambda x, shared: as_clip_for_each(pool, x, shared)):
        x_BND = x_of_three().requires_grad_()
        pool.zero_grad(set_to_none=True)
        y_BD = function(x_BND, shared_BN)
        (y_BD * torch.arange(36).view(3, 12).cos()).sum().backward()
        results.append([y_BD.detach(), x_BND.grad, *(parameter.grad for parameter in pool.parameters())])
    for found, wanted in zip(*results, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_tokens_that_are_not_shared_say_nothing() -> None:
    pool, x_BND = drawn_pool(), x_of_three()
    before_BD = pool(x_BND, SHARED_BN)
    x_BND[~SHARED_BN] = float("nan")
    assert torch.equal(pool(x_BND, SHARED_BN), before_BD)
    x_BND[0, 0] += 1.0
    changed_B = (pool(x_BND, SHARED_BN) != before_BD).any(dim=1)
    assert changed_B.tolist() == [True, False, False]
