"""Pixels become the content of tokens: patch by patch, or by convolutions over the whole picture.

Shape suffixes: B sequences, T frames, C channels, H W pixels, G tokens, D width.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniperceiver.config import ModelConfig, MoEConfig
from uniperceiver.model.build import build
from uniperceiver.runs.architecture import architecture
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.task import TEMPERATURES
from uniperceiver.tokenizers.stems import STEMS, ConvStem, patches

D, SIDE = 32, 8


def pixels(frames: int = 3, height: int = 16, width: int = 24, b: int = 2) -> Tensor:
    return torch.randn(b, frames, 3, height, width, generator=torch_stream(0, frames, height, width))


def conv_stem(depth: int = 1, patch: int = SIDE, width: int = D) -> ConvStem:
    """That of a freshly drawn model."""
    config = ModelConfig(width=width, heads=2, layers=1, patch=patch, patch_frames=depth, stem="conv", max_text=8)
    arch = architecture(config, MoEConfig(), tasks=1, vocabulary=20, end=18, answer=19)
    stem = build(arch, TEMPERATURES, torch_stream(1)).tokenizer.patches.project
    assert isinstance(stem, ConvStem)
    return stem


def test_the_projection_is_a_convolution_of_each_frame_frame_after_frame_row_after_row() -> None:
    clip, linear = pixels(), torch.nn.Linear(3 * SIDE * SIDE, D)
    found_BGD = linear(patches(clip, SIDE))
    kernel = linear.weight.reshape(D, 3, SIDE, SIDE)  # the layout of the original's weight
    expected = [F.conv2d(frame_BCHW, kernel, linear.bias, stride=SIDE) for frame_BCHW in clip.unbind(1)]
    expected_BGD = torch.stack(expected, dim=1).flatten(3).permute(0, 1, 3, 2).flatten(1, 2)
    assert found_BGD.shape == (2, 3 * 2 * 3, D)
    torch.testing.assert_close(found_BGD, expected_BGD)


def test_patches_of_several_frames_are_a_convolution_over_time_too() -> None:
    clip, linear = pixels(frames=4), torch.nn.Linear(2 * 3 * SIDE * SIDE, D)
    kernel = linear.weight.reshape(D, 2, 3, SIDE, SIDE).transpose(1, 2)
    expected = F.conv3d(clip.transpose(1, 2), kernel, linear.bias, stride=(2, SIDE, SIDE))
    torch.testing.assert_close(linear(patches(clip, SIDE, depth=2)), expected.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("frames", [1, 3])
def test_the_last_frame_fills_a_patch(frames: int) -> None:
    clip = pixels(frames)
    filled = torch.cat([clip, clip[:, -1:]], dim=1)
    assert torch.equal(patches(clip, SIDE, depth=2), patches(filled, SIDE, depth=2))


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("kind", STEMS)
def test_a_token_sees_its_place_and_tokens_are_in_order_of_time_then_row_then_column(kind: str, depth: int) -> None:
    stem = STEMS[kind](D, patch=SIDE, depth=depth)
    for layer in stem.layers if isinstance(stem, ConvStem) else ():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 0.05)  # so that more of anything near is more of everything
        elif isinstance(layer, nn.GroupNorm):
            layer.forward = nn.Identity().forward  # which is over all places
    clip = pixels(frames=4).abs()
    before = stem(clip)
    assert before.shape == (2, 4 // depth * 2 * 3, D)
    for time, row, column in ((0, 0, 0), (1, 1, 2), (3, 0, 1)):
        other = clip.clone()
        other[1, time, :, row * SIDE + 3 : row * SIDE + 5, column * SIDE + 3 : column * SIDE + 5] += 3.0
        changed_BG = (stem(other) - before).norm(dim=-1)
        assert not changed_BG[0].any()
        assert changed_BG[1].argmax() == time // depth * 6 + row * 3 + column


@pytest.mark.parametrize("frames", [1, 3])
def test_convolutions_see_the_last_frame_again_where_a_patch_is_not_full(frames: int) -> None:
    clip, stem = pixels(frames), conv_stem(depth=2)
    assert torch.equal(stem(clip), stem(torch.cat([clip, clip[:, -1:]], dim=1)))


def test_convolutions_see_beyond_a_patch_and_never_another_sample() -> None:
    clip, stem = pixels(frames=1), conv_stem()
    other = clip.clone()
    other[0, 0, :, 7, :8] += 3.0  # the lowest row of pixels of the first patch
    changed_BG = (stem(other) - stem(clip)).norm(dim=-1)
    assert changed_BG[0, 3] > 0.01  # the patch below
    assert not changed_BG[1].any()
    torch.testing.assert_close(stem(clip)[1:], stem(clip[1:]))


@pytest.mark.parametrize("patch", [2, 8, 16])
def test_convolutions_begin_with_features_of_size_1(patch: int) -> None:
    stem = conv_stem(patch=patch, width=64)
    features = stem.layers(pixels(1, 64, 64, b=4).flatten(0, 1)).detach()
    assert features.shape[-2:] == (64 // patch, 64 // patch)
    assert 0.4 < float(features.std()) < 1.0  # GELU of N(0, 1): 0.58


@pytest.mark.parametrize(
    ("width", "patch", "depth", "expected"),
    [(128, 16, 1, [16, 32, 64, 128]), (32, 8, 2, [16, 16, 32]), (40, 2, 1, [40])],
)
def test_channels_double_up_to_the_width_from_16_on(width: int, patch: int, depth: int, expected: list[int]) -> None:
    layers = [layer for layer in ConvStem(width, patch=patch, depth=depth).layers if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == expected
    assert [layer.in_channels for layer in layers] == [3 * depth, *expected[:-1]]


@pytest.mark.parametrize("patch", [1, 6, 12])
def test_a_side_that_halvings_do_not_reach_is_refused(patch: int) -> None:
    with pytest.raises(ValueError, match=f"{patch} is no power of 2"):
        ConvStem(D, patch=patch, depth=1)
