"""What the plain model computes in a case, under the names of a recording.

Shape suffixes: B sequences, N tokens, D width, R read-outs, K candidates.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tests.golden.original.captions import write
from tests.golden.original.encoder import Call, Seen
from tests.golden.original.tasks import Tensors, calls, losses, projected, readout, scale, unit
from tests.golden.original.weights import Original

# Prompt tuning trains the parameters whose names hold one of these.
_TUNED = ("s_token_bias", "norm", "prompt_embed", "deep_prompt_embedding", "fc_prompt", "similarity_weight", "ln_post")
_FROZEN = ("video_embed.embeddings_st_pos.spatial_pos_embed.weight",)
_TWICE = ("video_embed.embeddings_norm.", "token_embed.s_token_bias")  # second names of a tensor


def temperature_of(told: Mapping[str, Any], info: Mapping[str, Any]) -> str:
    """Name of the temperature of a case's task."""
    return told["temp_name"][info["batch"]["task_info"]["task_name"]]


def computed(model: Original, told: Mapping[str, Any], info: Mapping[str, Any], tensors: Tensors) -> dict[str, Tensor]:
    """Everything that a recording may hold of a case without gradients: activations, gates, read-outs, answers."""
    kind = info["batch"]["task_info"]["task_type"]
    if "beam_size" in info:
        beams = {"beams": info["beam_size"], "length": info["max_seq_len"]}
        ends = {"end": info["eos_token_id"], "penalty": info["len_penalty"]}
        temperature = temperature_of(told, info)
        found, seen, call = write(model, tensors, kind=kind, temperature=temperature, **beams, **ends)
        _keep(found, "enc0", seen, call, whole=True)
        return found
    sides, found = calls(model, tensors, kind), {}
    _keep(found, "enc0", sides.inputs, sides.told[0], whole=True)
    _keep(found, "enc1", sides.targets, sides.told[1], whole="Vocab_Word" not in info["batch"]["target_set_list"])
    return found | _answers(model, told, info, tensors, sides.inputs, sides.targets)


def _keep(found: dict[str, Tensor], key: str, seen: Seen, call: Call, *, whole: bool) -> None:
    for name, (index_Rk, weight_Rk) in seen.choices.items():
        found |= {f"{key}.gate.{name}.index": index_Rk, f"{key}.gate.{name}.weight": weight_Rk}
    if call.attribute_RA is not None:
        found[f"{key}.attribute"] = call.attribute_RA
    if not whole:
        found[f"{key}.out"] = seen.outputs[-1][:, 0]
        return
    masks = {"invalid_mask": call.invalid_BN, "attn_mask_blocked": call.blocked_NN}
    found |= {f"{key}.{name}": mask.to(torch.uint8) for name, mask in masks.items() if mask is not None}
    found |= {f"{key}.in": seen.inputs[0], f"{key}.out": seen.outputs[-1]}
    found |= {f"{key}.layer{layer}": each for layer, each in enumerate(seen.outputs)}


def _answers(
    model: Original, told: Mapping[str, Any], info: Mapping[str, Any], tensors: Tensors, inputs: Seen, targets: Seen
) -> dict[str, Tensor]:
    """Read-outs and logits; of retrieval without training the cosines."""
    kind = info["batch"]["task_info"]["task_type"]
    x_RD, c_KD = readout(inputs.outputs[-1], tensors, info, kind), targets.outputs[-1][:, 0]
    z_RD, t_KD = projected(model, x_RD), projected(model, c_KD)
    cosine_RK = unit(z_RD) @ unit(t_KD).mT
    found = {"readout_input": x_RD, "readout_input_postproj": z_RD}
    found |= {"readout_target": c_KD, "readout_target_postproj": t_KD}
    if kind.endswith("retrieval") and info["mode"] == "eval":
        return found | {"input_feats": unit(z_RD), "tgt_feats": unit(t_KD), "cosine_i2t": cosine_RK}
    found["logits"] = found["output"] = scale(model, temperature_of(told, info)) * cosine_RK
    if "fc_prompt.weight" in model:
        head_RK = z_RD @ model["fc_prompt.weight"].mT + model["fc_prompt.bias"]
        found["output"] = model["similarity_weight"] * found["logits"] + head_RK
    return found


def trained(
    model: Original, told: Mapping[str, Any], info: Mapping[str, Any], tensors: Tensors
) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Tensor | None]]:
    """As `computed`, then the terms of the loss, and the gradient of their sum by name; None where it has none."""
    found = computed(model, told, info, tensors)
    name = info["batch"]["task_info"]["task_name"]
    terms = losses(found["output"], tensors, told["losses"][name], info["batch"]["task_info"]["task_type"])
    names = [each for each in model.state if not each.startswith(_TWICE)]
    wanted = [each for each in names if _is_trained(each, model)]
    total = torch.stack(list(terms.values())).sum()
    gradients = torch.autograd.grad(total, [model[each] for each in wanted], allow_unused=True)
    return found, terms, dict.fromkeys(names) | dict(zip(wanted, gradients, strict=True))


def _is_trained(name: str, model: Original) -> bool:
    if name in _FROZEN:
        return False
    return "s_token_bias" not in model or any(part in name for part in _TUNED)
