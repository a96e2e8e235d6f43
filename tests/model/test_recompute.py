"""Activation checkpointing: the same values and gradients, bit for bit, whatever is drawn on the way.

Shape suffixes: B sequences, N tokens, D width.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.moe_cases import IN_CAPTIONS, KINDS, ROUTINGS, inputs_of, moe_model
from tests.small_run import assert_same, small_recipe, train
from tests.tiny import tiny_model
from uniperceiver.model.architecture import PromptShape
from uniperceiver.model.model import Generalist
from uniperceiver.moe.context import ForwardContext
from uniperceiver.records import Segment, Sequences
from uniperceiver.streams import torch_stream

DENSE = "dense"


def model_of(routing: str, **arch: Any) -> Generalist:
    return (
        tiny_model(drop_path=0.3, **arch) if routing == DENSE else moe_model(routing, arch={"drop_path": 0.3, **arch})
    )


def results(model: Generalist, inputs: Sequences, *, summary: bool, recompute: bool) -> Iterator[tuple[str, Tensor]]:
    """Outputs, what is left in the stream, and gradients of a loss of the outputs and of all gates."""
    model.encoder.recompute = recompute
    model.zero_grad()
    stream = torch_stream(3)
    encoded = model.encode(inputs, stream, summary=summary)
    loss = (encoded.x_BND[:, 0] * torch.randn(encoded.x_BND[:, 0].shape, generator=torch_stream(4))).sum()
    for decision in encoded.decisions:
        loss = loss + decision.probability_TE.square().sum() + decision.logit_TE.logsumexp(dim=1).square().sum()
    loss.backward()
    yield "outputs", encoded.x_BND.detach()
    yield "decisions", torch.tensor(len(encoded.decisions))
    yield "stream", stream.get_state()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            yield name, parameter.grad


def assert_equal(model: Generalist, inputs: Sequences, *, summary: bool) -> None:
    plain = dict(results(model, inputs, summary=summary, recompute=False))
    again = dict(results(model, inputs, summary=summary, recompute=True))
    assert len(plain) > 10
    assert plain.keys() == again.keys()
    assert [name for name, value in plain.items() if not torch.equal(value, again[name])] == []


CASES = [
    (routing, kind)
    for routing in (DENSE, *ROUTINGS)
    for kind in KINDS
    if routing in (DENSE, *IN_CAPTIONS) or kind != "image_captioning"
]


@pytest.mark.parametrize("summary", [False, True])
@pytest.mark.parametrize(("routing", "kind"), CASES)
def test_nothing_changes(routing: str, kind: str, summary: bool) -> None:
    assert_equal(model_of(routing), inputs_of(kind), summary=summary)


@pytest.mark.parametrize("routing", [DENSE, "attribute"])
def test_nothing_changes_beside_prompts(routing: str) -> None:
    model = model_of(routing, prompts=PromptShape(vectors=3))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("prompts.") or "norm" in name)
    assert_equal(model, inputs_of("vqa"), summary=True)


def test_every_layer_is_computed_again_and_only_for_gradients() -> None:
    model, calls = model_of("token"), list[nn.Module]()
    for block in model.encoder.blocks:
        block.register_forward_pre_hook(lambda module, given: calls.append(module))
    dict(results(model, inputs_of("vqa"), summary=False, recompute=True))
    assert len(calls) == 2 * len(model.encoder.blocks)
    calls.clear()
    with torch.no_grad():
        model.encode(inputs_of("vqa"))
    assert len(calls) == len(model.encoder.blocks)


def test_a_twin_shares_nothing_that_changes() -> None:
    segment = Segment(start=0, stop=2, kind="text", causal=False, facts=inputs_of("vqa").facts)
    context = ForwardContext(
        sequences=3, length=2, segments=(segment,), device=torch.device("cpu"), stream=torch_stream(0)
    )
    twin = context.twin()
    assert twin.stream is not None
    assert context.stream is not None
    assert torch.equal(torch.rand(4, generator=twin.stream), torch.rand(4, generator=context.stream))
    for name in ("decisions", "pooled"):
        assert getattr(twin, name) is not getattr(context, name)


def test_the_gradient_can_be_had_twice() -> None:
    model = model_of("token")
    model.encoder.recompute = True
    loss = model.encode(inputs_of("vqa"), torch_stream(3)).x_BND.square().sum()
    weights = list(model.encoder.parameters())
    first, second = (torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


@pytest.mark.parametrize("condition", ["shared", "attribute", "token"])
def test_a_run_comes_to_the_same_weights(tmp_path: Path, condition: str) -> None:
    changes: dict[str, Any] = {"moe": {"condition": condition}, "optimiser__precision": "bfloat16"}
    tasks = ("colours", "captions", "words")
    plain = train(tmp_path / "plain", small_recipe(tasks, **changes))
    again = train(tmp_path / "again", small_recipe(tasks, **changes, optimiser__recompute=True), stop_after=2)
    assert again.state.model.encoder.recompute
    again = train(tmp_path / "again", small_recipe(tasks, **changes))  # a resumed run may change its mind
    assert_same(plain, again)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # of the tracer's own making
def test_compiled_blocks_are_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_module = nn.Module.compile  # traced as ever, but run as it is: kernels would take minutes

    def traced(self: nn.Module, **options: Any) -> None:
        compile_module(self, backend="eager", **options)

    monkeypatch.setattr(nn.Module, "compile", traced)
    changes: dict[str, Any] = {"steps": 1, "moe": {"condition": "token"}}
    plain = train(tmp_path / "plain", small_recipe(**changes))
    both = train(tmp_path / "both", small_recipe(**changes, optimiser__compile=True, optimiser__recompute=True))
    for one, other in zip(plain.state.model.parameters(), both.state.model.parameters(), strict=True):
        torch.testing.assert_close(one, other)
