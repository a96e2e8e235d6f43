"""PROPOSALS, LIKELIHOOD -> DETECTIONS: the best (proposal, label) pairs, in the pixels of the picture.

Shape suffixes beside those of `records`: M detections.
"""

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from uniperceiver.boxes import corners_of
from uniperceiver.records.regions import (
    MOST,
    ClassTerm,
    Detections,
    PictureThings,
    ProposalLayer,
    Regions,
    in_picture,
)
from uniperceiver.tasks.localisation.classes import class_scores


def detections_of(
    logits_RX: Tensor,
    regions: Regions,
    pictures: Sequence[PictureThings],
    names: Sequence[str],
    most: int = MOST,
    term: ClassTerm = "softmax",
    *,
    least: float = 0.0,
    masks: bool = True,
) -> list[Detections]:
    """What was found in each picture, best first; boxes are clipped to the picture.

    The score of a proposal for a label is sigma(objectness) x P(label | proposal), or what `class_scores` says of
    another term; the best `most` of all such pairs are taken, without suppressing those that overlap, as in the DETR
    family.

    Args:
        logits_RX: of every label at every proposal, R = pictures x proposals; of the background behind them, with it.
        names: of the K labels.
        most: detections of a picture.
        term: how names were learnt (Task.class_term).
        least: score below which a pair is left out.
        masks: whether masks are made, where the model has them: each is as large as the picture.
    """
    last, (rows, proposals) = regions.layers[-1], regions.chosen_BN.shape
    objectness_BN = last.objectness_BQ.float().gather(1, regions.chosen_BN)
    score_BNK = class_scores(logits_RX.view(rows, proposals, -1), objectness_BN, term)
    best_BM, pair_BM = score_BNK.flatten(1).topk(min(most, score_BNK[0].numel()), dim=1)
    query_BM = regions.chosen_BN.gather(1, pair_BM // len(names))
    box_BM4 = corners_of(last.box_BQ4.float().gather(1, query_BM[..., None].expand(-1, -1, 4)))
    detections = []
    for row, picture in enumerate(pictures):
        scores = best_BM[row].cpu().numpy()
        count = int((scores >= np.float32(least)).sum())  # they fall
        detections.append(
            Detections(
                size=picture.size,
                boxes=in_picture(box_BM4[row, :count].cpu().numpy(), picture),
                scores=scores[:count],
                classes=(pair_BM[row, :count] % len(names)).cpu().numpy(),
                names=names,
                masks=_masks_in_picture(last, row, query_BM[row, :count], picture) if masks else None,
            )
        )
    return detections


def _masks_in_picture(layer: ProposalLayer, row: int, query_M: Tensor, picture: PictureThings) -> np.ndarray | None:
    """The masks of some queries in the pixels of the picture, (M, H, W) bool: logits interpolated, then cut at 0."""
    if layer.mask_BQHW is None:
        return None
    height, width = picture.size
    left, top, right, bottom = (round(side) for side in picture.window)
    mask_MHW = np.zeros((len(query_M), height, width), dtype=bool)
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, right), min(height, bottom)
    first = dict[int, int]()  # place of a query, which may stand under several names
    for place, query in enumerate(query_M.tolist()):  # one by one: a hundred large ones at once are gigabytes
        if (earlier := first.setdefault(query, place)) != place:
            mask_MHW[place] = mask_MHW[earlier]
            continue
        logit_HW = layer.mask_BQHW[row, query].float()[None, None]
        seen_HW = F.interpolate(logit_HW, size=(bottom - top, right - left), mode="bilinear", align_corners=False)[0, 0]
        inside_HW = (seen_HW > 0).cpu().numpy()
        mask_MHW[place, y0:y1, x0:x1] = inside_HW[y0 - top : y1 - top, x0 - left : x1 - left]
    return mask_MHW
