"""GradNorm, against autograd of its loss."""

import numpy as np
import pytest
import torch

from tests.balancing import NAMES, flat, gradients_of, method, updated, vectors


def test_weights_learn_along_the_formula() -> None:
    one = method("gradnorm", lr=0.1, restoring=0.7)
    w_K = torch.ones(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([w_K], lr=0.1)
    losses_TK = np.random.default_rng(1).uniform(0.5, 2.0, (6, 3))
    for step, losses_K in enumerate(losses_TK):
        vectors_KP = vectors(3, step)
        gradients = gradients_of(vectors_KP)
        expected_P = (w_K.detach().numpy()[:, None] * vectors_KP).mean(axis=0)
        np.testing.assert_allclose(flat(one.combine(gradients, step)), expected_P, rtol=1e-9)
        one.after_step(updated(losses_K.tolist(), gradients=gradients))
        lengths_K = w_K * torch.tensor(vectors_KP).norm(dim=1)
        rates_K = torch.tensor(losses_K / losses_TK[0])
        aims_K = lengths_K.mean() * (rates_K / rates_K.mean()) ** 0.7
        adam.zero_grad()
        (lengths_K - aims_K.detach()).abs().sum().backward()
        adam.step()
        with torch.no_grad():
            w_K.clamp_(min=1e-3).mul_(3 / w_K.sum())
        assert list(one.shown().values()) == pytest.approx(w_K.tolist(), rel=1e-7)
    assert max(one.shown().values()) > 1.1


def test_it_brings_lengths_together() -> None:
    one = method("gradnorm", tasks=2, lr=0.05, restoring=0.0)
    gradients = gradients_of(np.array([[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))
    for _ in range(200):
        one.after_step(updated([1.0, 1.0], gradients=gradients))
    assert one.shown() == pytest.approx({"reading": 0.5, "seeing": 1.5}, abs=0.1)


def test_a_step_of_one_task_teaches_nothing() -> None:
    one = method("gradnorm")
    one.after_step(updated([2.0], gradients=gradients_of(vectors(1))))
    assert one.shown() == dict.fromkeys(NAMES[:3], 1.0)
    assert float(one.state()["first/reading"]) == 2.0  # but this is its first loss
