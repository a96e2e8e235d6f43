"""The cheapest pairs of proposals and things: against all permutations, and the costs against formulas written out."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from uniperceiver.records.regions import Objects, ProposalLayer
from uniperceiver.tasks.localisation import match


def make_objects(
    rows: int, things: int, counts: list[int], seed: int = 0, crowd: tuple[tuple[int, int], ...] = ()
) -> Objects:
    stream = torch.Generator().manual_seed(seed)
    box_BG4 = torch.rand(rows, things, 4, generator=stream) * 0.4 + 0.2
    known_BG = torch.arange(things) < torch.tensor(counts)[:, None]
    crowd_BG = torch.zeros(rows, things, dtype=torch.bool)
    for row, thing in crowd:
        crowd_BG[row, thing] = True
    class_BG = torch.where(known_BG, torch.randint(0, 3, (rows, things), generator=stream), -1)
    return Objects(box_BG4=box_BG4, class_BG=class_BG, known_BG=known_BG, crowd_BG=crowd_BG)


def make_layer(rows: int, queries: int, seed: int = 1, masks: int | None = None) -> ProposalLayer:
    stream = torch.Generator().manual_seed(seed)
    return ProposalLayer(
        objectness_BQ=torch.randn(rows, queries, generator=stream),
        box_BQ4=torch.rand(rows, queries, 4, generator=stream) * 0.4 + 0.2,
        mask_BQHW=None if masks is None else torch.randn(rows, queries, masks, masks, generator=stream),
    )


def cheapest(cost_QG: Tensor) -> float:
    """The least cost of pairing all things, or all queries, by trying everything."""
    if cost_QG.shape[0] < cost_QG.shape[1]:
        cost_QG = cost_QG.T
    queries, things = cost_QG.shape
    return min(
        sum(cost_QG[query, thing].item() for thing, query in enumerate(chosen))
        for chosen in itertools.permutations(range(queries), things)
    )


@pytest.mark.parametrize(("queries", "things"), [(5, 3), (4, 4), (3, 5), (6, 1)])
def test_pairs_cost_as_little_as_any_pairs_can(queries: int, things: int) -> None:
    for seed in range(20):
        layer, objects = make_layer(2, queries, seed), make_objects(2, things, [things, max(1, things - 1)], seed + 50)
        pairs = match.pairs_of([layer], objects)[0]
        cost_BQG = match.costs(layer, objects)
        for row, count in enumerate([things, max(1, things - 1)]):
            chosen = pairs.row_P == row
            query_P, thing_P = pairs.query_P[chosen], pairs.thing_P[chosen]
            assert len(query_P) == min(queries, count)
            assert len(query_P.unique()) == len(query_P)
            assert len(thing_P.unique()) == len(thing_P)
            assert (thing_P < count).all()
            total = cost_BQG[row, query_P, thing_P].sum().item()
            assert total == pytest.approx(cheapest(cost_BQG[row, :, :count]), abs=1e-5)


def test_the_order_of_things_and_queries_changes_nothing_but_numbers() -> None:
    layer, objects = make_layer(1, 6), make_objects(1, 4, [4])
    pairs = match.pairs_of([layer], objects)[0]
    turned_q, turned_g = torch.tensor([3, 0, 5, 1, 4, 2]), torch.tensor([2, 3, 0, 1])
    other = match.pairs_of(
        [ProposalLayer(objectness_BQ=layer.objectness_BQ[:, turned_q], box_BQ4=layer.box_BQ4[:, turned_q])],
        Objects(
            box_BG4=objects.box_BG4[:, turned_g],
            class_BG=objects.class_BG[:, turned_g],
            known_BG=objects.known_BG,
            crowd_BG=objects.crowd_BG,
        ),
    )[0]
    there = set(zip(turned_q[other.query_P].tolist(), turned_g[other.thing_P].tolist(), strict=True))
    assert there == set(zip(pairs.query_P.tolist(), pairs.thing_P.tolist(), strict=True))


def test_crowds_padding_and_empty_pictures_are_never_paired() -> None:
    layer, objects = make_layer(3, 5), make_objects(3, 3, [3, 0, 2], crowd=((0, 1),))
    pairs = match.pairs_of([layer], objects)[0]
    assert sorted(zip(pairs.row_P.tolist(), pairs.thing_P.tolist(), strict=True)) == [(0, 0), (0, 2), (2, 0), (2, 1)]


def test_all_layers_are_paired_with_their_own_number_of_queries() -> None:
    objects = make_objects(2, 3, [3, 2])
    layers = [make_layer(2, 9, 1), make_layer(2, 4, 2), make_layer(2, 5, 3)]
    together = match.pairs_of(layers, objects)
    for layer, pairs in zip(layers, together, strict=True):
        alone = match.pairs_of([layer], objects)[0]
        assert pairs.query_P.tolist() == alone.query_P.tolist()
        assert pairs.thing_P.tolist() == alone.thing_P.tolist()


def test_a_broken_prediction_is_the_worst_of_pairs_and_no_error() -> None:
    layer, objects = make_layer(1, 3), make_objects(1, 2, [2])
    layer.box_BQ4[0, 1] = math.nan
    assert 1 not in match.pairs_of([layer], objects)[0].query_P.tolist()


def test_costs_are_the_formulas_of_mask_dino() -> None:
    layer, objects = make_layer(1, 2, masks=3), make_objects(1, 2, [2])
    mask_BGHW = torch.tensor([[[[1, 1, 0], [0, 1, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 1], [0, 1, 1]]]]).bool()
    objects = Objects(
        box_BG4=objects.box_BG4,
        class_BG=objects.class_BG,
        known_BG=objects.known_BG,
        crowd_BG=objects.crowd_BG,
        mask_BGHW=mask_BGHW,
        has_mask_BG=torch.tensor([[True, False]]),
    )
    cost_QG = match.costs(layer, objects)[0]
    assert layer.mask_BQHW is not None
    for query, thing in itertools.product(range(2), range(2)):
        p = 1 / (1 + math.exp(-layer.objectness_BQ[0, query].item()))
        expected = 2 * (0.25 * (1 - p) ** 2 * -math.log(p) - 0.75 * p**2 * -math.log(1 - p))
        box, truth = layer.box_BQ4[0, query].tolist(), objects.box_BG4[0, thing].tolist()
        expected += 5 * sum(abs(a - b) for a, b in zip(box, truth, strict=True)) - 2 * giou_by_hand(box, truth)
        if thing == 0:
            share = layer.mask_BQHW[0, query].sigmoid().flatten().tolist()
            pixels = mask_BGHW[0, thing].float().flatten().tolist()
            pixel_pairs = list(zip(share, pixels, strict=True))
            expected += 5 * sum(-(t * math.log(s) + (1 - t) * math.log(1 - s)) for s, t in pixel_pairs) / 9
            shared = sum(s * t for s, t in pixel_pairs)
            expected += 5 * (1 - (2 * shared + 1) / (sum(share) + sum(pixels) + 1))
        assert cost_QG[query, thing].item() == pytest.approx(expected, abs=1e-5)


def giou_by_hand(first: list[float], second: list[float]) -> float:
    (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = (
        (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2) for cx, cy, w, h in (first, second)
    )
    shared = max(0.0, min(ax1, bx1) - max(ax0, bx0)) * max(0.0, min(ay1, by1) - max(ay0, by0))
    union = (ax1 - ax0) * (ay1 - ay0) + (bx1 - bx0) * (by1 - by0) - shared
    around = (max(ax1, bx1) - min(ax0, bx0)) * (max(ay1, by1) - min(ay0, by0))
    return shared / union - (around - union) / around


def test_a_cost_of_large_masks_looks_at_evenly_taken_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = torch.Generator().manual_seed(3)
    logit_BQHW = torch.randn(1, 2, 6, 6, generator=stream)
    mask_BGHW = (torch.rand(1, 3, 6, 6, generator=stream) > 0.5).float()
    monkeypatch.setattr(match, "_PIXELS", 12)
    taken = match.mask_cost(logit_BQHW, mask_BGHW)
    monkeypatch.setattr(match, "_PIXELS", 36)
    every_third = match.mask_cost(
        logit_BQHW.flatten(2)[..., ::3].unsqueeze(2), mask_BGHW.flatten(2)[..., ::3].unsqueeze(2)
    )
    assert torch.allclose(taken, every_third)
    assert not torch.allclose(taken, match.mask_cost(logit_BQHW, mask_BGHW))
