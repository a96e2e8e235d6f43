"""PROPOSALS -> DETECTIONS, with arrays: as `tasks/localisation/detections.py` does it with tensors.

Shape suffixes: N proposals of a picture, K names, X names and the background, M detections, H W pixels.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from uniperceiver.data.media.geometry import PictureWindow
from uniperceiver.data.media.objects import framed
from uniperceiver.data.media.pixels import Preprocess
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample
from uniperceiver.records.exported import ExportedTask
from uniperceiver.records.regions import Detections, PictureThings, in_picture


def seen(samples: Sequence[Sample], view: Preprocess) -> Iterator[Sample]:
    """The samples with the view of their pictures, and which part of the picture that is.

    Raises:
        UserError: one of them cannot be decoded.
    """
    for sample in samples:
        try:
            yield framed(sample, view, None, None)
        except BrokenSample as error:
            raise UserError(f"{error}; give another file") from None


def detections_of(
    asked: ExportedTask,
    picture: PictureThings,
    proposals: Sequence[np.ndarray],
    c_XD: np.ndarray,
    names: Sequence[str],
    *,
    least: float,
    most: int,
    masks: bool,
) -> Detections:
    """The best (proposal, name) pairs of a picture, in its pixels.

    Args:
        proposals: of the picture: unit representations (N, D), objectness (N,), corners (N, 4) and perhaps masks.
        c_XD: representations of the names, and of the background behind them where that is one of the candidates.
    """
    z_ND, objectness_N, share_N4, *mask_NHW = proposals
    logits_NX = (z_ND * np.float32(asked.scale)) @ c_XD.T + np.float32(asked.name_bias)
    score_NK = _scores(logits_NX, objectness_N, asked.class_term)
    order_M = np.argsort(-score_NK, axis=None, kind="stable")[:most]
    order_M = order_M[score_NK.flat[order_M] >= np.float32(least)]
    proposal_M, class_M = np.divmod(order_M, len(names))
    return Detections(
        size=picture.size,
        boxes=in_picture(share_N4[proposal_M], picture),
        scores=score_NK[proposal_M, class_M],
        classes=class_M.astype(np.int64),
        names=names,
        masks=_masks(mask_NHW[0], proposal_M, picture) if masks else None,
    )


def _scores(logits_NX: np.ndarray, objectness_N: np.ndarray, term: str) -> np.ndarray:
    """As `tasks/localisation/classes.py::class_scores`."""
    if term == "sigmoid":
        return _sigmoid(logits_NX)
    likely_NX = np.exp(logits_NX - logits_NX.max(axis=1, keepdims=True))
    share_NX = likely_NX / likely_NX.sum(axis=1, keepdims=True)
    return share_NX[:, :-1] if term == "background" else _sigmoid(objectness_N)[:, None] * share_NX


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.float32(1) / (np.float32(1) + np.exp(-x))


def _masks(mask_NHW: np.ndarray, proposal_M: np.ndarray, picture: PictureThings) -> np.ndarray:
    """The masks of proposals in the pixels of the picture, (M, H, W) bool."""
    left, top, right, bottom = (round(side) for side in picture.window)
    window = PictureWindow(left=left, top=top, right=right, bottom=bottom)
    of_proposal = {
        proposal: window.picture_mask(mask_NHW[proposal], *picture.size) for proposal in set(proposal_M.tolist())
    }
    return np.array([of_proposal[proposal] for proposal in proposal_M.tolist()], dtype=bool).reshape(-1, *picture.size)
