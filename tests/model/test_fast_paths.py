"""What saves time in the encoder changes no bit: GELU in place, masks made once for all layers, no DropPath.

Shape suffixes: B sequences, N tokens, H heads, d head width.
"""

import pytest
import torch

from tests.moe_cases import KINDS, inputs_of, moe_model
from tests.tiny import tiny_model
from uniperceiver.model.attention import as_bias, attend, visible
from uniperceiver.streams import torch_stream


@pytest.mark.parametrize("routing", ["dense", "attribute", "token"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_wanted_or_not_the_outputs_are_the_same(routing: str, kind: str) -> None:
    model = tiny_model() if routing == "dense" else moe_model(routing)
    inputs = inputs_of(kind)
    with torch.no_grad():
        alone = model.encode(inputs).x_BND
    assert torch.equal(alone, model.encode(inputs).x_BND)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["masked_language_modelling", "image_captioning"])
def test_a_mask_as_numbers_hides_the_same(kind: str, dtype: torch.dtype) -> None:
    tokens = tiny_model().tokenizer(inputs_of(kind))
    mask, n = visible(tokens), tokens.x_BND.shape[1]
    assert mask is not None
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        bias = as_bias(mask, tokens.x_BND)
    assert bias is not None
    assert bias.dtype == dtype
    results = []
    for each in (mask, bias):
        packed = torch.randn(3, 3, 2, n, 8, generator=torch_stream(0)).to(dtype).requires_grad_()
        y_BHNd = attend(*packed.unbind(0), each)
        (y_BHNd * torch.randn(y_BHNd.shape, generator=torch_stream(1))).sum().backward()
        results.append((y_BHNd.detach(), packed.grad))
    for found, expected in zip(*results, strict=True):
        assert found is not None
        assert expected is not None
        assert torch.equal(found, expected)
    query, key, value = torch.randn(3, 3, 2, n, 8).to(dtype).unbind(0)
    hidden_B1N1 = ~mask.expand(3, 1, n, n)[:, :, 0, :, None]  # what the first token does not see
    assert hidden_B1N1.any()
    moved = key.masked_fill(hidden_B1N1, 9.0)
    assert torch.equal(attend(query, key, value, bias)[:, :, 0], attend(query, moved, value, bias)[:, :, 0])


def test_no_mask_stays_none() -> None:
    assert as_bias(None, torch.zeros(1, 1, 1)) is None


def test_without_drop_path_nothing_is_drawn() -> None:
    stream = torch_stream(0)
    before = stream.get_state()
    tiny_model(drop_path=0.0).encode(inputs_of("image_captioning"), stream)
    assert torch.equal(stream.get_state(), before)
    tiny_model(drop_path=0.1).encode(inputs_of("image_captioning"), stream)
    assert not torch.equal(stream.get_state(), before)
