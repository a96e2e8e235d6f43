"""Mixup and CutMix: the targets say exactly how much of each sample is in the picture."""

import pytest
import torch
from torch import Tensor

from uniperceiver.data.media.mixup import _box, mix
from uniperceiver.streams import numpy_stream

B, K = 5, 5


def batch(height: int = 6, width: int = 7) -> tuple[Tensor, Tensor]:
    """Sample b is filled with 2 ** b and has class b, so that a pixel tells whose it is."""
    values_B = 2.0 ** torch.arange(B)
    return values_B[:, None, None, None, None].expand(B, 2, 3, height, width).clone(), torch.eye(K)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
@pytest.mark.parametrize(("height", "width"), [(6, 7), (1, 1), (32, 5)])
def test_targets_are_the_shares_of_the_pixels(mixup: float, cutmix: float, height: int, width: int) -> None:
    changed = 0
    for seed in range(40):
        pixels, soft = batch(height, width)
        mixed = mix(pixels, soft, mixup, cutmix, numpy_stream(seed))
        assert mixed.pixels_BFCHW.shape == pixels.shape
        torch.testing.assert_close(mixed.soft_BK.sum(dim=1), torch.ones(B))
        # The mean of a picture is that of the values of its classes, weighed by the soft target.
        means_B = mixed.pixels_BFCHW.mean(dim=(1, 2, 3, 4))
        torch.testing.assert_close(means_B, mixed.soft_BK @ pixels[:, 0, 0, 0, 0])
        assert torch.equal(pixels, batch(height, width)[0])
        changed += not torch.equal(mixed.soft_BK, soft)
    assert changed > 0 or height * width == 1


def test_cutmix_cuts_the_same_box_from_all_frames_and_mixup_blends() -> None:
    kinds = set()
    for seed in range(30):
        pixels, soft = batch(16, 16)
        out = mix(pixels, soft, 1.0, 1.0, numpy_stream(seed)).pixels_BFCHW
        assert torch.equal(out[:, 0, 0], out[:, 1, 2])
        kinds.add("cut" if bool(torch.isin(out, pixels).all()) else "blend")
    assert kinds == {"cut", "blend"}


def test_each_of_the_two_has_its_own_alpha() -> None:
    """A huge alpha of mixup always keeps a half; a tiny one of CutMix keeps all of the picture, or almost nothing."""
    blends = unchanged = 0
    for seed in range(40):
        pixels, soft = batch(16, 16)
        mixed = mix(pixels, soft, 1e9, 1e-3, numpy_stream(seed))
        if bool(torch.isin(mixed.pixels_BFCHW, pixels).all()):
            unchanged += torch.equal(mixed.soft_BK, soft)
        else:
            blends += 1
            assert torch.isin((100 * mixed.soft_BK).round(), torch.tensor([0.0, 50, 100])).all()
    assert blends > 5
    assert unchanged > 5


def test_a_box_is_as_high_and_wide_as_its_picture_allows() -> None:
    """Its sides are shares of the picture's sides, so that it has the picture's shape where no edge clips it."""
    boxes = [_box(12, 40, 0.75, numpy_stream(seed)) for seed in range(60)]
    assert max(bottom - top for top, bottom, _, _ in boxes) == 6
    assert max(right - left for _, _, left, right in boxes) == 20
    assert {top for top, _, _, _ in boxes} >= {0, 5}
    assert max(right for _, _, _, right in boxes) == 40
    assert max(bottom for _, bottom, _, _ in boxes) == 12


def test_off_is_off_and_the_generator_decides() -> None:
    pixels, soft = batch()
    assert mix(pixels, soft, 0.0, 0.0, numpy_stream(0)).pixels_BFCHW is pixels
    first, again, other = (mix(pixels, soft, 0.5, 0.5, numpy_stream(seed)) for seed in (4, 4, 5))
    assert torch.equal(first.pixels_BFCHW, again.pixels_BFCHW)
    assert not torch.equal(first.soft_BK, other.soft_BK)


@pytest.mark.parametrize(("alpha", "low", "high"), [(0.1, 0.0, 0.3), (1.0, 0.4, 0.8), (20.0, 0.95, 1.0)])
def test_shares_are_drawn_from_the_beta_distribution(alpha: float, low: float, high: float) -> None:
    """Of a small alpha most pictures stay nearly what they are; of a large one both have a half."""
    middle = 0
    for seed in range(100):
        pixels, soft = batch(1, 1)
        largest = float(mix(pixels, soft, alpha, 0.0, numpy_stream(seed)).soft_BK.max(dim=1).values.min())
        middle += largest < 0.8
    assert low <= middle / 100 <= high
