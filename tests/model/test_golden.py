"""The original release's numbers, through our records and functions (source: the official code, run on CPU in fp32)."""

import pytest
import torch
from torch import Tensor

from tests.model import golden
from uniperceiver.model.official.names import our_name, our_shape
from uniperceiver.tasks.ask import ask, loss_terms
from uniperceiver.tasks.candidates import represent_candidates
from uniperceiver.tasks.decode import generate, prefix_with_query
from uniperceiver.tasks.likelihood import logits, unit

FOLDERS = ("dense", "epsilon_dense", "moe_odd", "prompt_dense_in1k_fc_notshare", "prompt_moe_caption")
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
    answers = tensors["output"] if model.prompts is not None and "output" in tensors else tensors.get("logits")
    if answers is not None:  # `logits` are those before a linear head
        assert error(logits_RK, answers) <= 2e-5
    if "cosine_i2t" in tensors:
        assert error(logits_RK / model.scale(task.temperature), tensors["cosine_i2t"]) <= 2e-5


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
    assert compared > (10 if model.prompts is not None else 40)  # prompt tuning freezes the rest


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
