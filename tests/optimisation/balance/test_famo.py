"""FAMO, against autograd of its objective and of the softmax."""

import numpy as np
import pytest
import torch

from tests.balancing import NAMES, method, updated


def test_weights_and_their_learning_are_those_of_the_paper() -> None:
    one = method("famo", lr=0.1, decay=0.02)
    xi_K = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([xi_K], lr=0.1, weight_decay=0.02)
    rng = np.random.default_rng(0)
    for step in range(6):
        before_K = torch.tensor(rng.uniform(0.1, 3.0, 3), requires_grad=True)
        after_K = before_K.detach() * torch.tensor(rng.uniform(0.7, 1.1, 3))
        z_K = torch.softmax(xi_K, 0)
        scale = 1 / (z_K / before_K).sum().detach()
        (scale * z_K.detach() * before_K.log()).sum().backward()
        assert before_K.grad is not None
        losses = dict(zip(NAMES, before_K.tolist(), strict=False))
        found = one.weights(losses, step)
        assert list(found.values()) == pytest.approx((3 * before_K.grad).tolist(), rel=1e-9)  # ours have a mean of 1
        assert sum(found.values()) == pytest.approx(3.0)
        fallen_K = before_K.detach().log() - after_K.log()
        (xi_K.grad,) = torch.autograd.grad(torch.softmax(xi_K, 0), xi_K, grad_outputs=fallen_K)
        adam.step()
        one.after_step(updated(before_K.tolist(), after_K.tolist()))
        expected_K = 3 * torch.softmax(xi_K.detach(), 0)
        assert list(one.shown().values()) == pytest.approx(expected_K.tolist(), rel=1e-9)
    assert max(one.shown().values()) > 1.05


def test_the_task_that_falls_slowly_gains() -> None:
    one = method("famo", tasks=2)
    for _ in range(20):
        one.after_step(updated([1.0, 1.0], [0.99, 0.5]))
    assert one.shown()["reading"] > 1.2 > 0.8 > one.shown()["seeing"]


def test_only_the_tasks_of_the_step_share_it() -> None:
    one = method("famo")
    assert one.weights({"reading": 2.0, "a/b": 0.5}, 0) == pytest.approx({"reading": 0.4, "a/b": 1.6})
    one.after_step(updated([2.0, 2.0], [1.0, 2.0]))
    state = one.state()
    assert float(state["learnt/a/b"][0]) == 0.0
    assert float(state["learnt/reading"][0]) < 0 < float(state["learnt/seeing"][0])


def test_losses_after_an_update_that_are_not_finite_teach_nothing() -> None:
    one = method("famo", tasks=2)
    one.after_step(updated([1.0, 1.0], [float("nan"), 0.5]))
    one.after_step(updated([1.0, 1.0], [float("inf"), 0.5]))
    assert one.shown() == pytest.approx({"reading": 1.0, "seeing": 1.0})


def test_a_loss_of_zero_is_no_error() -> None:
    one = method("famo", tasks=2)
    assert sum(one.weights({"reading": 0.0, "seeing": 1.0}, 0).values()) == pytest.approx(2.0)
    one.after_step(updated([1.0, 0.0], [0.0, 1.0]))
