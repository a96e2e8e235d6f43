"""The plain encoder of the benchmark computes what ours computes, in values and gradients; the benchmark runs."""

import math

import torch

from benchmarks.encoder import Scale, measure, plain_twin
from benchmarks.moe_parts import Shape

STACK = Shape(width=64, layers=3, heads=2, length=7, cut=3)


def test_both_compute_the_same() -> None:
    encoder = STACK.encoder(condition="shared")
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in encoder.parameters():  # norms, biases and scales too
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=stream))
    plain, tokens = plain_twin(encoder, STACK), STACK.tokens(2, rows=1)
    with torch.no_grad():
        torch.testing.assert_close(encoder(tokens).x_BND, plain(tokens.x_BND), atol=2e-5, rtol=1e-5)
    found_BND, expected_BND = encoder(tokens).x_BND, plain(tokens.x_BND)
    torch.testing.assert_close(found_BND, expected_BND, atol=2e-5, rtol=1e-5)
    for x_BND in (found_BND, expected_BND):
        (x_BND * torch.randn(x_BND.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    gradients = {name: parameter.grad for name, parameter in plain.named_parameters()}
    assert len(gradients) == 14 * STACK.layers
    for name, parameter in encoder.named_parameters():
        short = name.removeprefix("blocks.").replace("attention.", "").replace("ffn.", "")
        expected = gradients.pop(short)
        assert expected is not None
        assert parameter.grad is not None
        assert float((parameter.grad - expected).norm()) <= 1e-5 * float(expected.norm()), name
    assert not gradients


def test_every_row_is_measured() -> None:
    rows = measure(1, Scale(stack=STACK, batches=(2, 3), threads=(1,)))
    assert [row.name for row in rows] == [
        f"encoder/{what}/Ti/batch{batch}/threads1/over plain"
        for batch in (2, 3)
        for what in ("forward", "forward and backward")
    ]
    assert all(math.isfinite(row.value) and row.value > 0 and row.goal == 1.0 for row in rows)
