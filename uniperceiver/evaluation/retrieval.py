"""Retrieval between images (or clips) and captions, several captions per image.

Shape suffixes: I images, C captions, G different caption texts, Q queries and K candidates (either way round).
"""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from uniperceiver.evaluation.metrics import hit_probability

RANKS = (1, 5, 10)


def retrieval_hits(
    similarity_IC: Tensor,
    owner_C: Tensor,
    texts: Sequence[Hashable] | None = None,
    *,
    ranks: Sequence[int] = RANKS,
    chunk: int = 1024,
) -> dict[str, Tensor]:
    """Per query the probability of a right candidate among the best k, ties broken at random.

    `owner_C` is each caption's image. A caption is right for every image that has a caption of equal text;
    `texts` may be strings or ids, None means that all differ. Constant similarities give chance; a query
    with a NaN hits nothing.

    Returns "i2t_recall@k" -> (I,) and "t2i_recall@k" -> (C,), float64.

    Raises:
        ValueError: shapes do not fit, or an image has no caption.
    """
    has_IG, group_C = _texts_of_images(similarity_IC.shape[0], owner_C, texts, similarity_IC.device)
    if similarity_IC.shape[1] != len(group_C):
        raise ValueError(f"retrieval: {similarity_IC.shape[1]} columns for {len(group_C)} captions")
    hits: dict[str, list[Tensor]] = {f"{way}_recall@{k}": [] for way in ("i2t", "t2i") for k in ranks}
    for part_IC, images in zip(similarity_IC.split(chunk), has_IG.split(chunk), strict=True):
        _append(hits, "i2t", ranks, part_IC, images[:, group_C])
    for part_IC, group in zip(similarity_IC.split(chunk, dim=1), group_C.split(chunk), strict=True):
        _append(hits, "t2i", ranks, part_IC.T, has_IG[:, group].T)
    return {name: torch.cat(parts) for name, parts in hits.items()}


def retrieval_chance(
    images: int, owner_C: Tensor, texts: Sequence[Hashable] | None = None, *, ranks: Sequence[int] = RANKS
) -> dict[str, float]:
    """Expected recall of a random ranking: 1 - C(n - m, k) / C(n, k) for m right ones among n candidates.

    With one right candidate per query that is k / n. Errors as in `retrieval_hits`.
    """
    has_IG, group_C = _texts_of_images(images, owner_C, texts, torch.device("cpu"))
    right = {"i2t": has_IG.double() @ torch.bincount(group_C).double(), "t2i": has_IG.sum(0)[group_C]}
    chance = {}
    for way, right_Q in right.items():
        all_Q = torch.full_like(right_Q, len(group_C) if way == "i2t" else images)
        for k in ranks:
            chance[f"{way}_recall@{k}"] = float(hit_probability(torch.zeros_like(all_Q), all_Q, right_Q, k).mean())
    return chance


def retrieval_loss(logits_IC: Tensor, owner_C: Tensor, texts: Sequence[Hashable] | None = None) -> Tensor:
    """Sum of the two cross entropies, image to text and text to image; the right candidates share the target equally.

    `logits_IC` are scaled similarities. Raises ValueError as `retrieval_hits`.
    """
    has_IG, group_C = _texts_of_images(logits_IC.shape[0], owner_C, texts, logits_IC.device)
    right_IC = has_IG[:, group_C]
    ways = ((logits_IC, right_IC), (logits_IC.T, right_IC.T))
    return torch.stack([_cross_entropy(logits_QK.float(), right_QK) for logits_QK, right_QK in ways]).sum()


def _cross_entropy(logits_QK: Tensor, right_QK: Tensor) -> Tensor:
    log_likelihood_QK = torch.where(right_QK, logits_QK.log_softmax(-1), 0)
    return -(log_likelihood_QK.sum(-1) / right_QK.sum(-1)).mean()


def _append(hits: dict[str, list[Tensor]], way: str, ranks: Sequence[int], score_QK: Tensor, right_QK: Tensor) -> None:
    best_Q1 = score_QK.masked_fill(~right_QK, -torch.inf).amax(1, keepdim=True)
    tied_QK = score_QK == best_Q1
    above_Q = (score_QK > best_Q1).sum(1)
    for k in ranks:
        hit_Q = hit_probability(above_Q, tied_QK.sum(1), (tied_QK & right_QK).sum(1), k)
        hits[f"{way}_recall@{k}"].append(hit_Q * ~score_QK.isnan().any(1))


def _texts_of_images(
    images: int, owner_C: Tensor, texts: Sequence[Hashable] | None, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Which image has which text, (I, G) bool, and which text a caption is, (C,) int64."""
    texts = range(len(owner_C)) if texts is None else texts
    if len(texts) != len(owner_C):
        raise ValueError(f"retrieval: {len(texts)} texts for {len(owner_C)} captions")
    if len(owner_C) == 0 or not 0 <= int(owner_C.min()) <= int(owner_C.max()) < images:
        raise ValueError(f"retrieval: each caption's image must lie in 0..{images - 1}, and there must be one")
    number: dict[Hashable, int] = {}
    group_C = torch.tensor([number.setdefault(text, len(number)) for text in texts], device=device)
    has_IG = torch.zeros(images, len(number), dtype=torch.bool, device=device)
    has_IG[owner_C.to(device), group_C] = True
    if not bool(has_IG.any(1).all()):
        raise ValueError(f"retrieval: image {int(has_IG.any(1).int().argmin())} has no caption; leave it out")
    return has_IG, group_C
