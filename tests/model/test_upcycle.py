"""A dense model becomes one with experts, and answers as before."""

from dataclasses import replace

import pytest
import torch

from tests.tiny import tiny_architecture, tiny_batch, tiny_codec, tiny_model
from uniperceiver.config import MoEConfig
from uniperceiver.errors import UserError
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.model.upcycle import dense_name, refuse_other_outputs, upcycled
from uniperceiver.moe.conditions import CONDITIONS
from uniperceiver.moe.settings import MoE
from uniperceiver.runs.architecture import experts
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.candidates import vocabulary_sequences
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES

TASKS = ("image_classification", "text_classification", "masked_language_modelling", "video_captioning")
LAYERS = 2


def settings(condition: str, **keys: object) -> MoE:
    return experts(MoEConfig(**{"condition": condition, "experts": 3, **keys}), LAYERS, len(TASKS))  # type: ignore[arg-type]


def model_from(dense: Generalist, moe: MoE, noise: float = 0.0, seed: int = 0) -> Generalist:
    model = build(tiny_architecture(moe=moe), TEMPERATURES, torch_stream(seed, "other weights"))
    stream = torch_stream(seed, "upcycling")
    model.load_state_dict(upcycled(model.state_dict(), dense.state_dict(), noise, stream))
    return model


def outputs(model: Generalist, tasks: tuple[str, ...] = TASKS) -> list[torch.Tensor]:
    """Every valid token of inputs of several kinds, and vocabulary words as candidates."""
    found = []
    for index, name in enumerate(tasks):
        inputs = replace(tiny_batch(name).inputs, facts=CATALOGUE[name].facts("input", index))
        encoded = model.encode(inputs)
        valid_BN = torch.ones(encoded.x_BND.shape[:2], dtype=torch.bool)
        if inputs.text is not None and inputs.text.valid_BN is not None:
            valid_BN[:, -inputs.text.valid_BN.shape[1] :] = inputs.text.valid_BN
            assert not valid_BN.all() or name == "video_captioning"
        found.append(encoded.x_BND[valid_BN])
        words = vocabulary_sequences(torch.arange(9), CATALOGUE[name].facts("candidate", index), tiny_codec().end)
        found.append(model.encode(words).x_BND)
    return found


@pytest.mark.parametrize(
    "keys",
    [{}, {"k": 3}, {"gates": "linear", "layers": [1]}, {"where": "ffn"}, {"where": "ffn", "level": "ffn"}],
    ids=str,
)
@pytest.mark.parametrize("condition", [name for name in CONDITIONS if name != "expert_choice"])
@torch.no_grad()
def test_outputs_are_those_of_the_dense_model(condition: str, keys: dict[str, object]) -> None:
    dense, moe = tiny_model(), settings(condition, **keys)
    refuse_other_outputs(moe)
    model, other = model_from(dense, moe), build(tiny_architecture(moe=moe), TEMPERATURES, torch_stream(0))
    for ours, theirs, drawn in zip(outputs(model), outputs(dense), outputs(other), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
        assert float((drawn - theirs).abs().max()) > 0.1


@pytest.mark.parametrize(
    ("condition", "keys", "message"),
    [
        ("expert_choice", {}, "cannot begin with moe.condition=expert_choice: .*; use moe.condition=token"),
        ("attribute", {"k": 1}, "cannot begin with moe.k=1: .*the probability of the only expert.*; use moe.k=2"),
        ("token", {"renormalise": False}, "cannot begin with moe.renormalise=false: .*; leave the key out"),
    ],
)
@torch.no_grad()
def test_settings_that_change_the_outputs_are_refused(condition: str, keys: dict[str, object], message: str) -> None:
    moe, dense = settings(condition, **keys), tiny_model()
    with pytest.raises(UserError, match=f"^model.start: a dense model {message}$"):
        refuse_other_outputs(moe)
    tasks = TASKS[:3]  # expert choice refuses causal text
    pairs = zip(outputs(model_from(dense, moe), tasks), outputs(dense, tasks), strict=True)
    assert max(float((ours - theirs).abs().max()) for ours, theirs in pairs) > 0.1  # the reason is true


def test_only_matrices_of_experts_get_noise_and_gates_stay_fresh() -> None:
    dense, moe = tiny_model(width=64, ffn=128, heads=4), settings("attribute", layers=[1])
    fresh = build(tiny_architecture(moe=moe, width=64, ffn=128, heads=4), TEMPERATURES, torch_stream(3)).state_dict()
    weights, old = upcycled(fresh, dense.state_dict(), 0.2, torch_stream(0)), dense.state_dict()
    again, other = (upcycled(fresh, old, 0.2, torch_stream(seed)) for seed in (0, 1))
    noisy = 0
    for name, value in weights.items():
        if ".router." in name:
            assert torch.equal(value, fresh[name]), name
        elif dense_name(name) == name or value.ndim == 1:
            assert torch.equal(value, old[dense_name(name)]), name
        else:
            noisy += 1
            noise = value - old[dense_name(name)]
            assert float(noise.std() / old[dense_name(name)].std()) == pytest.approx(0.2, rel=0.05), name
            assert not torch.equal(value, other[name])
        assert torch.equal(value, again[name]), name
    assert noisy == 4 * moe.experts
    first, second = (weights[f"encoder.blocks.1.attention.qkv.experts.{each}.weight"] for each in (0, 1))
    assert float((first - second).std() / first.std()) > 0.2
    assert not any(".experts." in name for name in weights if "blocks.0" in name)


def test_copies_share_no_memory() -> None:
    dense = tiny_model().state_dict()
    fresh = build(tiny_architecture(moe=settings("token")), TEMPERATURES).state_dict()
    weights = upcycled(fresh, dense, 0.0, torch_stream(0))
    weights["encoder.blocks.0.ffn.linear1.experts.0.weight"].zero_()
    assert weights["encoder.blocks.0.ffn.linear1.experts.1.weight"].any()
    assert dense["encoder.blocks.0.ffn.linear1.weight"].any()


def test_weights_of_another_size_are_refused() -> None:
    fresh = build(tiny_architecture(moe=settings("token")), TEMPERATURES).state_dict()
    for other in ({"width": 24}, {"layers": 3}, {"layers": 1}):
        with pytest.raises(UserError, match=r"model\.start: its weights do not fit"):
            upcycled(fresh, tiny_model(**other).state_dict(), 0.0, torch_stream(0))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_gates_of_equal_experts_get_no_gradient(noise: float) -> None:
    """Why there is noise to be had: weights that add up to 1 cannot change a sum of equal parts."""
    dense, moe = tiny_model(), settings("attribute", noise=0.0)
    model = model_from(dense, moe, noise)
    model.encode(tiny_batch("image_classification").inputs).x_BND.square().sum().backward()
    gates, rest = (
        sum(float(each.grad.norm()) for name, each in model.named_parameters() if each.grad is not None and found(name))
        for found in (lambda name: ".router." in name, lambda name: ".experts." in name)
    )
    assert (gates > 1e-4 * rest) == bool(noise)
