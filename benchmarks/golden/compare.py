"""A recorded case against ours: activations, gates, read-outs, logits, cosines, generated texts.

Shape suffixes: B sequences, N tokens, S segments, k choices, R read-outs, K candidates, V words, E experts, D width.
"""

import re

import torch
from torch import Tensor

from benchmarks.golden.cases import Case, batch_of
from benchmarks.golden.findings import Findings
from benchmarks.golden.gradients import compare_losses, compare_training, loss_of, recorded_losses
from uniperceiver.model.model import Generalist
from uniperceiver.records import Batch, Decision, Encoded, Sequences, Tokens
from uniperceiver.tasks.ask import compare, input_features, read
from uniperceiver.tasks.candidates import Candidates, represent_candidates
from uniperceiver.tasks.decode import generate, prefix_with_query
from uniperceiver.tasks.likelihood import logits, unit
from uniperceiver.tasks.task import Task

# Which of a half-block's gates decides for a linear: the first, or the last, which may be the same.
_GATES = {
    "self_attn.qkv_proj": ("attention", 0),
    "self_attn.dense": ("attention", -1),
    "linear1": ("ffn", 0),
    "linear2": ("ffn", -1),
}
_GATE = re.compile(r"\.gate\.layers\.(\d+)\.([\w.]+)\.index")
_ACTIVATION = re.compile(r"\.(in|out|layer\d+)")


def findings_of(case: Case, model: Generalist) -> Findings:
    """The largest error of each quantity of a case, and what could not be compared."""
    findings = Findings()
    task, batch, candidates = batch_of(case)
    encoded = _call(findings, case, "enc0", model, batch.inputs)
    if "ids" in case.tensors:
        _generation(findings, case, model, task, batch, candidates)
        return findings
    chosen = _call(findings, case, "enc1", model, candidates.sequences)
    with torch.no_grad():
        _readouts(findings, case, model, read(encoded, batch.readout), chosen.x_BND[:, 0])
        _answers(findings, case, model, task, batch, candidates)
        if recorded_losses(recorded := case.info.get("losses_on_eval_logits", {})):
            compare_losses(findings, loss_of(case, model, task, batch, candidates), recorded)
    if "losses" in case.info:
        compare_training(findings, case, model, task, batch, candidates)
    return findings


def _call(findings: Findings, case: Case, key: str, model: Generalist, sequences: Sequences) -> Encoded:
    """Encode, and compare every activation and gate that was recorded of this call."""
    embedded: list[Tokens] = []
    hook = model.tokenizer.register_forward_hook(lambda module, inputs, tokens: embedded.append(tokens))
    with torch.no_grad():
        encoded = model.encode(sequences, keep_layers=True)
    hook.remove()
    measured = {"in": embedded[0].x_BND, "out": encoded.x_BND}
    measured |= {f"layer{layer}": x_BND for layer, x_BND in enumerate(encoded.layers)}
    for name in [name for name in case.tensors if name.startswith(f"{key}.")]:
        if activation := _ACTIVATION.fullmatch(name, len(key)):
            if (x_BND := measured.get(activation[1])) is None:
                findings.reasons.append(f"{name}: there is no such layer")
            else:
                _activation(findings, case, key, name, x_BND)
        if gate := _GATE.fullmatch(name, len(key)):
            _gate(findings, case, name.removesuffix(".index"), gate, encoded)
    return encoded


def _activation(findings: Findings, case: Case, key: str, name: str, x_BND: Tensor) -> None:
    """An activation, where it is no padding; of the vocabulary only position 0 is recorded."""
    recorded = case.tensors[name]
    if recorded.ndim == 2 or recorded.shape[1] == 1:
        findings.compare("activations", name, x_BND[:, 0], recorded.flatten(0, -2))
        return
    mask_BN = case.tensors.get(f"{key}.invalid_mask")
    if mask_BN is not None and recorded.shape == x_BND.shape:
        x_BND, recorded = x_BND[~mask_BN.bool()], recorded[~mask_BN.bool()]
    findings.compare("activations", name, x_BND, recorded)


def _gate(findings: Findings, case: Case, name: str, gate: re.Match[str], encoded: Encoded) -> None:
    """Chosen experts and their weights, one row per segment."""
    index_Sk, theirs_Sk = case.tensors[f"{name}.index"].long(), case.tensors[f"{name}.weight"]
    part, which = _GATES.get(gate[2], ("", 0))
    decisions: list[Decision] = [
        decision for decision in encoded.decisions if (decision.layer, decision.part) == (int(gate[1]), part)
    ]
    if not decisions:
        findings.reasons.append(f"{name}: this linear has no gate")
        return
    decision = sorted(decisions, key=lambda decision: decision.gate)[which]
    weight_SE = decision.weight_TE[list(decision.group_S)]
    if "ids" in case.tensors:  # the row of texts is recorded, but there is no text yet
        index_Sk, theirs_Sk = index_Sk[: len(weight_SE)], theirs_Sk[: len(weight_SE)]
    if len(weight_SE) != len(index_Sk):
        findings.reasons.append(f"{name}: {len(index_Sk)} rows recorded, {len(weight_SE)} computed")
        return
    order_Sk = weight_SE.argsort(dim=1, descending=True)[:, : index_Sk.shape[1]]
    findings.note("gate indices", float((order_Sk != index_Sk).any() or (weight_SE > 0).sum() != index_Sk.numel()))
    findings.compare("gate weights", name, weight_SE.gather(1, index_Sk), theirs_Sk)


def _readouts(findings: Findings, case: Case, model: Generalist, x_RD: Tensor, x_KD: Tensor) -> None:
    """Encoder outputs where the answers are read, before and behind the head, and of length one."""
    for side, feats, x_ND in (("input", "input_feats", x_RD), ("target", "tgt_feats", x_KD)):
        z_ND = model.represent(x_ND)
        measured = {f"readout_{side}": x_ND, f"readout_{side}_postproj": z_ND, feats: unit(z_ND)}
        for name in measured.keys() & case.tensors.keys():
            findings.compare("activations", name, measured[name], case.tensors[name])


def _answers(
    findings: Findings, case: Case, model: Generalist, task: Task, batch: Batch, candidates: Candidates
) -> None:
    """Logits before and behind a linear head, and the cosines of retrieval."""
    feature_RD, c_KD = input_features(model, batch), represent_candidates(model, candidates)
    plain_RK = logits(unit(feature_RD), c_KD, model.scale(task.temperature))
    if "logits" in case.tensors:
        findings.compare("logits", "logits", plain_RK, case.tensors["logits"])
    if "output" in case.tensors:
        findings.compare("logits", "output", compare(model, task, feature_RD, c_KD), case.tensors["output"])
    if "cosine_i2t" in case.tensors:
        findings.compare("cosines", "cosine_i2t", plain_RK / model.scale(task.temperature), case.tensors["cosine_i2t"])


def _generation(
    findings: Findings, case: Case, model: Generalist, task: Task, batch: Batch, candidates: Candidates
) -> None:
    """The logits of every step and the written texts; ours stop when all beams have ended, recorded ones go on."""
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
        findings.compare("step logits", f"step {step}", logits_RV, case.tensors[f"step{step}.logits"])
    theirs_BS = case.tensors["ids"]
    ids_BS, logp_BS = torch.full_like(theirs_BS, case.end), torch.zeros(theirs_BS.shape)
    length = written.ids_BS.shape[1]
    ids_BS[:, :length], logp_BS[:, :length] = written.ids_BS, written.log_likelihood_BS
    findings.note("generated ids", float(not torch.equal(ids_BS, theirs_BS)))
    findings.compare("log-likelihoods", "logp", logp_BS, case.tensors["logp"])
