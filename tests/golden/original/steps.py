"""The original's training steps: AdamW as its formula says, clipping, and warm-up with a cosine behind it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.golden.original.recording import trained
from tests.golden.original.tasks import Tensors
from tests.golden.original.weights import Original

_NEVER_DECAYED = (
    *("embeddings.weight", "position_embeddings", "token_type", "embeddings_type", "pos_embed", "logit_scale"),
    *("gamma_", "similarity_weight", "gate.wg", "gate.tag_transform"),
)
_PATCHES = "video_embed.embeddings.weight"  # a convolution, although its name ends like that of an embedding


@dataclass(frozen=True, kw_only=True)
class Step:
    """What a step was like."""

    lr: float
    losses: dict[str, float]
    norm: float  # of all gradients, before clipping


def decay_of(name: str, tensor: Tensor, decay: float) -> float:
    """Weight decay of a parameter: 0 for norms, biases and other vectors, embeddings, temperatures and gates."""
    if name == _PATCHES:
        return decay
    return 0.0 if tensor.ndim <= 1 or any(part in name for part in _NEVER_DECAYED) else decay


def learning_rate(step: int, settings: Mapping[str, Any]) -> float:
    """Of an iteration, from 0; the schedule moves on behind each."""
    warmup, base = settings["warmup"], settings["base_lr"]
    if step < warmup:
        return base * step / warmup
    progress = (step - warmup) / (settings["max_iter"] - warmup)
    return max(0.5 * (1 + math.cos(math.pi * progress)) * base, settings["min_lr"])


def run(
    model: Original, told: Mapping[str, Any], settings: Mapping[str, Any], batches: Sequence[tuple[Any, Tensors]]
) -> list[Step]:
    """One iteration for each batch; the model's tensors change in place."""
    moments: dict[str, tuple[Tensor, Tensor, int]] = {}
    steps = []
    for step, (info, tensors) in enumerate(batches):
        _, terms, gradients = trained(model, told, info, tensors)
        reached = {name: each for name, each in gradients.items() if each is not None}
        norm = math.sqrt(sum(float(each.square().sum()) for each in reached.values()))
        clip = min(1.0, settings["clip_norm"] / (norm + 1e-6))
        lr = learning_rate(step, settings)
        for name, gradient in reached.items():
            moments[name] = _adamw(model, name, gradient * clip, lr, settings, moments.get(name))
        steps.append(Step(lr=lr, losses={name: float(each.detach()) for name, each in terms.items()}, norm=norm))
    return steps


@torch.no_grad()
def _adamw(
    model: Original,
    name: str,
    gradient: Tensor,
    lr: float,
    settings: Mapping[str, Any],
    before: tuple[Tensor, Tensor, int] | None,
) -> tuple[Tensor, Tensor, int]:
    """Loshchilov & Hutter's Algorithm 2 for one parameter, which counts its own steps."""
    weight, (beta1, beta2) = model[name], settings["betas"]
    first, second, count = before or (torch.zeros_like(gradient), torch.zeros_like(gradient), 0)
    first, second, count = (
        beta1 * first + (1 - beta1) * gradient,
        beta2 * second + (1 - beta2) * gradient**2,
        count + 1,
    )
    weight.mul_(1 - lr * settings["weight_decay"][name])
    root = (second / (1 - beta2**count)).sqrt() + settings["eps"]
    weight.sub_(lr * (first / (1 - beta1**count)) / root)
    return first, second, count
