"""Losses: cross-entropy of the likelihood against an index or a distribution over the candidates.

Shape suffixes: R read-outs, K candidates.
"""

import torch.nn.functional as F
from torch import Tensor

from uniperceiver.precision import at_least_float32


def cross_entropy(
    logits_RK: Tensor, target_R: Tensor, smoothing: float = 0.0, correction_K: Tensor | None = None
) -> Tensor:
    """Mean of -log P(target) over the read-outs whose target is known (not -1); 0 when none is.

    With smoothing e: (1 - e) * -log P(target) + e * mean over the candidates of -log P. Where the candidates are a
    sample, the mean is estimated as that over all of them: a candidate counts as often as it stands for others.

    Args:
        correction_K: of a sample, what its logits hold: the logarithm of how many candidates each one stands for.
    """
    answers, scores_RK = (target_R >= 0).sum(), at_least_float32(logits_RK)
    sampled = smoothing > 0 and correction_K is not None
    total = F.cross_entropy(
        scores_RK, target_R, ignore_index=-1, reduction="sum", label_smoothing=0.0 if sampled else smoothing
    )
    if sampled and correction_K is not None:
        own_RK = scores_RK - correction_K
        spread_R = scores_RK.logsumexp(dim=-1) - own_RK @ correction_K.softmax(dim=0).to(own_RK.dtype)
        total = (1 - smoothing) * total + smoothing * spread_R[target_R >= 0].sum()
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
