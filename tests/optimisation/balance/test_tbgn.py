"""TBGN: the length of the update's gradient, and what the optimiser is told."""

import numpy as np
import pytest
import torch

from tests.balancing import ADAMW, NAMES, flat, gradients_of, layers, method, vectors
from uniperceiver.optimisation.balance.shared_adamw import SharedAdamW


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_gradient_has_the_length_of_its_loss_weight(scale: float) -> None:
    vectors_KP = vectors(1)
    found_P = flat(method("tbgn", loss_weight=0.3).combine(gradients_of(scale * vectors_KP), 0))
    np.testing.assert_allclose(found_P, 0.3 * vectors_KP[0] / np.linalg.norm(vectors_KP), rtol=1e-9)


def test_a_gradient_of_zero_stays_zero() -> None:
    assert (flat(method("tbgn").combine(gradients_of(np.zeros((1, 8))), 0)) == 0).all()


def test_the_optimiser_knows_the_shares_the_guards_and_the_task() -> None:
    one = method("tbgn", tasks=2, floor=0.0, cap=0.0)
    model = layers()
    optimiser = one.optimiser(model, ADAMW)
    assert isinstance(optimiser, SharedAdamW)
    assert [group["weight_decay"] for group in optimiser.param_groups] == [ADAMW.weight_decay, 0.0]
    for task in (NAMES[0], NAMES[1]):
        one.prepare(optimiser, {task: [torch.tensor(1.0)]})
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimiser.step()
    (beta1, _), state = ADAMW.betas, optimiser.state[model[0].weight]  # type: ignore[index]
    # First alone, with s = 1, then as one of two tasks, with s = 1/2.
    expected = torch.full((4, 3), beta1 * (1 - beta1) + 2 * (1 - beta1), dtype=torch.float64)
    torch.testing.assert_close(state["exp_avg"], expected)
    assert state["touched_K"].tolist() == [1.0, 1.0]
