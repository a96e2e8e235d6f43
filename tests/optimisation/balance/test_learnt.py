"""Learnt weights: Adam against torch's; uncertainty weighting, GradNorm and FAMO against autograd of their formulas."""

import math

import numpy as np
import pytest
import torch

from tests.balancing import NAMES, flat, gradients_of, method, updated, vectors
from uniperceiver.optimisation.balance.learnt import Learnt

STEPS = [{"a": 0.5, "b": -1.0}, {"a": -0.25}, {"a": 3.0}, {"b": 0.1}, {}, {"a": 0.5, "b": 0.7}]


def test_numbers_are_learnt_as_by_torch_s_adam() -> None:
    learnt = Learnt({"a": 1.0, "b": -2.0}, lr=0.1, decay=0.3)
    parameters = {"a": torch.tensor(1.0, dtype=torch.float64), "b": torch.tensor(-2.0, dtype=torch.float64)}
    adam = torch.optim.Adam(list(parameters.values()), lr=0.1, weight_decay=0.3)
    for gradients in STEPS:
        learnt.descend(gradients)
        for task, parameter in parameters.items():
            parameter.grad = torch.tensor(gradients[task], dtype=torch.float64) if task in gradients else None
        adam.step()
        assert learnt.values == pytest.approx({task: float(each) for task, each in parameters.items()}, rel=1e-12)


def test_learning_goes_on_from_its_state() -> None:
    whole, other = (Learnt({"a": 1.0, "b/c": 0.0}, lr=0.1, decay=0.01) for _ in range(2))
    for gradients in ({"a": 1.0, "b/c": 2.0}, {"a": -3.0}):
        whole.descend(gradients)
    other.load({name: each.clone() for name, each in whole.state().items()})
    for one in (whole, other):
        one.descend({"a": 0.3, "b/c": -0.2})
    assert whole.values == other.values
    assert whole.values != {"a": 1.0, "b/c": 0.0}


def test_uncertainty_learns_as_its_formula_says() -> None:
    one = method("uncertainty", lr=0.05)
    assert one.weights({}, 0) == pytest.approx(dict.fromkeys(NAMES[:3], 1.0))
    s_K = torch.full((3,), -math.log(2.0), dtype=torch.float64, requires_grad=True)
    adam = torch.optim.Adam([s_K], lr=0.05)
    for step in range(5):
        losses_K = torch.tensor([3.0, 0.1, 0.7], dtype=torch.float64) / (step + 1)
        losses_K.requires_grad_()
        adam.zero_grad()
        (losses_K / (2 * s_K.exp()) + s_K / 2).sum().backward()
        assert losses_K.grad is not None
        assert list(one.weights({}, step).values()) == pytest.approx(losses_K.grad.tolist(), rel=1e-9)
        adam.step()
        one.after_step(updated(losses_K.tolist()))
    assert one.shown()["seeing"] > 1 > one.shown()["reading"]  # a small loss, and a large one


def test_a_task_that_is_not_drawn_keeps_its_weight() -> None:
    one = method("uncertainty")
    one.after_step(updated([3.0]))
    assert one.shown()["reading"] < 1
    assert one.shown()["seeing"] == pytest.approx(1.0)


def test_gradnorm_learns_along_its_formula() -> None:
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


def test_gradnorm_never_turns_a_loss_round() -> None:
    one = method("gradnorm", tasks=2, lr=2.0, restoring=0.0)
    one.after_step(updated([1.0, 1.0], gradients=gradients_of(np.array([[3.0, 0.0], [0.0, 1.0]]))))
    # Adam's first step is as long as its learning rate, down for the longer gradient: 1 - 2 becomes 0.001.
    assert one.shown() == pytest.approx({"reading": 0.002 / 3.001, "seeing": 6 / 3.001})


def test_gradnorm_brings_lengths_together() -> None:
    one = method("gradnorm", tasks=2, lr=0.05, restoring=0.0)
    gradients = gradients_of(np.array([[3.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]))
    for _ in range(200):
        one.after_step(updated([1.0, 1.0], gradients=gradients))
    assert one.shown() == pytest.approx({"reading": 0.5, "seeing": 1.5}, abs=0.1)


def test_a_step_of_one_task_teaches_gradnorm_nothing() -> None:
    one = method("gradnorm")
    one.after_step(updated([2.0], gradients=gradients_of(vectors(1))))
    assert one.shown() == dict.fromkeys(NAMES[:3], 1.0)
    assert float(one.state()["first/reading"]) == 2.0  # but this is its first loss


def test_famo_learns_as_its_paper_says() -> None:
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


def test_the_task_that_falls_slowly_gains_by_famo() -> None:
    one = method("famo", tasks=2)
    for _ in range(20):
        one.after_step(updated([1.0, 1.0], [0.99, 0.5]))
    assert one.shown()["reading"] > 1.2 > 0.8 > one.shown()["seeing"]


def test_only_the_tasks_of_the_step_share_famos_weights() -> None:
    one = method("famo")
    assert one.weights({"reading": 2.0, "a/b": 0.5}, 0) == pytest.approx({"reading": 0.4, "a/b": 1.6})
    one.after_step(updated([2.0, 2.0], [1.0, 2.0]))
    state = one.state()
    assert float(state["learnt/a/b"][0]) == 0.0
    assert float(state["learnt/reading"][0]) < 0 < float(state["learnt/seeing"][0])


def test_losses_after_an_update_that_are_not_finite_teach_famo_nothing() -> None:
    one = method("famo", tasks=2)
    one.after_step(updated([1.0, 1.0], [float("nan"), 0.5]))
    one.after_step(updated([1.0, 1.0], [float("inf"), 0.5]))
    assert one.shown() == pytest.approx({"reading": 1.0, "seeing": 1.0})


def test_a_loss_of_zero_is_no_error() -> None:
    one = method("famo", tasks=2)
    assert sum(one.weights({"reading": 0.0, "seeing": 1.0}, 0).values()) == pytest.approx(2.0)
    one.after_step(updated([1.0, 0.0], [0.0, 1.0]))
