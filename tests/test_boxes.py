"""Boxes as tensors against formulas that are written out, and where nothing is left of a box.

Shape suffixes: M N boxes.
"""

import itertools
import math

import pytest
import torch
from torch import Tensor

from uniperceiver.boxes import areas, centres_of, corners_of, giou, iou, logit, overlaps
from uniperceiver.streams import torch_stream


def boxes(count: int, name: str) -> Tensor:
    """(count, 4) float64 corners, some over each other, some apart."""
    stream = torch_stream(0, name)
    centre_M2 = torch.rand(count, 2, generator=stream, dtype=torch.float64)
    size_M2 = 0.05 + 0.5 * torch.rand(count, 2, generator=stream, dtype=torch.float64)
    return corners_of(torch.cat([centre_M2, size_M2], dim=1))


def by_hand(first: list[float], second: list[float]) -> tuple[float, float]:
    """IoU and GIoU of two boxes."""
    (a0, b0, a1, b1), (c0, d0, c1, d1) = first, second
    shared = max(0.0, min(a1, c1) - max(a0, c0)) * max(0.0, min(b1, d1) - max(b0, d0))
    union = (a1 - a0) * (b1 - b0) + (c1 - c0) * (d1 - d0) - shared
    around = (max(a1, c1) - min(a0, c0)) * (max(b1, d1) - min(b0, d0))
    return shared / union, shared / union - (around - union) / around


def test_the_two_ways_to_write_a_box_are_each_others_inverse() -> None:
    assert corners_of(torch.tensor([0.5, 0.25, 0.5, 0.25])).tolist() == [0.25, 0.125, 0.75, 0.375]
    corner_M4 = boxes(7, "inverse")
    torch.testing.assert_close(corners_of(centres_of(corner_M4)), corner_M4)


def test_iou_and_giou_are_the_formulas_for_all_pairs() -> None:
    first_M4, second_N4 = boxes(6, "first"), boxes(5, "second")
    iou_MN, giou_MN = iou(first_M4[:, None], second_N4), giou(first_M4[:, None], second_N4)
    assert (iou_MN == 0).any()
    assert (iou_MN > 0.2).any()
    for m, n in itertools.product(range(6), range(5)):
        expected = by_hand(first_M4[m].tolist(), second_N4[n].tolist())
        assert (iou_MN[m, n].item(), giou_MN[m, n].item()) == pytest.approx(expected, abs=1e-10)


def test_the_same_box_has_one_of_both_and_boxes_far_apart_have_a_giou_near_minus_one() -> None:
    box_4 = torch.tensor([0.1, 0.2, 0.4, 0.3])
    assert iou(box_4, box_4) == giou(box_4, box_4) == 1
    assert giou(box_4 * 0.01, 1 - box_4 * 0.01) < -0.99


@pytest.mark.parametrize("measure", [iou, giou, lambda a, b: overlaps(a, b)[1], lambda a, b: areas(a) + areas(b)])
def test_gradients_are_those_of_finite_differences(measure: object) -> None:
    first_M4, second_M4 = boxes(6, "first").requires_grad_(), boxes(6, "other").requires_grad_()
    assert torch.autograd.gradcheck(measure, (first_M4, second_M4))  # type: ignore[arg-type]


@pytest.mark.parametrize("measure", [iou, giou])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5]),  # two points in one place
        ([0.5, 0.2, 0.5, 0.8], [0.5, 0.2, 0.5, 0.8]),  # lines
        ([0.2, 0.2, 0.2, 0.2], [0.1, 0.1, 0.4, 0.4]),
        ([0.4, 0.4, 0.1, 0.1], [0.1, 0.1, 0.4, 0.4]),  # corners the wrong way round
    ],
)
def test_boxes_without_area_have_finite_figures_and_gradients(
    measure: object, first: list[float], second: list[float]
) -> None:
    first_4, second_4 = torch.tensor(first, requires_grad=True), torch.tensor(second, requires_grad=True)
    value = measure(first_4, second_4)  # type: ignore[operator]
    value.backward()
    assert -2 <= value.item() <= 1
    for box_4 in (first_4, second_4):
        assert box_4.grad is not None
        assert box_4.grad.isfinite().all()


def test_the_logit_undoes_the_sigmoid_and_ends_at_a_thousandth() -> None:
    x_M = torch.linspace(-6, 6, 25, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(logit(x_M.sigmoid()), x_M)
    assert torch.autograd.gradcheck(logit, (x_M.detach().sigmoid().requires_grad_(),))
    ends = logit(torch.tensor([0.0, 1.0], dtype=torch.float64)).tolist()
    assert ends == pytest.approx([-math.log(999), math.log(999)])
