"""Weights are read in the forward of the module that owns them, so each owner may be sharded as one unit.

Stands in for FSDP: the parameters of a unit hold NaN but for the time of its forward. All of them are there in the
backward pass.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.merging import routed_and_merged
from tests.model.test_moe_generation import ANSWER, WORDS, pictures, writer
from tests.moe_cases import ROUTINGS, inputs_of, moe_model
from uniperceiver.model.encoder import Block
from uniperceiver.model.model import Generalist
from uniperceiver.moe.layer import ExpertFeedForward, ExpertLinear, Linear
from uniperceiver.moe.merged_blocks import MergedFeedForward
from uniperceiver.moe.segment_router import SegmentRouter
from uniperceiver.moe.token_router import AttentionPool, TokenGate
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.decode import prefix_with_query

UNITS: dict[str, tuple[type[nn.Module], ...]] = {
    "blocks": (Block,),
    "owners": (ExpertLinear, ExpertFeedForward, SegmentRouter, TokenGate, AttentionPool, Linear, MergedFeedForward),
}
every_unit = pytest.mark.parametrize("unit", UNITS)


@contextmanager
def held_by_units(model: nn.Module, kinds: tuple[type[nn.Module], ...]) -> Iterator[int]:
    """Parameters of units of these kinds, each of the innermost unit that it is in, are there in its forward only."""
    units = [module for module in model.modules() if isinstance(module, kinds)]
    held: dict[nn.Module, list[tuple[nn.Parameter, Tensor]]] = {}
    taken: set[nn.Parameter] = set()
    for unit in reversed(units):  # inner ones come after those that they are in
        mine = [parameter for parameter in unit.parameters() if parameter not in taken]
        taken.update(mine)
        held[unit] = [(parameter, parameter.data) for parameter in mine]

    def bring(unit: nn.Module, *_: Any) -> None:
        for parameter, value in held[unit]:
            parameter.data = value

    def take(unit: nn.Module, *_: Any) -> None:
        for parameter, value in held[unit]:
            parameter.data = torch.full_like(value, torch.nan)

    handles = [unit.register_forward_pre_hook(bring) for unit in units]
    handles += [unit.register_forward_hook(take) for unit in units]
    for unit in units:
        take(unit)
    try:
        yield len(taken)
    finally:
        for handle in handles:
            handle.remove()
        for unit in units:
            bring(unit)


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


@every_unit
@pytest.mark.parametrize("settings", [{"gates": 2}, {"where": "ffn", "level": "ffn", "k": 1}], ids=["linears", "ffns"])
@pytest.mark.parametrize("condition", ROUTINGS)
@pytest.mark.parametrize("summary", [False, True])
def test_training_reads_weights_in_their_owners_forward(
    condition: str, settings: dict[str, Any], unit: str, summary: bool
) -> None:
    model = moe_model(condition, **settings)
    inputs = inputs_of("vqa")

    def encode() -> Tensor:
        return model.encode(inputs, torch_stream(3), summary=summary).x_BND[:, 0]

    expected = encode()
    expected.square().sum().backward()
    before = gradients(model)
    model.zero_grad()
    model.encoder.decide_ahead = False
    with held_by_units(model, UNITS[unit]) as parameters:
        again = encode()
    assert parameters > 8
    again.square().sum().backward()
    assert torch.equal(again, expected)
    after = gradients(model)
    assert after.keys() == before.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def words_of(model: Generalist) -> Tensor:
    """Outputs at the queries of a text that is written word by word."""
    cache, x_BD = model.begin(prefix_with_query(pictures(2), ANSWER), WORDS)
    words = [model.extend(cache, torch.tensor([1, place]), place) for place in (1, 2)]
    return torch.stack([x_BD, *words])


@every_unit
@pytest.mark.parametrize("condition", ["attribute", "task_specific", "token", "context"])
@torch.no_grad()
def test_generation_reads_weights_in_their_owners_forward(condition: str, unit: str) -> None:
    model = writer(condition)
    expected = words_of(model)
    model.encoder.decide_ahead = False
    with held_by_units(model, UNITS[unit]):
        assert torch.equal(words_of(model), expected)


@every_unit
@torch.no_grad()
def test_a_merged_model_reads_weights_in_their_owners_forward(unit: str) -> None:
    _, merging = routed_and_merged(condition="attribute")
    expected = merging.model.encode(inputs_of("vqa", 0)).x_BND
    with held_by_units(merging.model, UNITS[unit]):
        assert torch.equal(merging.model.encode(inputs_of("vqa", 0)).x_BND, expected)


def test_a_weight_that_is_read_elsewhere_is_noticed() -> None:
    class Thief(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate = TokenGate(4, 2, selection_bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.gate.linear.weight.mT

    model: Callable[[Tensor], Tensor] = Thief()
    with held_by_units(model, UNITS["owners"]):  # type: ignore[arg-type]
        assert bool(model(torch.ones(1, 4)).isnan().all())
