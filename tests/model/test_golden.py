"""The original release's numbers, through our records and functions (source: the official code, run on CPU in fp32)."""

import pytest
import torch
from torch import Tensor

from tests.model import golden
from uniperceiver.model.official import our_name, our_shape
from uniperceiver.moe.attributes import release_bits
from uniperceiver.tasks.ask import ask, loss_terms
from uniperceiver.tasks.candidates import represent_candidates
from uniperceiver.tasks.decode import generate, prefix_with_query
from uniperceiver.tasks.likelihood import logits, unit

FOLDERS = ("dense", "epsilon_dense", "moe_odd")
# The original's linears with experts: which gates of ours decide for them.
GATES = {"self_attn.qkv_proj": "attention", "self_attn.dense": "attention", "linear1": "ffn", "linear2": "ffn"}
pytestmark = pytest.mark.skipif(not golden.FOLDER.is_dir(), reason=f"no golden data of the original at {golden.FOLDER}")


def names(*, generation: bool) -> list[tuple[str, str]]:
    found = [(folder, name) for folder in FOLDERS for name in golden.cases(folder)]
    writes = ("beam", "greedy")
    return [case for case in found if any(word in case[1] for word in writes) == generation] or [("none", "none")]


def error(ours: Tensor, theirs: Tensor) -> float:
    return float((ours.detach() - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(("folder", "name"), names(generation=False))
def test_activations_and_logits(folder: str, name: str) -> None:
    case, model = golden.load_case(folder, name), golden.load_model(folder)
    task, batch, candidates = golden.batch_of(case)
    tensors = case.tensors
    for key, sequences in (("enc0", batch.inputs), ("enc1", candidates.sequences)):
        encoded = model.encode(sequences, keep_layers=True)
        valid = ~tensors.get(f"{key}.invalid_mask", torch.zeros(encoded.x_BND.shape[:2])).bool()
        for layer, x_BND in enumerate(encoded.layers):
            if f"{key}.layer{layer}" in tensors:
                theirs = tensors[f"{key}.layer{layer}"]
                part = slice(theirs.shape[1])  # of the vocabulary, only position 0 is stored
                assert error(x_BND[:, part][valid[:, part]], theirs[valid[:, part]]) <= 2e-5
    logits_RK = ask(model, task, batch, candidates)
    if "logits" in tensors:
        assert error(logits_RK, tensors["logits"]) <= 2e-5
    if "cosine_i2t" in tensors:
        assert error(logits_RK / model.scale(task.temperature), tensors["cosine_i2t"]) <= 2e-5


@pytest.mark.parametrize(
    ("folder", "name"),
    [case for generation in (True, False) for case in names(generation=generation) if case[0].startswith("moe")],
)
@torch.no_grad()
def test_gates_choose_the_same_experts(folder: str, name: str) -> None:
    case, model = golden.load_case(folder, name), golden.load_model(folder)
    _, batch, candidates = golden.batch_of(case)
    inputs, compared = batch.inputs, 0
    if "ids" in case.tensors:  # a caption was written: its first pass
        inputs = prefix_with_query(inputs, case.model["special_tokens"]["<|spe|>"])
    for key, sequences in (("enc0", inputs), ("enc1", candidates.sequences)):
        encoded = model.encode(sequences)
        if f"{key}.attribute" in case.tensors:
            ours = torch.tensor([release_bits(segment) for segment in encoded.segments]).float()
            assert torch.equal(ours, case.tensors[f"{key}.attribute"])
        of_gate = {(each.layer, each.part): each for each in encoded.decisions}  # both linears of a part share one
        assert len(of_gate) == len(encoded.decisions)
        for (layer, part), decision in of_gate.items():
            weight_SE = decision.weight_TE[list(decision.row_S)]
            for module in (module for module, half in GATES.items() if half == part):
                gate = f"{key}.gate.layers.{layer}.{module}"
                if f"{gate}.index" in case.tensors:
                    weight_Sk, index_Sk = weight_SE.topk(2, dim=1)
                    assert torch.equal(index_Sk, case.tensors[f"{gate}.index"]), gate
                    assert float((weight_Sk - case.tensors[f"{gate}.weight"]).abs().max()) <= 2e-5, gate
                    assert torch.equal(decision.chosen_TE[list(decision.row_S)], weight_SE > 0)
                    compared += 1
    assert compared == sum(".gate." in key and key.endswith(".index") for key in case.tensors) > 0


@pytest.mark.parametrize(("folder", "name"), [case for case in names(generation=False) if case[1].endswith("_train")])
def test_losses_and_gradients(folder: str, name: str) -> None:
    case, model = golden.load_case(folder, name), golden.load_model(folder)
    task, batch, candidates = golden.batch_of(case)
    settings = case.model["losses"][case.info["batch"]["task_info"]["task_name"]]
    smoothing = settings["LABELSMOOTHING"] if settings["NAMES"][0].startswith("LabelSmoothing") else 0.0
    terms = loss_terms(task, ask(model, task, batch, candidates), batch.readout, candidates, smoothing)
    theirs = [value for key, value in case.info["losses"].items() if key != "null_loss" and "Accuracy" not in key]
    for ours, value in zip(terms.values(), theirs, strict=True):
        assert settings["LOSS_WEIGHT"] * ours.item() == pytest.approx(value, rel=1e-5)
    (settings["LOSS_WEIGHT"] * sum(terms.values())).backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    compared = 0
    for original, moments in case.info["grad_l2norm_and_sum"].items():
        gradient = gradients.get(our_name(original) or "")
        if moments is None or gradient is None:
            assert moments is None or moments[0] == 0.0 or gradient is not None or our_name(original) is None
            continue
        norm, total = moments
        assert float(gradient.norm()) == pytest.approx(norm, rel=1e-3, abs=1e-7), original
        assert float(gradient.sum()) == pytest.approx(total, abs=1e-3 * norm * gradient.numel() ** 0.5 + 1e-7), original
        if f"grad.{original}" in case.tensors:
            assert error(gradient, our_shape(original, case.tensors[f"grad.{original}"])) <= 1e-3, original
        compared += 1
    assert compared > 40


@pytest.mark.parametrize(("folder", "name"), names(generation=True))
def test_generation(folder: str, name: str) -> None:
    case, model = golden.load_case(folder, name), golden.load_model(folder)
    task, batch, candidates = golden.batch_of(case)
    words_VD = represent_candidates(model, candidates)
    steps: list[Tensor] = []
    with torch.no_grad():
        found = generate(
            model,
            prefix_with_query(batch.inputs, case.model["special_tokens"]["<|spe|>"]),
            lambda x_RD: logits(unit(model.represent(x_RD)), words_VD, model.scale(task.temperature)),
            end=case.end,
            beams=case.info["beam_size"],
            words=case.info["max_seq_len"],
            length_penalty=case.info["len_penalty"],
            on_step=steps.append,
        )
    for step, logits_RV in enumerate(steps):
        assert error(logits_RV, case.tensors[f"step{step}.logits"]) <= 2e-5
    length = found.ids_BS.shape[1]
    assert torch.equal(found.ids_BS, case.tensors["ids"][:, :length])
    assert error(found.log_likelihood_BS, case.tensors["logp"][:, :length]) <= 2e-5
