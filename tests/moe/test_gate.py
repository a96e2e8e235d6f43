"""The gate: float32, noise in training only, and a gradient that reaches it through the task's loss alone.

Shape suffixes: T tokens or rows, B sequences, N tokens of a sequence, E experts, k choices, D width.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.moe_cases import inputs_of, moe_model
from tests.tiny import tiny_batch, tiny_candidates, tiny_task
from uniperceiver.model.model import Generalist
from uniperceiver.moe.gate import gate_weights, probabilities, top_k
from uniperceiver.records import Decision, to_device
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.ask import answer, loss_terms

GOLDEN = Path(__file__).parents[3] / "shared" / "official" / "golden" / "misc" / "numerics.safetensors"
ROUTED = ("token", "context", "attribute")


def logits(t: int = 9, e: int = 6) -> Tensor:
    return torch.randn(t, e, generator=torch_stream(0, "logits", t, e))


def test_noise_is_added_before_the_one_softmax_over_all_experts() -> None:
    logit_TE, noise_TE = logits(), 0.3 * logits().flip(0)
    noisy_TE, probability_TE = probabilities(logit_TE, noise_TE)
    assert torch.equal(noisy_TE, logit_TE + noise_TE)
    exponential_TE = noisy_TE.double().exp()
    torch.testing.assert_close(probability_TE.double(), exponential_TE / exponential_TE.sum(dim=1, keepdim=True))
    assert torch.equal(probabilities(logit_TE, None)[0], logit_TE)


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_the_likeliest_experts_are_chosen_and_weighted(k: int) -> None:
    probability_TE = logits().softmax(dim=1)
    expert_Tk = top_k(probability_TE, k)
    for p_E, expert_k in zip(probability_TE.tolist(), expert_Tk.tolist(), strict=True):
        assert expert_k == sorted(range(6), key=lambda e: -p_E[e])[:k]
    chosen_Tk = probability_TE.gather(1, expert_Tk)
    torch.testing.assert_close(gate_weights(probability_TE, expert_Tk, renormalise=False), chosen_Tk)
    weight_Tk = gate_weights(probability_TE, expert_Tk, renormalise=True)
    torch.testing.assert_close(weight_Tk, chosen_Tk / chosen_Tk.sum(dim=1, keepdim=True))
    torch.testing.assert_close(weight_Tk.sum(dim=1), torch.ones(9))


def test_with_all_experts_the_weights_are_the_softmax() -> None:
    probability_TE = logits().softmax(dim=1)
    expert_Tk = top_k(probability_TE, 6)
    for renormalise in (False, True):
        weight_TE = torch.zeros(9, 6).scatter(1, expert_Tk, gate_weights(probability_TE, expert_Tk, renormalise))
        torch.testing.assert_close(weight_TE, probability_TE)


def test_a_bias_moves_selection_and_no_weight() -> None:
    probability_TE = logits().softmax(dim=1)
    bias_E = torch.tensor([0.0, 0.0, 2.0, 0.0, 0.0, 0.0])
    expert_Tk = top_k(probability_TE, 2, bias_E)
    assert bool((expert_Tk[:, 0] == 2).all())
    assert torch.equal(expert_Tk[:, 1], probability_TE.index_fill(1, torch.tensor([2]), 0.0).argmax(dim=1))
    weight_Tk = gate_weights(probability_TE, expert_Tk, renormalise=False)
    assert torch.equal(weight_Tk, probability_TE.gather(1, expert_Tk))


@pytest.mark.parametrize("policy", ["None", "vmoe"])
@pytest.mark.parametrize("name", ["E8_rows2_k2_std1.0", "E8_rows1_k2_std2.0", "E4_rows2_k1_std1.0"])
def test_the_gate_of_the_original(name: str, policy: str) -> None:
    if not GOLDEN.is_file():
        pytest.skip("needs ../shared/official/golden/misc/numerics.safetensors")
    case = {key.rpartition(".")[2]: value for key, value in load_file(GOLDEN).items() if f"{name}.{policy}" in key}
    k = case["index"].shape[1]
    _, probability_TE = probabilities(case["logits"], case["noise"] if policy == "vmoe" else None)
    expert_Tk = top_k(probability_TE, k)
    assert torch.equal(expert_Tk, case["index"])
    torch.testing.assert_close(gate_weights(probability_TE, expert_Tk, renormalise=k > 1), case["weight"])


def routers(model: Generalist) -> Iterator[nn.Module]:
    for block in model.encoder.blocks:
        yield from (block.attention.router, block.ffn.router)


@pytest.mark.parametrize("condition", ROUTED)
def test_gates_compute_in_float32_under_autocast(condition: str) -> None:
    model, inputs, seen = moe_model(condition, gates=2), inputs_of("masked_language_modelling"), []
    for router in routers(model):
        router.register_forward_hook(lambda module, given, routes: seen.append(given))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        decisions = model.encode(inputs).decisions
    assert [x_TD.dtype for x_TD, _ in seen] == [torch.float32] * 4  # as LayerNorm gives it
    context = model.encoder._context_of(model.tokenizer(inputs), None, None)
    with torch.no_grad():
        for router, (x_TD, _) in zip(routers(model), seen, strict=True):
            router.forward(x_TD, context)
    assert len(decisions) == 8
    for found, plain in zip(decisions, context.decisions, strict=True):
        for name in ("logit_TE", "probability_TE", "weight_TE"):
            assert getattr(found, name).dtype == torch.float32
            torch.testing.assert_close(getattr(found, name), getattr(plain, name), atol=1e-6, rtol=1e-6)


def test_sixteen_bit_inputs_are_gated_in_float32() -> None:
    model, inputs = moe_model("token"), inputs_of("masked_language_modelling")
    tokens = model.tokenizer(inputs)
    router, context = model.encoder.blocks[0].attention.router, model.encoder._context_of(tokens, None, None)
    x_TD = context.pack(tokens.x_BND).bfloat16()
    with torch.no_grad():
        router(x_TD, context)
        expected_TE = x_TD.float() @ router.gates[0].linear.weight.t()
    assert context.decisions[0].logit_TE.dtype == torch.float32
    torch.testing.assert_close(context.decisions[0].logit_TE, expected_TE)


def task_gradients(model: Generalist, name: str) -> dict[str, Tensor]:
    """Gradients of a task's loss alone, by name."""
    task, batch = tiny_task(name), tiny_batch(name)
    candidates = tiny_candidates(task, batch)
    found = answer(model, task, to_device(batch, "cpu"), candidates, torch_stream(0, "noise"))
    loss = sum(loss_terms(task, found.logits_RK, batch.readout, candidates).values(), start=torch.zeros(()))
    loss.backward()
    return {key: each.grad for key, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("name", ["image_classification", "masked_language_modelling", "image_captioning"])
@pytest.mark.parametrize("k", [1, 2, 4])
@pytest.mark.parametrize("condition", ROUTED)
def test_the_task_alone_teaches_every_gate(condition: str, k: int, name: str) -> None:
    model = moe_model(condition, experts=8, k=k, gates=2, arch={"layer_scale": 1.0})
    with torch.no_grad():
        for block in model.encoder.blocks:
            block.scale1.fill_(1.0)
            block.scale2.fill_(1.0)
    gradients = task_gradients(model, name)
    for layer in range(2):
        experts = [each for key, each in gradients.items() if f"blocks.{layer}." in key and ".experts." in key]
        experts_norm = float(torch.cat([each.flatten() for each in experts]).norm())
        assert experts_norm > 0
        for part in ("attention", "ffn"):
            for gate in range(2):
                gate_norm = float(gradients[f"encoder.blocks.{layer}.{part}.router.gates.{gate}.linear.weight"].norm())
                assert gate_norm > 1e-4 * experts_norm, (layer, part, gate)


def decide(model: Generalist, stream: torch.Generator | None) -> tuple[Decision, ...]:
    with torch.no_grad():
        return model.encode(inputs_of("video_classification"), stream).decisions


@pytest.mark.parametrize("condition", ["token", "context", "expert_choice", "attribute", "modality", "task"])
def test_noise_comes_from_the_stream_and_only_from_it(condition: str) -> None:
    model = moe_model(condition, arch={"frame_offset": False}).train()
    still, again = decide(model, None), decide(model, None)
    one, same, other = (decide(model, torch_stream(seed, "noise")) for seed in (1, 1, 2))
    for decisions in zip(still, again, one, same, other, strict=True):
        none, none_again, first, first_again, second = (each.logit_TE for each in decisions)
        assert torch.equal(none, none_again)
        assert torch.equal(first, first_again)
        assert not torch.equal(none, first)
        assert not torch.equal(first, second)
    silent = moe_model(condition, noise=0.0, arch={"frame_offset": False})
    expected = decide(silent, None)
    for found, plain in zip(decide(silent, torch_stream(1, "noise")), expected, strict=True):
        assert torch.equal(found.logit_TE, plain.logit_TE)
        assert found.noise_TE is None


@pytest.mark.parametrize(("noise", "experts"), [(1.0, 4), (2.0, 4), (1.0, 16)])
@pytest.mark.parametrize("condition", ["token", "attribute"])
def test_the_deviation_of_the_noise_is_the_setting_by_the_number_of_experts(
    condition: str, noise: float, experts: int
) -> None:
    model = moe_model(condition, noise=noise, experts=experts, gates=2)
    router, tokens = model.encoder.blocks[0].attention.router, model.tokenizer(inputs_of("video_classification"))
    drawn: list[list[Tensor]] = [[], []]
    for seed in range(-1, 60 if condition == "token" else 600):
        context = model.encoder._context_of(tokens, None if seed < 0 else torch_stream(seed), None)
        with torch.no_grad():
            router(context.pack(tokens.x_BND), context)
        for gate, decision in enumerate(context.decisions):
            drawn[gate].append(decision.logit_TE)
    both = [torch.cat([noisy_TE - still_TE for noisy_TE in several]).flatten() for still_TE, *several in drawn]
    for noise_X in both:
        assert len(noise_X) > 2000
        assert float(noise_X.std()) == pytest.approx(noise / experts, rel=0.06)
        assert abs(float(noise_X.mean())) < 4 * noise / experts / len(noise_X) ** 0.5
    assert abs(float(torch.corrcoef(torch.stack(both))[0, 1])) < 0.08  # each gate draws its own
