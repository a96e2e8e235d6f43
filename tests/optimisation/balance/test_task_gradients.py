"""The tasks' gradients: inner products, sums, and how backward passes are kept apart."""

import numpy as np
import pytest
import torch
from torch import nn

from tests.balancing import conflicting, flat, gradients_of
from uniperceiver.optimisation.balance.task_gradients import GradientKeeper, TaskGradients


def test_inner_products_are_those_of_the_whole_vectors() -> None:
    vectors_KP = conflicting(3)
    found = gradients_of(vectors_KP)
    np.testing.assert_allclose(found.gram_KK, vectors_KP @ vectors_KP.T, rtol=1e-12)
    np.testing.assert_allclose(found.norms_K, np.linalg.norm(vectors_KP, axis=1), rtol=1e-12)
    assert found.gram_KK.min() < 0
    assert found.finite


def test_what_a_task_does_not_touch_counts_as_zero() -> None:
    one = {"a": torch.tensor([1.0, 2.0])}
    other = {"a": torch.tensor([3.0, -1.0]), "b": torch.tensor([[5.0]])}
    third = {"c": torch.tensor(7.0)}
    found = TaskGradients(by_task={"one": one, "other": other, "third": third})
    np.testing.assert_allclose(found.gram_KK, [[5.0, 1.0, 0.0], [1.0, 35.0, 0.0], [0.0, 0.0, 49.0]])
    total = found.mixed({"one": 2.0, "other": -1.0, "third": 0.5})
    expected = {"a": torch.tensor([-1.0, 5.0]), "b": torch.tensor([[-5.0]]), "c": torch.tensor(3.5)}
    assert total.keys() == expected.keys()
    assert all(torch.equal(total[name], each) for name, each in expected.items())
    assert torch.equal(one["a"], torch.tensor([1.0, 2.0]))


def test_a_sum_is_weighted() -> None:
    vectors_KP = conflicting(3)
    found = gradients_of(vectors_KP)
    weights_K = np.array([0.3, -2.0, 1.1])
    total = found.mixed(dict(zip(found.tasks, weights_K, strict=True)))
    np.testing.assert_allclose(flat(total), weights_K @ vectors_KP)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_is_seen(value: float) -> None:
    vectors_KP = conflicting(2)
    vectors_KP[1, 3] = value
    assert not gradients_of(vectors_KP).finite


def test_backward_passes_are_kept_apart_without_a_copy() -> None:
    torch.manual_seed(0)
    model, x_BD = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)), torch.randn(5, 3)
    keeper = GradientKeeper(model, "abc")
    pointers = []
    for task, part in (("a", 0), ("b", 1), ("a", 2)):
        with keeper.of(task):
            (model(x_BD[part : part + 3]) ** 2).mean().backward()
            if task == "a":
                pointers.append(model[0].weight.grad.data_ptr())
        assert all(each.grad is None for each in model.parameters())
    with keeper.of("c"):
        model[0](x_BD).sum().backward()
    found = keeper.gradients(scale=1.0)
    assert found.tasks == ("a", "b", "c")
    assert set(found.by_task["c"]) == {"0.weight", "0.bias"}
    # torch adds later gradients in place: there is one tensor for each task and parameter, wherever it was.
    assert pointers == [found.by_task["a"]["0.weight"].data_ptr()] * 2
    names, parameters = zip(*model.named_parameters(), strict=True)
    for task, starts in (("a", (0, 2)), ("b", (1,))):
        loss = sum(((model(x_BD[start : start + 3]) ** 2).mean() for start in starts), start=torch.zeros(()))
        expected = dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))
        for name, each in found.by_task[task].items():
            torch.testing.assert_close(each, expected[name])


def test_a_task_without_a_batch_here_has_its_place() -> None:
    """As in a process to which no batch of the task was dealt."""
    model = nn.Linear(2, 1)
    keeper = GradientKeeper(model, ["elsewhere", "here"])
    with keeper.of("here"):
        model(torch.ones(1, 2)).sum().backward()
    gradients = keeper.gradients(scale=1.0)
    assert gradients.tasks == ("elsewhere", "here")
    np.testing.assert_array_equal(gradients.gram_KK, [[0.0, 0.0], [0.0, 3.0]])
    assert gradients.finite


def test_gradients_are_copied_out_of_memory_that_is_used_again() -> None:
    """As DDP's are, whose buckets the next backward pass fills anew."""
    model, bucket = nn.Linear(2, 1), torch.zeros(3)
    keeper = GradientKeeper(model, ["a", "b"])
    for number, task in enumerate("ab"):
        with keeper.of(task):
            bucket.fill_(number + 1.0)
            model.weight.grad, model.bias.grad = bucket[:2].view(1, 2), bucket[2:]
    by_task = keeper.gradients(scale=1.0).by_task
    assert {task: by_task[task]["weight"].tolist() for task in "ab"} == {"a": [[1.0, 1.0]], "b": [[2.0, 2.0]]}


def test_scaled_losses_are_scaled_back() -> None:
    model = nn.Linear(2, 1)
    plain, scaled = GradientKeeper(model, ["a"]), GradientKeeper(model, ["a"])
    for keeper, scale in ((plain, 1.0), (scaled, 1024.0)):
        with keeper.of("a"):
            (model(torch.ones(1, 2)).sum() * scale).backward()
    found = scaled.gradients(scale=1024.0)
    expected = plain.gradients(scale=1.0)
    assert all(torch.equal(found.by_task["a"][name], each) for name, each in expected.by_task["a"].items())
    scaled.put(found.mixed({"a": 3.0}), scale=1024.0)
    assert torch.equal(model.weight.grad, 3072.0 * expected.by_task["a"]["weight"])  # type: ignore[arg-type]
