"""Losses that keep routing by tokens from collapsing, and the loss-free bias; padding is never counted.

Shape suffixes: T tokens, t some of them (without padding, or of a modality), E experts, S segments.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from uniperceiver.records import Decision

_TINY = 1e-9  # inside logarithms


def share(chosen_TE: Tensor) -> Tensor:
    """Each expert's share of the assignments, (E,): they add up to 1."""
    count_E = chosen_TE.float().sum(dim=0)
    return count_E / count_E.sum().clamp(min=1.0)


def switch(decision: Decision) -> Tensor:
    """E * sum_e f_e P_e, f the shares of assignments, P the mean probabilities (Switch Transformer, Eq. 4-6; GShard).

    1 when tokens are spread evenly, E / k when they all go to the same k experts.
    """
    probability_tE = decision.probability_TE[_valid(decision)]
    return probability_tE.shape[1] * (share(decision.wanted_TE) * probability_tE.mean(dim=0)).sum()


def importance(decision: Decision) -> Tensor:
    """Squared coefficient of variation of the experts' summed probabilities without noise (V-MoE, Appendix A)."""
    clean_tE = _clean(decision)[_valid(decision)]
    return _variation(clean_tE.softmax(dim=1).sum(dim=0))


def load(decision: Decision) -> Tensor:
    """Squared coefficient of variation of the experts' expected loads under new noise (V-MoE, Appendix A).

    0 where there is no noise: loads then have no gradient.
    """
    if decision.noise_TE is None:
        return decision.logit_TE.sum() * 0.0
    valid_T, experts = _valid(decision), decision.logit_TE.shape[1]
    noisy_tE = decision.logit_TE[valid_T]
    k = int(decision.wanted_TE[valid_T].sum(dim=1).max())
    threshold_t1 = noisy_tE.topk(k, dim=1).values[:, -1:]
    deviation = decision.noise_scale
    clean_tE = _clean(decision)[valid_T]
    expected_E = torch.special.ndtr((clean_tE - threshold_t1) / deviation).sum(dim=0)
    return _variation(expected_E) if experts > 1 else expected_E.sum() * 0.0


def z(decision: Decision) -> Tensor:
    """Mean squared logsumexp of the logits: keeps them small (ST-MoE, Eq. 5)."""
    return decision.logit_TE[_valid(decision)].logsumexp(dim=1).square().mean()


def local_entropy(decision: Decision) -> Tensor:
    """Mean over modalities of the mean entropy of a token's probabilities (LIMoE, Eq. 3): tokens are sure."""
    entropies = [_entropy(probability_tE).mean() for probability_tE in _by_modality(decision)]
    return torch.stack(entropies).mean()


def global_entropy(decision: Decision, least_experts: float) -> Tensor:
    """Mean over modalities of max(0, log S - entropy of the mean probabilities) (LIMoE, Eq. 4 and its threshold).

    0 once a modality uses at least S experts, softly counted.
    """
    entropies = [_entropy(probability_tE.mean(dim=0)) for probability_tE in _by_modality(decision)]
    return (math.log(least_experts) - torch.stack(entropies)).clamp(min=0.0).mean()


LOSSES: Mapping[str, Callable[[Decision], Tensor]] = {
    "switch": switch,
    "importance": importance,
    "load": load,
    "z": z,
    "local_entropy": local_entropy,
}


def balance_terms(
    decisions: Sequence[Decision], coefficients: Mapping[str, float], least_experts: float
) -> dict[str, Tensor]:
    """Named loss terms: each loss averaged over the decisions made token by token, times its coefficient.

    Args:
        coefficients: of the losses in `LOSSES` and of "global_entropy"; 0 leaves one out.
    """
    by_token = [decision for decision in decisions if decision.segment_T is not None and bool(_valid(decision).any())]
    if not by_token:
        return {}
    losses = {**LOSSES, "global_entropy": lambda decision: global_entropy(decision, least_experts)}
    return {
        name: coefficient * torch.stack([losses[name](decision) for decision in by_token]).mean()
        for name, coefficient in coefficients.items()
        if coefficient
    }


def moved_bias(bias_E: Tensor, count_E: Tensor, rate: float) -> Tensor:
    """The selection bias after a step: up by `rate` where an expert got less than the mean, down where more.

    The change is centred, so that the bias stays around 0 (auxiliary-loss-free balancing, DeepSeek-V3).
    """
    count_E = count_E.float()
    change_E = rate * torch.sign(count_E.mean() - count_E)
    return bias_E + change_E - change_E.mean()


def _valid(decision: Decision) -> Tensor:
    assert decision.segment_T is not None, "a condition of segments has no tokens to balance"
    return decision.segment_T >= 0


def _clean(decision: Decision) -> Tensor:
    """The logits without noise."""
    return decision.logit_TE if decision.noise_TE is None else decision.logit_TE - decision.noise_TE


def _variation(value_E: Tensor) -> Tensor:
    """(standard deviation / mean) squared."""
    return value_E.var(correction=0) / value_E.mean().square().clamp(min=_TINY)


def _entropy(probability: Tensor) -> Tensor:
    return -(probability * (probability + _TINY).log()).sum(dim=-1)


def _by_modality(decision: Decision) -> list[Tensor]:
    """Probabilities of the tokens of each modality, (t, E) each; modalities without a token are left out."""
    assert decision.segment_T is not None
    probabilities = []
    for kind in dict.fromkeys(segment.kind for segment in decision.segments):
        indices = [index for index, segment in enumerate(decision.segments) if segment.kind == kind]
        of_kind_T = torch.isin(decision.segment_T, torch.tensor(indices, device=decision.segment_T.device))
        if bool(of_kind_T.any()):
            probabilities.append(decision.probability_TE[of_kind_T])
    return probabilities
