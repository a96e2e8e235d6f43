"""P(y | x): the formula, its precision, and the clamp of the temperature."""

import math

import pytest
import torch
import torch.nn.functional as F

from tests.tiny import tiny_model
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.likelihood import log_likelihood, logits, unit


def some(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch_stream(0, "likelihood", *shape)) * 3 + 0.5


def test_values_are_those_of_the_formula_written_out() -> None:
    z_RD, c_KD, correction_K = some(2, 8), some(5, 8), some(5)
    found_RK = logits(unit(z_RD), unit(c_KD), torch.tensor(7.5), correction_K)
    for r, z_D in enumerate(z_RD.tolist()):
        scores = []
        for k, c_D in enumerate(c_KD.tolist()):
            cosine = sum(a * b for a, b in zip(z_D, c_D, strict=True)) / (math.hypot(*z_D) * math.hypot(*c_D))
            scores.append(7.5 * cosine + float(correction_K[k]))
            assert found_RK[r, k].item() == pytest.approx(scores[-1], abs=1e-5)
        total = sum(map(math.exp, scores))
        probabilities = [math.exp(score) / total for score in scores]
        assert log_likelihood(found_RK)[r].exp().tolist() == pytest.approx(probabilities, abs=1e-5)


def test_a_vector_of_zeros_has_no_direction_but_is_finite() -> None:
    assert torch.equal(unit(torch.zeros(2, 8)), torch.zeros(2, 8))


def test_representations_in_16_bit_are_compared_in_float32() -> None:
    z_RD, c_KD, scale = some(2, 8).bfloat16(), some(5, 8).bfloat16(), torch.tensor(20.0)
    plain_RK = logits(unit(z_RD.float()), unit(c_KD.float()), scale)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found_RK = logits(unit(z_RD), unit(c_KD), scale)
    assert found_RK.dtype == torch.float32
    assert torch.equal(found_RK, plain_RK)  # autocast touches nothing: not even the last bit


def test_the_original_compares_them_in_the_autocast_type() -> None:
    z_RD, c_KD, scale = some(2, 8).bfloat16(), some(5, 8).bfloat16(), torch.tensor(20.0)
    exact_RK = logits(unit(z_RD), unit(c_KD), scale)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found_RK = logits(unit(z_RD, float32=False), unit(c_KD, float32=False), scale)
    assert found_RK.dtype == torch.bfloat16
    assert not torch.equal(found_RK.float(), exact_RK)
    torch.testing.assert_close(found_RK.float(), exact_RK, atol=0.3, rtol=0)
    assert log_likelihood(found_RK).dtype == torch.float32


def test_the_type_of_representations_is_also_kept_where_autocast_divides_by_a_float32_norm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As on a GPU."""
    normalize = F.normalize
    monkeypatch.setattr(F, "normalize", lambda x, dim: normalize(x.float(), dim=dim))
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        assert unit(some(2, 8).to(dtype), float32=False).dtype == dtype


@pytest.mark.parametrize("float32", [True, False])
def test_a_model_decides_the_type_of_its_likelihood(float32: bool) -> None:
    model = tiny_model(likelihood_float32=float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z_RD = unit(model.represent(some(3, 16)), float32=model.likelihood_float32)
        found_RK = logits(z_RD, z_RD, model.scale("caption"))
    assert found_RK.dtype == (torch.float32 if float32 else torch.bfloat16)


@pytest.mark.parametrize(("scale", "clamped"), [(99.0, False), (101.0, True), (1e4, True)])
def test_beyond_the_clamp_the_scale_is_a_constant_without_gradient(scale: float, clamped: bool) -> None:
    model = tiny_model()
    temperature = model.temperatures["retrieve"]
    temperature.data.fill_(math.log(scale))
    found = model.scale("retrieve")
    found.backward()
    assert found.item() == pytest.approx(100.0 if clamped else scale, rel=1e-6)
    assert temperature.grad.item() == pytest.approx(0.0 if clamped else scale, rel=1e-6)
    assert all(each.grad is None for name, each in model.temperatures.items() if name != "retrieve")
