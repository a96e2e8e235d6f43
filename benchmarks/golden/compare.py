"""Errors of our numbers against recorded ones, case by case.

An error is max|ours - theirs| / max|theirs|. Shape suffixes: S segments, k choices, R read-outs, K candidates, V words,
E experts, D width.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from benchmarks.golden.cases import Case, batch_of
from uniperceiver.model.model import Generalist
from uniperceiver.model.official.names import our_name, our_shape
from uniperceiver.records import Batch, Decision, Encoded
from uniperceiver.tasks.ask import ask, compare, input_features, loss_terms
from uniperceiver.tasks.candidates import Candidates, represent_candidates
from uniperceiver.tasks.decode import generate, prefix_with_query
from uniperceiver.tasks.likelihood import logits, unit
from uniperceiver.tasks.task import Task

TOLERANCES = {
    "activations": 2e-5,
    "gate weights": 2e-5,
    "gate indices": 0.0,
    "logits": 2e-5,
    "cosines": 2e-5,
    "losses": 1e-5,
    "gradients": 1e-3,
    "step logits": 2e-5,
    "log-likelihoods": 2e-5,
    "generated ids": 0.0,
    "parameters": 1e-5,
    "learning rates": 1e-6,
    "weight decays": 0.0,
}

Errors = dict[str, float]


def errors_of(case: Case, model: Generalist) -> Errors:
    """The largest error of each quantity of a case."""
    found: Errors = {}
    task, batch, candidates = batch_of(case)
    if "ids" in case.tensors:
        _generation(found, case, model, task, batch, candidates)
        return found
    for key, sequences in (("enc0", batch.inputs), ("enc1", candidates.sequences)):
        with torch.no_grad():
            encoded = model.encode(sequences, keep_layers=True)
        _activations(found, case, key, encoded)
        _gates(found, case, key, encoded)
    _answers(found, case, model, task, batch, candidates)
    if case.name.endswith("_train"):
        _losses_and_gradients(found, case, model, task, batch, candidates)
    return found


def error(ours: Tensor, theirs: Tensor) -> float:
    """max|ours - theirs| / max|theirs|; infinite where one of ours is not finite."""
    if not bool(torch.isfinite(ours).all()):
        return float("inf")
    largest = float(theirs.abs().max())
    return float((ours.detach() - theirs).abs().max()) / (largest or 1.0)


def note(found: Errors, quantity: str, value: float) -> None:
    """Keep the largest error of a quantity."""
    found[quantity] = max(found.get(quantity, 0.0), value)


def _activations(found: Errors, case: Case, key: str, encoded: Encoded) -> None:
    """Every layer's output, where it is no padding; of the vocabulary only position 0 is recorded."""
    mask = case.tensors.get(f"{key}.invalid_mask")
    for layer, x_BND in enumerate(encoded.layers):
        theirs = case.tensors.get(f"{key}.layer{layer}")
        if theirs is None:
            continue
        part = slice(theirs.shape[1])
        valid_BN = torch.ones(theirs.shape[:2], dtype=torch.bool) if mask is None else ~mask[:, part].bool()
        note(found, "activations", error(x_BND[:, part][valid_BN], theirs[valid_BN]))


def _gates(found: Errors, case: Case, key: str, encoded: Encoded) -> None:
    """Chosen experts and their weights, one row per segment."""
    for decision in encoded.decisions:
        index_Sk = case.tensors.get(f"{key}.gate.{_gate_name(decision)}.index")
        if index_Sk is None:
            continue
        theirs_Sk = case.tensors[f"{key}.gate.{_gate_name(decision)}.weight"]
        weight_SE = decision.weight_TE[list(decision.row_S)]
        count = min(len(weight_SE), len(index_Sk))  # some recorded rows are of a segment that is not there
        weight_SE, index_Sk, theirs_Sk = weight_SE[:count], index_Sk[:count].long(), theirs_Sk[:count]
        order_Sk = weight_SE.argsort(dim=1, descending=True)[:, : index_Sk.shape[1]]
        note(found, "gate indices", float((order_Sk != index_Sk).any()))
        note(found, "gate weights", error(weight_SE.gather(1, index_Sk), theirs_Sk))


def _gate_name(decision: Decision) -> str:
    first = {"attention": "self_attn.qkv_proj", "ffn": "linear1"}[decision.part]
    return f"layers.{decision.layer}.{first if decision.gate == 0 else 'linear2'}"


def _answers(found: Errors, case: Case, model: Generalist, task: Task, batch: Batch, candidates: Candidates) -> None:
    """Logits before and after a linear head, and the cosines of retrieval."""
    with torch.no_grad():
        feature_RD, c_KD = input_features(model, batch), represent_candidates(model, candidates)
        plain_RK = logits(unit(feature_RD), c_KD, model.scale(task.temperature))
        if "logits" in case.tensors:
            note(found, "logits", error(plain_RK, case.tensors["logits"]))
        if "output" in case.tensors and case.tensors["output"].shape == plain_RK.shape:
            note(found, "logits", error(compare(model, task, feature_RD, c_KD), case.tensors["output"]))
        if "cosine_i2t" in case.tensors:
            note(found, "cosines", error(plain_RK / model.scale(task.temperature), case.tensors["cosine_i2t"]))


def loss_of(case: Case, model: Generalist, task: Task, batch: Batch, candidates: Candidates) -> Mapping[str, Tensor]:
    """The terms of a case's loss, weighted as the original's configuration says."""
    settings = case.model["losses"][case.info["batch"]["task_info"]["task_name"]]
    smoothing = settings["LABELSMOOTHING"] if settings["NAMES"][0].startswith("LabelSmoothing") else 0.0
    terms = loss_terms(task, ask(model, task, batch, candidates), batch.readout, candidates, smoothing)
    return {name: settings["LOSS_WEIGHT"] * term for name, term in terms.items()}


def _losses_and_gradients(
    found: Errors, case: Case, model: Generalist, task: Task, batch: Batch, candidates: Candidates
) -> None:
    model.zero_grad()
    terms = loss_of(case, model, task, batch, candidates)
    theirs = [value for key, value in case.info["losses"].items() if key != "null_loss" and "Accuracy" not in key]
    assert len(theirs) == len(terms), "as many loss terms as recorded"
    for ours, value in zip(terms.values(), theirs, strict=True):
        note(found, "losses", abs(float(ours.detach()) - value) / abs(value))
    sum(terms.values(), start=torch.zeros(())).backward()
    gates = 2 if case.model["model"]["moe"] and not case.model["model"]["ffn_share_gate"] else 1
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    for original, moments in case.info["grad_l2norm_and_sum"].items():
        gradient = gradients.get(our_name(original, gates) or "")
        if moments is None or gradient is None or moments[0] < 1e-7:
            missed = moments is not None and moments[0] > 1e-7 and our_name(original, gates) in gradients
            note(found, "gradients", float("inf") if missed else 0.0)
            continue
        note(found, "gradients", abs(float(gradient.norm()) - moments[0]) / moments[0])
        if f"grad.{original}" in case.tensors:
            note(found, "gradients", error(gradient, our_shape(original, case.tensors[f"grad.{original}"])))


def _generation(found: Errors, case: Case, model: Generalist, task: Task, batch: Batch, candidates: Candidates) -> None:
    steps: list[Tensor] = []
    with torch.no_grad():
        words_VD = represent_candidates(model, candidates)
        written = generate(
            model,
            prefix_with_query(batch.inputs, case.answer),
            lambda x_RD: logits(unit(model.represent(x_RD)), words_VD, model.scale(task.temperature)),
            end=case.end,
            beams=case.info["beam_size"],
            words=case.info["max_seq_len"],
            length_penalty=case.info["len_penalty"],
            on_step=steps.append,
        )
    for step, logits_RV in enumerate(steps):
        note(found, "step logits", error(logits_RV, case.tensors[f"step{step}.logits"]))
    length = written.ids_BS.shape[1]
    note(found, "generated ids", float(not torch.equal(written.ids_BS, case.tensors["ids"][:, :length])))
    note(found, "log-likelihoods", error(written.log_likelihood_BS, case.tensors["logp"][:, :length]))
