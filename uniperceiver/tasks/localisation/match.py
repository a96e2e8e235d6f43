"""PROPOSALS x THINGS -> PAIRS: what it costs to take a proposal for a thing, and the cheapest pairs.

Shape suffixes beside those of `records`: Q queries, G things of a picture, P pairs, X pixels of a mask in one row.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from uniperceiver.boxes import corners_of, giou
from uniperceiver.errors import UserError
from uniperceiver.precision import at_least_float32
from uniperceiver.records.regions import Objects, ProposalLayer

BALANCE, FOCUS = 0.25, 2.0  # alpha and gamma of the focal loss (Lin et al., 2017), as all of the DETR family have them
OBJECTNESS, L1, GIOU, MASK, DICE = 2.0, 5.0, 2.0, 5.0, 5.0  # weights of the cost, those of Mask DINO for one class
_PIXELS = 12_544  # most pixels of a mask that a cost looks at, as many as Mask2Former draws


@dataclass(frozen=True, kw_only=True)
class MatchedThings:
    """Which query of a layer was taken for which thing; every query and thing at most once."""

    row_P: Tensor  # int64, the picture in the batch
    query_P: Tensor  # int64
    thing_P: Tensor  # int64, among the things of that picture


def objectness_cost(logit_BQ: Tensor) -> Tensor:
    """The focal loss of calling a query a thing, less that of calling it none (Deformable DETR's class cost)."""
    probability_BQ = logit_BQ.sigmoid()
    as_thing_BQ = BALANCE * (1 - probability_BQ) ** FOCUS * -F.logsigmoid(logit_BQ)
    as_none_BQ = (1 - BALANCE) * probability_BQ**FOCUS * -F.logsigmoid(-logit_BQ)
    return as_thing_BQ - as_none_BQ


def box_cost(box_BQ4: Tensor, box_BG4: Tensor) -> Tensor:
    """5 |b - b*|_1 - 2 GIoU of every query with every thing, (B, Q, G); boxes as centre and size."""
    distance_BQG = torch.cdist(box_BQ4, box_BG4, p=1)
    overlap_BQG = giou(corners_of(box_BQ4)[:, :, None], corners_of(box_BG4)[:, None])
    return L1 * distance_BQG - GIOU * overlap_BQG


def mask_cost(mask_BQHW: Tensor, mask_BGHW: Tensor) -> Tensor:
    """5 BCE + 5 dice of every query's mask with every thing's, (B, Q, G), over evenly taken pixels.

    Args:
        mask_BQHW: logits.
        mask_BGHW: 0 to 1, of the same size.
    """
    skip = -(-mask_BQHW[0, 0].numel() // _PIXELS)
    logit_BQX, truth_BGX = mask_BQHW.flatten(2)[..., ::skip], mask_BGHW.flatten(2)[..., ::skip]
    # The mean over pixels of softplus(x) - x t, a product of matrices for all pairs at once.
    product_BQG = logit_BQX @ truth_BGX.transpose(1, 2)
    bce_BQG = (F.softplus(logit_BQX).sum(dim=2)[..., None] - product_BQG) / logit_BQX.shape[2]
    share_BQX = logit_BQX.sigmoid()
    shared_BQG = share_BQX @ truth_BGX.transpose(1, 2)
    dice_BQG = 1 - (2 * shared_BQG + 1) / (share_BQX.sum(2)[..., None] + truth_BGX.sum(2)[:, None] + 1)
    return MASK * bce_BQG + DICE * dice_BQG


def mask_like(mask_BGHW: Tensor, logit_BQHW: Tensor) -> Tensor:
    """The masks of things in the size of predicted ones, 0 to 1: the share of each pixel that they cover."""
    size = logit_BQHW.shape[-2:]
    mask_BGHW = mask_BGHW.to(logit_BQHW.dtype)
    return mask_BGHW if mask_BGHW.shape[-2:] == size else F.interpolate(mask_BGHW, size=size, mode="area")


@torch.no_grad()
def costs(layer: ProposalLayer, objects: Objects) -> Tensor:
    """What it costs to take each query of a layer for each thing, (B, Q, G) float32; classes are no matter."""
    cost_BQG = OBJECTNESS * objectness_cost(at_least_float32(layer.objectness_BQ))[..., None]
    cost_BQG = cost_BQG + box_cost(at_least_float32(layer.box_BQ4), objects.box_BG4)
    if layer.mask_BQHW is not None and objects.mask_BGHW is not None:
        logit_BQHW = at_least_float32(layer.mask_BQHW)
        cost_of_masks_BQG = mask_cost(logit_BQHW, mask_like(objects.mask_BGHW, logit_BQHW))
        assert objects.has_mask_BG is not None
        cost_BQG = cost_BQG + cost_of_masks_BQG * objects.has_mask_BG[:, None]
    return cost_BQG


def pairs_of(layers: Sequence[ProposalLayer], objects: Objects) -> list[MatchedThings]:
    """The cheapest pairs of queries and things for each layer, each thing and each query at most once.

    Crowds are never paired. Where there are more things than queries, the dearest things stay without. All costs
    travel to the processor at once, as a device is waited for each time.

    Raises:
        UserError: scipy is missing.
    """
    all_costs = [costs(layer, objects) for layer in layers]
    queries = [cost_BQG.shape[1] for cost_BQG in all_costs]
    cost_BQG = torch.cat(all_costs, dim=1).cpu()
    single_BG = objects.single_BG.cpu()
    paired = [_assigned(layer_BQG, single_BG) for layer_BQG in cost_BQG.split(queries, dim=1)]
    device = objects.box_BG4.device
    return [
        MatchedThings(row_P=row.to(device), query_P=query.to(device), thing_P=thing.to(device))
        for row, query, thing in paired
    ]


def _assigned(cost_BQG: Tensor, single_BG: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, queries and things of the cheapest pairs."""
    try:
        from scipy.optimize import linear_sum_assignment  # an extra: 35 MB that only detection needs
    except ModuleNotFoundError:
        raise UserError(
            "detection pairs proposals with things by scipy, which is missing; pip install 'uniperceiver[detection]'"
        ) from None
    rows, queries, things = [], [], []
    for row, (cost_QG, single_G) in enumerate(zip(cost_BQG, single_BG, strict=True)):
        thing_S = single_G.nonzero()[:, 0]
        # What is not finite is the worst pair there is: the loss of such a batch is refused by name later.
        worst = torch.finfo(cost_QG.dtype).max / 1e6
        cost_QS = cost_QG[:, thing_S].double().nan_to_num(nan=worst, posinf=worst, neginf=worst)
        query, place = linear_sum_assignment(cost_QS.numpy())
        rows.append(torch.full((len(query),), row))
        queries.append(torch.from_numpy(query))
        things.append(thing_S[torch.from_numpy(place)])
    return torch.cat(rows), torch.cat(queries), torch.cat(things)
