"""P(y | x): the one formula that all tasks share.

Shape suffixes: R read-outs, K candidates, D width.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from uniperceiver.precision import at_least_float32


def unit(x_ND: Tensor, *, float32: bool = True) -> Tensor:
    """Representations of length one, in float32, or else in their own type."""
    # Autocast may compute norms in float32 and promote the quotient, so that the type is set here.
    return F.normalize(at_least_float32(x_ND), dim=-1) if float32 else F.normalize(x_ND, dim=-1).to(x_ND.dtype)


def logits(z_RD: Tensor, candidate_KD: Tensor, scale: Tensor, correction_K: Tensor | None = None) -> Tensor:
    """scale x cosine of unit vectors, (R, K).

    Args:
        scale: exp(s) = 1 / tau of the task's family, already clamped.
        correction_K: added to every read-out's logits of that candidate (sampled candidates).
    """
    with torch.autocast(z_RD.device.type, enabled=_lower_precision(z_RD)):
        scaled_RK = (z_RD * scale.to(z_RD.dtype)) @ candidate_KD.T
    return scaled_RK if correction_K is None else scaled_RK + correction_K


def _lower_precision(z_RD: Tensor) -> bool:
    """Whether the cosine stays in the autocast type; float32 representations are never cast down."""
    return z_RD.dtype != torch.float32 and torch.is_autocast_enabled(z_RD.device.type)


def log_likelihood(logits_RK: Tensor) -> Tensor:
    """log P(candidate | input), (R, K): softmax over the candidates (Uni-Perceiver v1, Eq. 2)."""
    return F.log_softmax(at_least_float32(logits_RK), dim=-1)
