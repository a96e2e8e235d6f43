"""Losses: cross-entropy of the likelihood against an index or a distribution over the candidates.

Shape suffixes: R read-outs, K candidates.
"""

import torch.nn.functional as F
from torch import Tensor

from uniperceiver.precision import at_least_float32


def cross_entropy(logits_RK: Tensor, target_R: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean of -log P(target) over the read-outs whose target is known (not -1); 0 when none is.

    With smoothing e: (1 - e) * -log P(target) + e * mean over the candidates of -log P.
    """
    answers = (target_R >= 0).sum()
    total = F.cross_entropy(
        at_least_float32(logits_RK), target_R, ignore_index=-1, reduction="sum", label_smoothing=smoothing
    )
    return total / answers.clamp(min=1)


def soft_cross_entropy(logits_RK: Tensor, soft_RK: Tensor, smoothing: float = 0.0) -> Tensor:
    """Mean over read-outs of -sum_k target_k log P(k), the target mixed with the uniform distribution."""
    target_RK = (1.0 - smoothing) * soft_RK + smoothing / soft_RK.shape[-1]
    return -(target_RK * F.log_softmax(at_least_float32(logits_RK), dim=-1)).sum(dim=-1).mean()


def contrastive(logits_RK: Tensor, same_RK: Tensor, smoothing: float = 0.0) -> dict[str, Tensor]:
    """Both directions of in-batch retrieval: input to candidate, and candidate to input.

    Args:
        same_RK: 1 where the candidate is right for the input, else 0; right answers share the target equally.
    """
    return {
        "to_candidate": soft_cross_entropy(logits_RK, same_RK / same_RK.sum(1, keepdim=True), smoothing),
        "to_input": soft_cross_entropy(logits_RK.T, same_RK.T / same_RK.T.sum(1, keepdim=True), smoothing),
    }
