"""PROPOSALS, THINGS -> LOSS TERMS: objectness, boxes and masks of every layer, and the class of each proposal.

Shape suffixes beside those of `records`: Q queries, G things of a picture, P pairs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from uniperceiver.boxes import areas, corners_of, giou, iou, overlaps
from uniperceiver.precision import at_least_float32
from uniperceiver.records.regions import Denoised, ObjectnessTerm, Objects, ProposalLayer, Regions
from uniperceiver.tasks.localisation.match import BALANCE, FOCUS, MatchedThings, mask_like, pairs_of

# Weights of the terms (Mask DINO); only their ratios act where a method balances the tasks.
WEIGHTS: Mapping[str, float] = {"objectness": 1.0, "l1": 5.0, "giou": 2.0, "mask": 5.0, "dice": 5.0}
_RARER = 0.75  # alpha of the varifocal loss, which weighs queries of nothing alone
_COVERED = 0.5  # share of a query's box within a crowd from which on it is neither right nor wrong


@dataclass(frozen=True, kw_only=True)
class Located:
    """How well the proposals of a batch lie, and what the last of them are."""

    terms: Mapping[str, Tensor]  # weighted; objectness, l1, giou, with masks mask and dice, with noise denoised
    class_BN: Tensor  # int64, the class of the thing that each token was taken for; -1: of none
    none_BN: Tensor  # bool, which tokens were taken for no thing and lie in no crowd


def focal(logit_BQ: Tensor, target_BQ: Tensor) -> Tensor:
    """Sigmoid focal loss of every element (Lin et al., 2017, Eq. 5), alpha 0.25 and gamma 2."""
    probability_BQ = logit_BQ.sigmoid()
    right_BQ = torch.where(target_BQ > 0, probability_BQ, 1 - probability_BQ)
    alpha_BQ = torch.where(target_BQ > 0, BALANCE, 1 - BALANCE)
    nll_BQ = F.binary_cross_entropy_with_logits(logit_BQ, target_BQ, reduction="none")
    return alpha_BQ * (1 - right_BQ) ** FOCUS * nll_BQ


def varifocal(logit_BQ: Tensor, target_BQ: Tensor) -> Tensor:
    """Varifocal loss of every element (Zhang et al., 2021, Eq. 2), alpha 0.75 and gamma 2.

    Args:
        target_BQ: how far a query overlaps the thing that it was taken for; 0 where it was taken for none.
    """
    nll_BQ = F.binary_cross_entropy_with_logits(logit_BQ, target_BQ, reduction="none")
    weight_BQ = torch.where(target_BQ > 0, target_BQ, _RARER * logit_BQ.sigmoid() ** FOCUS)
    return weight_BQ * nll_BQ


def localise(regions: Regions, objects: Objects, objectness: ObjectnessTerm = "focal") -> Located:
    """Pair the proposals of every layer with the things, and say how far they are from them.

    Every term is divided by the number of things in the batch (1 at least) and added up over the layers. A batch
    without things has the objectness alone; its other terms are 0 with a gradient of 0, so that every parameter has
    a gradient in every step. (Uni-Perceiver v2, Sec. 4.1; costs and weights of Mask DINO, Sec. 3 and its code.)

    Args:
        objectness: focal: a pair is 1; iou: it is as much as the two overlap (RT-DETR).
    """
    pairs = pairs_of(regions.layers, objects)
    things = objects.single_BG.sum().clamp(min=1)
    terms: dict[str, Tensor] = {}
    for layer, layer_pairs in zip(regions.layers, pairs, strict=True):
        for name, term in _layer_terms(layer, layer_pairs, objects, objectness).items():
            weighted = WEIGHTS[name] * term / things
            terms[name] = terms[name] + weighted if name in terms else weighted
    if regions.denoised is not None:
        terms["denoised"] = denoised_term(regions.denoised, objects, objectness)
    last = pairs[-1]
    class_BQ = torch.full_like(regions.layers[-1].objectness_BQ, -1, dtype=torch.int64)
    class_BQ[last.row_P, last.query_P] = objects.class_BG[last.row_P, last.thing_P]
    none_BQ = ~_in_crowd(at_least_float32(regions.layers[-1].box_BQ4.detach()), objects)
    none_BQ[last.row_P, last.query_P] = False
    chosen_BN = regions.chosen_BN
    return Located(terms=terms, class_BN=class_BQ.gather(1, chosen_BN), none_BN=none_BQ.gather(1, chosen_BN))


def denoised_term(denoised: Denoised, objects: Objects, objectness: ObjectnessTerm = "focal") -> Tensor:
    """The weighted sum of all terms of noised queries; each knows its thing, or that it is none (DINO, Sec. 3.3).

    As every thing is there once in a group, it is divided by the number of things and that of groups.
    """
    row_P, query_P = ((denoised.thing_BM >= 0) & denoised.real_BM).nonzero(as_tuple=True)
    pairs = MatchedThings(row_P=row_P, query_P=query_P, thing_P=denoised.thing_BM[row_P, query_P])
    things = objects.single_BG.sum().clamp(min=1)
    weighted = [
        WEIGHTS[name] * term
        for layer in denoised.layers
        for name, term in _layer_terms(layer, pairs, objects, objectness, denoised.real_BM).items()
    ]
    return torch.stack(weighted).sum() / (things * denoised.groups)


def _layer_terms(
    layer: ProposalLayer,
    pairs: MatchedThings,
    objects: Objects,
    objectness: ObjectnessTerm,
    real_BQ: Tensor | None = None,
) -> dict[str, Tensor]:
    """The terms of one layer, added up over its queries or pairs.

    Args:
        real_BQ: bool, False: a query that is only padding.
    """
    at, of = (pairs.row_P, pairs.query_P), (pairs.row_P, pairs.thing_P)
    box_BQ4, logit_BQ = at_least_float32(layer.box_BQ4), at_least_float32(layer.objectness_BQ)
    target_BQ = torch.zeros_like(logit_BQ)
    target_BQ[at] = 1.0
    counted_BQ = (target_BQ > 0) | ~_in_crowd(box_BQ4.detach(), objects)
    if real_BQ is not None:
        counted_BQ = counted_BQ & real_BQ
    box_P4, truth_P4 = box_BQ4[at], objects.box_BG4[of]
    if objectness == "iou":
        target_BQ[at] = iou(corners_of(box_P4.detach()), corners_of(truth_P4))
    loss_BQ = focal(logit_BQ, target_BQ) if objectness == "focal" else varifocal(logit_BQ, target_BQ)
    terms = {
        "objectness": (loss_BQ * counted_BQ).sum(),
        "l1": (box_P4 - truth_P4).abs().sum(),
        "giou": (1 - giou(corners_of(box_P4), corners_of(truth_P4))).sum(),
    }
    if layer.mask_BQHW is not None and objects.mask_BGHW is not None:
        assert objects.has_mask_BG is not None
        logit_PHW, has_P = at_least_float32(layer.mask_BQHW[at]), objects.has_mask_BG[of]
        truth_PHW = mask_like(objects.mask_BGHW[of][None], logit_PHW[None])[0]
        terms["mask"] = (binary_distance(logit_PHW, truth_PHW) * has_P).sum()
        terms["dice"] = (dice_distance(logit_PHW, truth_PHW) * has_P).sum()
    return terms


def binary_distance(logit_PHW: Tensor, truth_PHW: Tensor) -> Tensor:
    """Mean binary cross-entropy over the pixels of every mask, (P,)."""
    return F.binary_cross_entropy_with_logits(logit_PHW, truth_PHW, reduction="none").flatten(1).mean(dim=1)


def dice_distance(logit_PHW: Tensor, truth_PHW: Tensor) -> Tensor:
    """1 - (2 |p t| + 1) / (|p| + |t| + 1) of every mask, (P,) (Milletari et al., 2016, with a one on both sides)."""
    share_PX, truth_PX = logit_PHW.sigmoid().flatten(1), truth_PHW.flatten(1)
    return 1 - (2 * (share_PX * truth_PX).sum(dim=1) + 1) / (share_PX.sum(dim=1) + truth_PX.sum(dim=1) + 1)


def _in_crowd(box_BQ4: Tensor, objects: Objects) -> Tensor:
    """Which boxes lie in a crowd by more than half of themselves, (B, Q) bool."""
    corner_BQ4, corner_BG4 = corners_of(box_BQ4), corners_of(objects.box_BG4)
    shared_BQG, _ = overlaps(corner_BQ4[:, :, None], corner_BG4[:, None])
    covered_BQG = shared_BQG > _COVERED * areas(corner_BQ4)[..., None]
    return (covered_BQG & (objects.known_BG & objects.crowd_BG)[:, None]).any(dim=2)
