"""The loss terms of proposals: formulas written out, where gradients go, and pictures without things."""

import math
from dataclasses import replace

import pytest
import torch

from tests.tasks.localisation.test_match import giou_by_hand, make_layer, make_objects
from uniperceiver.boxes import corners_of, iou
from uniperceiver.records.regions import Denoised, Objects, ProposalLayer, Regions
from uniperceiver.tasks.localisation.criterion import binary_distance, dice_distance, focal, localise, varifocal


def make_regions(layers: list[ProposalLayer], tokens: int) -> Regions:
    chosen_BN = layers[-1].objectness_BQ.argsort(dim=1, descending=True)[:, :tokens]
    return Regions(layers=tuple(layers), chosen_BN=chosen_BN, start=1)


def test_terms_are_the_formulas() -> None:
    """A query far from others lies on a thing, so that the pairs are known."""
    objects = make_objects(1, 2, [1])
    box = objects.box_BG4[0, 0] + torch.tensor([0.02, -0.01, 0.05, 0.03])
    layer = ProposalLayer(
        objectness_BQ=torch.tensor([[-1.5, 0.5]]),
        box_BQ4=torch.stack([torch.tensor([0.05, 0.05, 0.02, 0.02]), box])[None],
    )
    located = localise(make_regions([layer, layer], 2), objects)
    none, thing = (1 / (1 + math.exp(-logit)) for logit in (-1.5, 0.5))
    focal_sum = 0.75 * none**2 * -math.log(1 - none) + 0.25 * (1 - thing) ** 2 * -math.log(thing)
    assert located.terms["objectness"].item() == pytest.approx(2 * focal_sum, rel=1e-5)
    assert located.terms["l1"].item() == pytest.approx(2 * 5 * 0.11, rel=1e-4)
    overlap = giou_by_hand(box.tolist(), objects.box_BG4[0, 0].tolist())
    assert located.terms["giou"].item() == pytest.approx(2 * 2 * (1 - overlap), rel=1e-4)
    assert located.class_BN.tolist() == [[int(objects.class_BG[0, 0]), -1]]


def test_terms_are_divided_by_the_things_of_the_batch() -> None:
    layer, objects = make_layer(2, 5), make_objects(2, 3, [3, 1])
    twice = localise(make_regions([layer], 5), objects).terms
    rows = [
        localise(
            make_regions([ProposalLayer(objectness_BQ=layer.objectness_BQ[row], box_BQ4=layer.box_BQ4[row])], 5),
            Objects(
                box_BG4=objects.box_BG4[row],
                class_BG=objects.class_BG[row],
                known_BG=objects.known_BG[row],
                crowd_BG=objects.crowd_BG[row],
            ),
        ).terms
        for row in (slice(0, 1), slice(1, 2))
    ]
    for name, term in twice.items():
        assert term.item() == pytest.approx((3 * rows[0][name].item() + rows[1][name].item()) / 4, rel=1e-5)


def test_focal_loss_has_the_gradient_of_its_formula() -> None:
    logit = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    target = (torch.rand(2, 5, generator=torch.Generator().manual_seed(1)) > 0.5).double()
    p = logit.sigmoid()
    written = torch.where(target > 0, 0.25 * (1 - p) ** 2 * -p.log(), 0.75 * p**2 * -(1 - p).log())
    assert torch.allclose(focal(logit, target), written, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(lambda x: focal(x, target), (logit,))


def test_varifocal_loss_has_the_gradient_of_its_formula() -> None:
    logit = torch.randn(2, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    target = torch.rand(2, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = target * (target > 0.4)
    assert 0 < (target > 0).sum() < 10
    p = logit.sigmoid()
    as_thing = target * -(target * p.log() + (1 - target) * (1 - p).log())
    written = torch.where(target > 0, as_thing, 0.75 * p**2 * -(1 - p).log())
    assert torch.allclose(varifocal(logit, target), written, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(lambda x: varifocal(x, target), (logit,))


def test_objectness_can_be_how_far_a_pair_overlaps() -> None:
    objects = make_objects(1, 1, [1])
    box = objects.box_BG4[0, 0] + torch.tensor([0.02, -0.01, 0.05, 0.03])
    far = torch.tensor([0.05, 0.05, 0.02, 0.02])
    logit_BQ = torch.tensor([[-1.5, 0.5]], requires_grad=True)
    box_BQ4 = torch.stack([far, box])[None].requires_grad_()
    regions = make_regions([ProposalLayer(objectness_BQ=logit_BQ, box_BQ4=box_BQ4)], 2)
    overlap = iou(corners_of(box), corners_of(objects.box_BG4[0, 0])).item()
    assert 0.2 < overlap < 0.95
    none, thing = (1 / (1 + math.exp(-logit)) for logit in (-1.5, 0.5))
    expected = 0.75 * none**2 * -math.log(1 - none)
    expected += overlap * -(overlap * math.log(thing) + (1 - overlap) * math.log(1 - thing))
    terms = localise(regions, objects, "iou").terms
    assert terms["objectness"].item() == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(terms["objectness"], box_BQ4, allow_unused=True, retain_graph=True)
    assert gradient is None  # the target is no way to move a box
    focal_terms = localise(regions, objects).terms
    assert all(torch.equal(term, focal_terms[name]) for name, term in terms.items() if name != "objectness")


def test_mask_distances_have_the_gradients_of_their_formulas() -> None:
    logit = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    truth = (torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)) > 0.4).double()
    p = logit.sigmoid().flatten(1)
    t = truth.flatten(1)
    bce = -(t * p.log() + (1 - t) * (1 - p).log()).mean(dim=1)
    dice = 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1)
    assert torch.allclose(binary_distance(logit, truth), bce, atol=1e-12, rtol=0)
    assert torch.allclose(dice_distance(logit, truth), dice, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(lambda x: binary_distance(x, truth), (logit,))
    assert torch.autograd.gradcheck(lambda x: dice_distance(x, truth), (logit,))


def test_pictures_without_things_leave_every_prediction_a_gradient() -> None:
    layer, objects = make_layer(2, 4, masks=3), make_objects(2, 1, [0, 0])
    objects = replace(
        objects, mask_BGHW=torch.zeros(2, 1, 3, 3, dtype=torch.bool), has_mask_BG=torch.zeros(2, 1, dtype=torch.bool)
    )
    values = [layer.objectness_BQ, layer.box_BQ4, layer.mask_BQHW]
    for value in values:
        assert value is not None
        value.requires_grad_()
    terms = localise(make_regions([layer], 3), objects).terms
    assert {name for name, term in terms.items() if term.item()} == {"objectness"}
    sum(terms.values()).backward()  # type: ignore[union-attr]
    objectness, box, mask = (value.grad for value in values if value is not None)
    assert objectness is not None
    assert objectness.abs().sum() > 0
    for still in (box, mask):
        assert still is not None
        assert not still.any()


def test_a_thing_without_a_mask_has_its_box_alone() -> None:
    layer, objects = make_layer(1, 4, masks=4), make_objects(1, 2, [2])
    mask_BGHW = torch.rand(1, 2, 8, 8, generator=torch.Generator().manual_seed(5)) > 0.5
    with_masks = replace(objects, mask_BGHW=mask_BGHW, has_mask_BG=torch.tensor([[False, False]]))
    terms = localise(make_regions([layer], 4), with_masks).terms
    assert terms["mask"].item() == terms["dice"].item() == 0
    assert terms["l1"].item() > 0
    one = replace(objects, mask_BGHW=mask_BGHW, has_mask_BG=torch.tensor([[True, False]]))
    assert localise(make_regions([layer], 4), one).terms["mask"].item() > 0


def test_what_lies_in_a_crowd_is_neither_right_nor_wrong() -> None:
    objects = make_objects(1, 1, [1], crowd=((0, 0),))
    inside, beside = objects.box_BG4[0, 0] * torch.tensor([1.0, 1.0, 0.5, 0.5]), torch.tensor([0.02, 0.02, 0.01, 0.01])
    layer = ProposalLayer(objectness_BQ=torch.zeros(1, 2), box_BQ4=torch.stack([inside, beside])[None])
    layer.objectness_BQ.requires_grad_()
    terms = localise(make_regions([layer], 2), objects).terms
    terms["objectness"].backward()
    assert layer.objectness_BQ.grad is not None
    assert layer.objectness_BQ.grad[0, 0].item() == 0
    assert layer.objectness_BQ.grad[0, 1].item() > 0


def test_classes_follow_the_tokens_and_not_the_queries() -> None:
    layer, objects = make_layer(1, 6), make_objects(1, 3, [3])
    every = localise(make_regions([layer], 6), objects).class_BN
    some = localise(make_regions([layer], 2), objects).class_BN
    assert every.shape == (1, 6)
    assert (every >= 0).sum() == 3
    assert some.tolist() == every[:, :2].tolist()


def test_noised_queries_shall_find_their_things_and_the_farther_ones_none() -> None:
    objects = make_objects(2, 2, [2, 1])
    layer = make_layer(2, 8)
    thing_BM = torch.tensor([0, -1, 1, -1] * 2).expand(2, 8)
    real_BM = torch.tensor([[True] * 8, [True, True, False, False] * 2])
    denoised = Denoised(layers=(layer, layer), thing_BM=thing_BM, real_BM=real_BM, groups=2)
    regions = replace(make_regions([layer], 3), denoised=denoised)
    expected = 0.0
    for row, query in real_BM.nonzero().tolist():
        logit, thing = layer.objectness_BQ[row, query], int(thing_BM[row, query])
        expected += focal(logit, torch.tensor(float(thing >= 0))).item()
        if thing >= 0:
            box, truth = layer.box_BQ4[row, query], objects.box_BG4[row, thing]
            expected += 5 * (box - truth).abs().sum().item()
            expected += 2 * (1 - giou_by_hand(box.tolist(), truth.tolist()))
    located, without = localise(regions, objects), localise(make_regions([layer], 3), objects)
    assert located.terms["denoised"].item() == pytest.approx(2 * expected / (3 * 2), rel=1e-4)
    assert {name: term for name, term in located.terms.items() if name != "denoised"} == dict(without.terms)
    assert torch.equal(located.class_BN, without.class_BN)
