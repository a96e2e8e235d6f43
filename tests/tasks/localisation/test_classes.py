"""Three ways to learn the names of proposals: formulas written out, what is asked of which, gradients, and scores."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.tasks.localisation.test_criterion import make_regions
from tests.tasks.localisation.test_match import make_layer, make_objects
from uniperceiver.records.regions import BACKGROUND, ClassTerm, ProposalLayer
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.localisation.classes import (
    CLASS_TERMS,
    NONE,
    class_loss,
    class_scores,
    class_targets,
    class_weight,
)
from uniperceiver.tasks.localisation.criterion import localise
from uniperceiver.tasks.loss import cross_entropy


def logits_of(*shape: int) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


TARGET_R = torch.tensor([1, NONE, -1, 0, NONE])


def test_softmax_is_the_cross_entropy_of_before_bit_for_bit() -> None:
    logits_RK, target_R = logits_of(5, 3).float(), torch.tensor([1, -1, -1, 0, 2])
    for smoothing in (0.0, 0.1):
        before = cross_entropy(logits_RK, target_R, smoothing)
        assert torch.equal(class_loss(logits_RK, target_R, "softmax", smoothing), before)
    assert class_weight(target_R, "softmax") == 3


def test_sigmoid_is_the_focal_loss_of_every_name_at_every_proposal() -> None:
    """But of those that nobody knows anything of."""
    logits_RK = logits_of(5, 3)
    expected = 0.0
    for row, target in enumerate(TARGET_R.tolist()):
        for name in range(3 if target != -1 else 0):
            p = 1 / (1 + math.exp(-logits_RK[row, name].item()))
            expected += 0.25 * (1 - p) ** 2 * -math.log(p) if name == target else 0.75 * p**2 * -math.log(1 - p)
    assert class_loss(logits_RK, TARGET_R, "sigmoid").item() == pytest.approx(expected / 2, rel=1e-12)
    nothing = class_loss(logits_RK[1:2], TARGET_R[1:2], "sigmoid")
    p = logits_RK[1].sigmoid()
    assert nothing.item() == pytest.approx((0.75 * p**2 * -(1 - p).log()).sum().item(), rel=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_background_is_the_weighted_mean_of_torch(smoothing: float) -> None:
    """DETR: cross-entropy with weight 0.1 on the last class, divided by the sum of weights."""
    logits_RX = logits_of(5, 4)
    full_R = torch.where(TARGET_R == NONE, 3, TARGET_R)
    nll_R = -logits_RX.log_softmax(dim=1)
    weights = {1: 1.0, 0: 1.0, 3: 0.1}
    total = sum(
        weights[target] * ((1 - smoothing) * nll_R[row, target] + smoothing * nll_R[row].mean()).item()
        for row, target in enumerate(full_R.tolist())
        if target >= 0
    )
    assert class_loss(logits_RX, TARGET_R, "background", smoothing).item() == pytest.approx(total / 2.2, rel=1e-12)
    if not smoothing:
        weight_X = torch.tensor([1.0, 1.0, 1.0, 0.1], dtype=torch.float64)
        detr = F.cross_entropy(logits_RX, full_R, weight_X, ignore_index=-1)
        assert class_loss(logits_RX, TARGET_R, "background").item() == pytest.approx(detr.item(), rel=1e-12)
    assert float(class_weight(TARGET_R, "background")) == pytest.approx(2.2)


@pytest.mark.parametrize("term", CLASS_TERMS)
def test_gradients_are_those_of_the_loss(term: ClassTerm) -> None:
    logits_RX = logits_of(5, 4).requires_grad_()
    target_R = torch.where(TARGET_R == NONE, -1, TARGET_R) if term == "softmax" else TARGET_R
    assert torch.autograd.gradcheck(lambda x: class_loss(x, target_R, term), (logits_RX,))
    unknown = class_loss(logits_RX, torch.full((5,), -1), term)
    (gradient,) = torch.autograd.grad(unknown, logits_RX)
    assert unknown.item() == 0
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_what_is_none_has_no_thing_and_no_crowd() -> None:
    """Queries: one on the thing, one far from all, one in the crowd."""
    objects = make_objects(1, 2, [2])
    crowd_BG = torch.tensor([[False, True]])
    box_BG4 = torch.tensor([[[0.2, 0.2, 0.2, 0.2], [0.7, 0.7, 0.4, 0.4]]])
    objects = replace(objects, box_BG4=box_BG4, crowd_BG=crowd_BG)
    box_BQ4 = torch.tensor([[[0.2, 0.21, 0.2, 0.2], [0.2, 0.9, 0.1, 0.1], [0.7, 0.7, 0.1, 0.1]]])
    layer = ProposalLayer(objectness_BQ=torch.tensor([[2.0, 1.0, 0.0]]), box_BQ4=box_BQ4)
    located = localise(make_regions([layer], 3), objects)
    name = int(objects.class_BG[0, 0])
    assert class_targets(located.class_BN, located.none_BN, "softmax").tolist() == [name, -1, -1]
    assert class_targets(located.class_BN, located.none_BN, "sigmoid").tolist() == [name, NONE, -1]
    unknown = localise(make_regions([layer], 3), replace(objects, class_BG=torch.full((1, 2), -1)))
    assert class_targets(unknown.class_BN, unknown.none_BN, "background").tolist() == [-1, NONE, -1]
    some = localise(make_regions([layer], 2), objects)
    assert some.none_BN.tolist() == [[False, True]]


def test_none_are_those_without_a_pair_in_any_batch() -> None:
    located = localise(make_regions([make_layer(3, 6)], 6), make_objects(3, 4, [4, 0, 2]))
    assert torch.equal(located.none_BN, located.class_BN < 0)


def test_scores() -> None:
    logits_BNX, objectness_BN = logits_of(2, 3, 4).float(), logits_of(2, 3).float()
    share_BNX = logits_BNX.softmax(dim=2)
    scores = {term: class_scores(logits_BNX, objectness_BN, term) for term in CLASS_TERMS}
    assert torch.equal(scores["softmax"], objectness_BN.sigmoid()[..., None] * share_BNX)
    assert torch.equal(scores["sigmoid"], logits_BNX.sigmoid())
    assert torch.equal(scores["background"], share_BNX[..., :3])


def test_a_task_says_its_term_and_no_class_is_called_background() -> None:
    task = CATALOGUE["object_detection"]
    assert "class_term" not in task.to_json()
    assert replace(task, class_term="sigmoid").to_json()["class_term"] == "sigmoid"
    with pytest.raises(ValueError, match="a class is called so, too; give that class another text"):
        replace(task, class_term="background", labels=(("cat",), (BACKGROUND,)))
    with pytest.raises(ValueError, match="unknown class_term 'linear'"):
        replace(task, class_term="linear")
    with pytest.raises(ValueError, match="class_term goes with read_at='proposals' only"):
        replace(CATALOGUE["image_classification"], class_term="sigmoid")
