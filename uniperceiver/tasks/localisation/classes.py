"""PROPOSALS, NAMES -> LOSS, SCORE: three ways to learn which name a proposal has, and whether it has any.

    softmax     -log softmax_K(logits)[name] of paired proposals (Uni-Perceiver v2, Eq. 7); objectness refuses the rest
    sigmoid     sigmoid focal loss of every (proposal, name), as GLIP (arXiv 2112.03857) and Grounding DINO have it
    background  softmax over the names and a text for all that is none of them, which counts a tenth (DETR,
                arXiv 2005.12872)

Shape suffixes: B pictures, N proposals, R = B x N read-outs, K names, X names and the background.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from uniperceiver.precision import at_least_float32
from uniperceiver.records.regions import ClassTerm
from uniperceiver.tasks.localisation.criterion import focal
from uniperceiver.tasks.loss import cross_entropy

CLASS_TERMS: tuple[ClassTerm, ...] = ("softmax", "sigmoid", "background")

NONE = -2  # target of a proposal that was taken for no thing; -1: nobody knows, as elsewhere
_RARER = 0.1  # what a proposal of nothing weighs against one of a thing (DETR)


def class_targets(class_BN: Tensor, none_BN: Tensor, term: ClassTerm) -> Tensor:
    """What is right at every read-out, (R,) int64: a class, NONE, or -1 where nothing is asked.

    Args:
        class_BN: the class of the thing that each proposal was taken for; -1: of none.
        none_BN: bool, which were taken for no thing; those in a crowd neither have a class nor are none.
    """
    return (class_BN if term == "softmax" else class_BN.masked_fill(none_BN, NONE)).flatten()


def class_weight(target_R: Tensor, term: ClassTerm) -> Tensor:
    """What the loss of a batch is divided by, (): proposals of things, of background a tenth of the others, too."""
    things, others = (target_R >= 0).sum(), (target_R == NONE).sum()
    return things + _RARER * others.double() if term == "background" else things


def class_loss(logits_RX: Tensor, target_R: Tensor, term: ClassTerm, smoothing: float = 0.0) -> Tensor:
    """The class term of a batch, (); 0 with a gradient of 0 where nothing is asked.

    Args:
        logits_RX: of the names; with `background` of that text, too, behind them.
        target_R: of `class_targets`.
        smoothing: share of the target that is spread over all candidates; not with `sigmoid`.
    """
    if term == "softmax":
        return cross_entropy(logits_RX, target_R, smoothing)
    scores_RX, divisor = at_least_float32(logits_RX), class_weight(target_R, term)
    if term == "background":
        background = scores_RX.shape[1] - 1
        full_R = target_R.masked_fill(target_R == NONE, background)
        nll_R = F.cross_entropy(scores_RX, full_R, ignore_index=-1, reduction="none", label_smoothing=smoothing)
        weight_R = torch.ones_like(nll_R).masked_fill(full_R == background, _RARER)
        return (nll_R * weight_R).sum() / divisor.clamp(min=_RARER).to(nll_R.dtype)
    right_RX = (target_R[:, None] == torch.arange(scores_RX.shape[1], device=target_R.device)).to(scores_RX.dtype)
    return (focal(scores_RX, right_RX) * (target_R != -1)[:, None]).sum() / divisor.clamp(min=1)


def class_scores(logits_BNX: Tensor, objectness_BN: Tensor, term: ClassTerm) -> Tensor:
    """The probability that a proposal is a thing of that name, (B, N, K) float32.

    softmax: sigma(objectness) x P(name | proposal). The others tell things from nothing by themselves, so objectness
    only chooses the proposals: sigma(logit) with sigmoid; P(name | proposal) among names and background.

    Args:
        objectness_BN: logits.
    """
    logits_BNX = logits_BNX.float()
    if term == "sigmoid":
        return logits_BNX.sigmoid()
    share_BNX = logits_BNX.softmax(dim=-1)
    return share_BNX[..., :-1] if term == "background" else objectness_BN.sigmoid()[..., None] * share_BNX
