"""The original's tasks: what is encoded, where it is read, how it is compared, and what it costs.

Shape suffixes: B sequences, N tokens, T frames, C channels, H W pixels, D width, R read-outs, K candidates, A
attributes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.golden.original.encoder import Call, Seen, encode
from tests.golden.original.weights import Original, patches, prefix, words

Tensors = Mapping[str, Tensor]

_INPUT, _TARGET = "batch.input_sample_list", "batch.target_sample_list.0"


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Both encoder calls of a case."""

    inputs: Seen
    targets: Seen
    told: tuple[Call, Call]


def clip_of(tensors: Tensors) -> Tensor | None:
    """The pictures of a batch as clips, (B, T, C, H, W); None for a text."""
    first = tensors[f"{_INPUT}.0.data"]
    return first if first.ndim == 5 else first[:, None] if first.ndim == 4 else None


def input_call(model: Original, tensors: Tensors, kind: str) -> tuple[Tensor, Call]:
    """The embedded inputs, (B, N, D), and what the encoder is told of them."""
    clip_BTCHW = clip_of(tensors)
    batch = len(tensors[f"{_INPUT}.0.data"])
    parts = [prefix(model, batch)]
    if clip_BTCHW is not None:
        parts.append(patches(model, clip_BTCHW))
    first = sum(part.shape[1] for part in parts)
    key = f"{_INPUT}.{0 if clip_BTCHW is None else 1}"
    blocked_NN = None
    if f"{key}.data" in tensors:
        ids_BN = tensors[f"{key}.data"].long()
        half = torch.arange(ids_BN.shape[1] // 2)
        is_caption = kind.endswith("caption")
        parts.append(words(model, ids_BN, torch.cat([half, half]) if is_caption else None))
        blocked_NN = caption_mask(first, len(half)) if is_caption else None
    attribute_RA = tensors.get(f"{_INPUT}.0.attribute")
    call = Call(
        side="input",
        attribute_RA=attribute_RA,
        first=first if attribute_RA is not None and len(attribute_RA) == 2 else 0,
        invalid_BN=_padding(tensors.get(f"{key}.invalid_mask"), first),
        blocked_NN=blocked_NN,
    )
    return torch.cat(parts, dim=1), call


def caption_mask(first: int, count: int) -> Tensor:
    """What may not look at what in caption training, (N, N) bool: a prefix of `first`, then words, then queries."""
    prefix_N = torch.arange(first + 2 * count) < first
    place_N = torch.cat([torch.full((first,), -1), torch.arange(count), torch.arange(count)])
    query_N = torch.arange(first + 2 * count) >= first + count
    word_N = ~prefix_N & ~query_N
    words_look = word_N[:, None] & word_N & (place_N[:, None] >= place_N)
    queries_look = query_N[:, None] & word_N & (place_N[:, None] > place_N)
    allowed = prefix_N[None] | words_look | queries_look | torch.eye(len(place_N), dtype=torch.bool)
    return ~allowed


def _padding(invalid_BN: Tensor | None, before: int) -> Tensor | None:
    return None if invalid_BN is None else F.pad(invalid_BN.bool(), (before, 0))


def target_call(model: Original, tensors: Tensors) -> tuple[Tensor, Call]:
    """The embedded captions, class names or words, (K, N, D), and what the encoder is told of them."""
    key = next((name.removesuffix(".data") for name in sorted(tensors) if _is_targets(name)), None)
    if key is None:  # the vocabulary, not recorded again
        word_K = torch.arange(len(model["token_embed.embeddings.weight"]))
        ids_KN, invalid, attribute_RA = torch.stack([word_K, torch.full_like(word_K, model.end)], dim=1), None, None
        if model.is_moe:
            attribute_RA = torch.tensor([[1.0, 1, 0, 1, 0, 1, 1, 0]])
    else:
        ids_KN, invalid = tensors[f"{key}.data"].long(), tensors.get(f"{key}.invalid_mask")
        attribute_RA = tensors.get(f"{key}.attribute")
    parts = [prefix(model, len(ids_KN)), words(model, ids_KN)]
    if "prompt_embed.target_embedding" in model:  # a vector for each class, as it is
        parts.insert(1, model["prompt_embed.target_embedding"])
    invalid_KN = _padding(invalid, len(parts) - 1)
    return torch.cat(parts, dim=1), Call(side="target", attribute_RA=attribute_RA, invalid_BN=invalid_KN)


def _is_targets(name: str) -> bool:
    return name.startswith(("batch.shared_target_sets.", f"{_TARGET}.")) and name.endswith(".data")


def projected(model: Original, x_RD: Tensor) -> Tensor:
    """Read-outs through the norm and linear that inputs and targets share."""
    mean_R1 = x_RD.mean(dim=-1, keepdim=True)
    x_RD = (x_RD - mean_R1) / ((x_RD - mean_R1).square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()
    x_RD = x_RD * model["loss_prepare.ln_post.weight"] + model["loss_prepare.ln_post.bias"]
    return x_RD @ model["loss_prepare.proj.weight"].mT + model["loss_prepare.proj.bias"]


def unit(x_RD: Tensor) -> Tensor:
    """Vectors of length one."""
    return x_RD / x_RD.square().sum(dim=-1, keepdim=True).sqrt()


def scale(model: Original, name: str) -> Tensor:
    """exp of a temperature; above 100 the constant 100."""
    exp = model[f"loss_prepare.{name}"].exp()
    return exp if exp <= 100 else torch.full_like(exp, 100.0).detach()


def readout(x_BND: Tensor, tensors: Tensors, info: Mapping[str, Any], kind: str) -> Tensor:
    """Encoder outputs where the task reads its answers, (R, D)."""
    if kind.endswith("caption") or kind.endswith("mlm"):
        label_BN = tensors["batch.target_idx_list.0"].reshape(len(x_BND), -1)
        return x_BND[:, -label_BN.shape[1] :][label_BN != -1]
    samples = info["batch"]["inputs"][-1]["sample_info"]
    if "spe_index" not in samples[0]:
        return x_BND[:, 0]
    text = tensors[f"{_INPUT}.{0 if clip_of(tensors) is None else 1}.data"].shape[1]
    place_B = torch.tensor([sample["spe_index"] for sample in samples]) + x_BND.shape[1] - text
    return x_BND[torch.arange(len(x_BND)), place_B]


def losses(output_RK: Tensor, tensors: Tensors, settings: Mapping[str, Any], kind: str) -> dict[str, Tensor]:
    """The terms of a training step, each times its weight."""
    name, smoothing = settings["NAMES"][0], settings["LABELSMOOTHING"]
    weight = settings["LOSS_WEIGHT"] if isinstance(settings["LOSS_WEIGHT"], float) else 1.0
    if kind.endswith("retrieval"):
        right_R = torch.arange(len(output_RK))
        pair = {"i2t": _smoothed(output_RK, right_R, smoothing), "t2i": _smoothed(output_RK.T, right_R, smoothing)}
        return {f"LabelSmoothing ({key})": weight * value for key, value in pair.items()}
    target = tensors["batch.target_idx_list.0"]
    if target.is_floating_point():
        value = -(target * output_RK.log_softmax(dim=-1)).sum(dim=-1).mean()
    else:
        known_R = target.flatten()[target.flatten() != -1]
        value = _smoothed(output_RK, known_R, smoothing if name == "LabelSmoothingCrossEntropy" else 0.0)
    label = {"LabelSmoothingCrossEntropy": "LabelSmoothing"}.get(name, f"{name}_Loss")
    return {label: weight * value}


def _smoothed(output_RK: Tensor, right_R: Tensor, smoothing: float) -> Tensor:
    log_RK = output_RK.log_softmax(dim=-1)
    chosen_R = log_RK[torch.arange(len(log_RK)), right_R]
    return -((1 - smoothing) * chosen_R + smoothing * log_RK.mean(dim=-1)).mean()


def calls(model: Original, tensors: Tensors, kind: str) -> Sides:
    """Encode both sides of a case."""
    x_BND, of_inputs = input_call(model, tensors, kind)
    x_KND, of_targets = target_call(model, tensors)
    return Sides(
        inputs=encode(model, x_BND, of_inputs),
        targets=encode(model, x_KND, of_targets),
        told=(of_inputs, of_targets),
    )
