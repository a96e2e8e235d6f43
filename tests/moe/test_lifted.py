"""Mixtures for anybody's model: values and gradients are those of every expert on every token, tags choose as said.

Shape suffixes: T tokens, E experts, N tokens of a sequence, Y entries of a tag.
"""

import copy
import doctest
import multiprocessing.reduction
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from uniperceiver.errors import UserError
from uniperceiver.moe import MixtureFeedForward, MixtureLinear, MixtureRouter, Routing, lifted
from uniperceiver.moe.balance import switch, z
from uniperceiver.moe.kernels.plain import plain
from uniperceiver.streams import torch_stream

WIDTH, OUTPUTS, EXPERTS = 8, 6, 4
NUMBERS = torch.tensor([[0, 2, 2, 1, 0], [1, 1, 0, 0, 0], [2, 0, 1, 2, 0]])
BITS = torch.tensor([[1, 0, 0, 1, 1, 0, 0, 1], [0, 1, 1, 0, 0, 1, 1, 0], [1, 0, 0, 1, 1, 0, 0, 1]])[
    NUMBERS.clamp(max=2)
]
VALID = torch.tensor([[True] * 5, [True, True, True, False, False], [True] * 5])
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "task": ({"condition": "task", "tags": 3}, {"tags": NUMBERS}),
    "task, k=1": ({"condition": "task", "tags": 3, "k": 1}, {"tags": NUMBERS}),
    "modality of a place": ({"condition": "modality"}, {"tags": [0, 0, 1, 1, 1]}),
    "one tag": ({"condition": "task", "tags": 2}, {"tags": 1}),
    "attribute": ({"condition": "attribute"}, {"tags": BITS}),
    "own attributes": ({"condition": "attribute", "tags": 2}, {"tags": BITS[..., :2]}),
    "token": ({"condition": "token"}, {}),
    "token, padded": ({"condition": "token"}, {"valid": VALID}),
    "token, k=1": ({"condition": "token", "k": 1}, {"valid": VALID}),
    "context": ({"condition": "context", "heads": 2}, {"valid": VALID}),
    "expert choice": ({"condition": "expert_choice"}, {"valid": VALID}),
    "capacity": ({"condition": "token", "evaluation_capacity": 0.5}, {}),
}
every_case = pytest.mark.parametrize("name", CASES)


def tokens() -> Tensor:
    return torch.randn(3, 5, WIDTH, generator=torch_stream(0, "x"))


def drawn(module: nn.Module) -> Any:
    """In evaluation, with parameters that are always the same."""
    stream = torch_stream(0, "weights")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(-0.7, 0.7, generator=stream)
    return module.eval()


def plainly(routing: Routing, experts: Sequence[Callable[[Tensor], Tensor]], x: Tensor) -> Tensor:
    """Every expert on every token, weighted as decided."""
    return plain(x.flatten(0, -2), routing.weights.flatten(0, -2), experts).unflatten(0, x.shape[:-1])


def assert_same_values_and_gradients(
    module: nn.Module, fast: Callable[[Tensor], Tensor], slow: Callable[[Tensor], Tensor]
) -> None:
    results = []
    for compute in (fast, slow):
        module.zero_grad()
        x = tokens().requires_grad_()
        y = compute(x)
        (y * torch.randn(y.shape, generator=torch_stream(0, "dy"))).sum().backward()
        zeros = (
            (name, torch.zeros_like(each) if each.grad is None else each.grad)
            for name, each in module.named_parameters()
        )
        results.append({"y": y.detach(), "x": x.grad, **dict(zeros)})
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@every_case
def test_a_linear_is_the_plain_sum(name: str) -> None:
    settings, given = CASES[name]
    linear = drawn(MixtureLinear(WIDTH, OUTPUTS, experts=EXPERTS, **settings))
    assert_same_values_and_gradients(
        linear,
        lambda x: linear(x, **given),
        lambda x: plainly(linear.router(x, **given), linear.linear.experts, x),
    )


@every_case
@pytest.mark.parametrize("whole", [False, True])
def test_a_feed_forward_is_the_plain_sum(name: str, whole: bool) -> None:
    settings, given = CASES[name]
    ffn = drawn(MixtureFeedForward(WIDTH, OUTPUTS, experts=EXPERTS, whole=whole, **settings))

    def slow(x: Tensor) -> Tensor:
        routing = ffn.router(x, **given)
        if whole:
            return plainly(routing, ffn.experts, x)
        hidden = nn.functional.gelu(plainly(routing, ffn.linear1.experts, x))
        return plainly(routing, ffn.linear2.experts, hidden)

    assert_same_values_and_gradients(ffn, lambda x: ffn(x, **given), slow)


def test_tags_name_the_experts_where_nothing_is_decided() -> None:
    linear = drawn(MixtureLinear(WIDTH, OUTPUTS, experts=3, condition="task_specific", tags=3))
    x, y = tokens(), linear(tokens(), NUMBERS)
    for expert, single in enumerate(linear.linear.experts):
        torch.testing.assert_close(y[expert == NUMBERS], single(x)[expert == NUMBERS])
    routing = linear.router(x, NUMBERS)
    assert float(routing.balance_loss()) == 0.0
    with pytest.raises(UserError, match="named by their tags; there are no weights"):
        _ = routing.weights
    with pytest.raises(UserError, match="use as many experts as tags"):
        MixtureLinear(WIDTH, OUTPUTS, experts=4, condition="task_specific", tags=3)


def test_equal_tags_have_equal_weights_and_others_have_others() -> None:
    router = drawn(MixtureRouter(WIDTH, experts=EXPERTS, condition="task", tags=3))
    weights = router(tokens(), NUMBERS).weights
    rows = [weights[tag == NUMBERS].unique(dim=0) for tag in range(3)]
    assert [len(row) for row in rows] == [1, 1, 1]
    assert len(torch.cat(rows).unique(dim=0)) > 1


@pytest.mark.parametrize("where", [{"condition": "token"}, {"condition": "task", "tags": 3}])
def test_weights_are_divided_by_their_sum_unless_the_caller_says_otherwise(where: dict[str, Any]) -> None:
    tags = NUMBERS if "tags" in where else None
    usual, raw = (
        drawn(MixtureRouter(WIDTH, experts=EXPERTS, **where, **settings))(tokens(), tags)
        for settings in ({}, {"renormalise": False})
    )
    torch.testing.assert_close(usual.weights.sum(dim=-1), torch.ones(3, 5))
    assert bool((raw.weights.sum(dim=-1) < 0.99).all())  # two of four probabilities
    torch.testing.assert_close(raw.weights / raw.weights.sum(dim=-1, keepdim=True), usual.weights)
    with pytest.raises(UserError, match=r"moe\.renormalise: with k=1"):
        MixtureRouter(WIDTH, k=1, renormalise=True, **where)


@pytest.mark.parametrize("shape", [(5, WIDTH), (2, 5, WIDTH), (2, 3, 5, WIDTH)])
@pytest.mark.parametrize(
    ("settings", "tags"), [({"condition": "token"}, None), ({"condition": "task", "tags": 2}, [0, 1, 0, 1, 1])]
)
def test_any_number_of_leading_dimensions(shape: tuple[int, ...], settings: dict[str, Any], tags: Any) -> None:
    linear, x = drawn(MixtureLinear(WIDTH, OUTPUTS, experts=EXPERTS, **settings)), torch.randn(shape)
    y = linear(x, tags)
    assert y.shape == (*shape[:-1], OUTPUTS)
    torch.testing.assert_close(y.reshape(-1, 5, OUTPUTS)[0], linear(x.reshape(-1, 5, WIDTH)[0], tags))


def test_a_decision_may_serve_several_linears_and_tells_its_balance() -> None:
    first, second = (drawn(MixtureLinear(WIDTH, OUTPUTS, experts=EXPERTS)) for _ in range(2))
    x = tokens()
    routing = first.router(x)
    assert torch.equal(first(x, routing=routing), first(x))
    torch.testing.assert_close(second(x, routing=routing), plainly(routing, second.linear.experts, x))
    assert routing.decision is not None
    torch.testing.assert_close(routing.balance_loss(switch=0.5), 0.5 * switch(routing.decision))
    assert bool(routing.balance_loss(switch=0.5, z=0.1) > routing.balance_loss(switch=0.5))
    torch.testing.assert_close(routing.balance_loss(z=0.1), 0.1 * z(routing.decision))  # and nothing else
    torch.testing.assert_close(routing.balance_loss(), 0.01 * switch(routing.decision))
    routing.balance_loss().backward()
    assert first.router.router.gates[0].linear.weight.grad is not None


def test_noise_is_drawn_in_training_only() -> None:
    linear, x = drawn(MixtureLinear(WIDTH, OUTPUTS, experts=EXPERTS, noise=8.0)), tokens()
    assert torch.equal(linear(x), linear(x))
    linear.train()
    torch.manual_seed(1)
    noisy = linear(x)
    assert not torch.equal(noisy, linear(x))
    torch.manual_seed(1)
    assert torch.equal(noisy, linear(x))


@pytest.mark.parametrize(
    ("settings", "tags", "line"),
    [
        ({"condition": "token"}, [0, 0, 0, 0, 0], "tags: needed by a condition that looks at tags, and by no other"),
        ({"condition": "task", "tags": 3}, None, "tags: needed by a condition that looks at tags, and by no other"),
        ({"condition": "task", "tags": 3}, [0, 1, 2, 3, 0], "tags: from 0 to 3, but they are 0 to 2"),
        ({"condition": "task", "tags": 3}, -1, "tags: from -1 to -1, but they are 0 to 2"),
    ],
)
def test_wrong_tags_are_one_line(settings: dict[str, Any], tags: Any, line: str) -> None:
    with pytest.raises(UserError) as caught:
        MixtureLinear(WIDTH, OUTPUTS, experts=EXPERTS, **settings)(tokens(), tags)
    assert str(caught.value) == line


def test_impossible_settings_are_refused() -> None:
    with pytest.raises(UserError, match=r"moe.k 5 is more than moe.experts 4"):
        MixtureLinear(WIDTH, OUTPUTS, experts=4, k=5)
    with pytest.raises(UserError, match=r"did you mean 'token'"):
        MixtureRouter(WIDTH, condition="tokens")


def test_the_examples_of_the_docstrings_run() -> None:
    results = doctest.testmod(lifted)
    assert (results.failed, results.attempted > 8) == (0, True)


@every_case
def test_a_copy_computes_the_same_wherever_it_was_sent(name: str) -> None:
    settings, given = CASES[name]
    linear = drawn(MixtureLinear(WIDTH, OUTPUTS, experts=EXPERTS, **settings))
    for copied in (copy.deepcopy(linear), multiprocessing.reduction.ForkingPickler.loads(pickled(linear))):
        assert torch.equal(copied(tokens(), **given), linear(tokens(), **given))


def pickled(module: nn.Module) -> memoryview:
    """As it goes to another process."""
    return multiprocessing.reduction.ForkingPickler.dumps(module)


@pytest.mark.parametrize("condition", ["token", "context", "expert_choice"])
def test_padding_is_not_routed_and_decides_nothing(condition: str) -> None:
    router = drawn(MixtureRouter(WIDTH, experts=EXPERTS, condition=condition))
    x, other = tokens(), tokens()
    other[~VALID] = 100.0
    first, second = router(x, valid=VALID), router(other, valid=VALID)
    assert not first.weights[~VALID].any()
    assert bool((first.weights[VALID].sum(dim=-1) > 0).any())
    torch.testing.assert_close(second.weights[VALID], first.weights[VALID])
