"""Noised queries: how far boxes are moved, what they may look at, and that no proposal sees them.

Shape suffixes: B pictures, G things of a picture, M noised queries, Q queries.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.tokenizers.regions.test_tokens import gradients_of, layers_of, only_says, pixels, trained
from uniperceiver.boxes import corners_of
from uniperceiver.records.regions import Objects
from uniperceiver.streams import torch_stream
from uniperceiver.tokenizers.regions.noise import noised

QUERIES = 14


def objects() -> Objects:
    """Three pictures: with two things and a crowd, with one thing, and with none."""
    box_BG4 = 0.3 + 0.3 * torch.rand(3, 3, 4, generator=torch_stream(0))
    known_BG = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
    crowd_BG = torch.tensor([[False, False, True], [False, False, False], [False, False, False]])
    return Objects(box_BG4=box_BG4, class_BG=torch.zeros(3, 3).long(), known_BG=known_BG, crowd_BG=crowd_BG)


def test_every_group_has_a_pair_for_every_thing() -> None:
    queries = noised(objects(), QUERIES, torch_stream(1))
    assert queries.groups == 2
    assert queries.thing_BM.tolist() == [[0, -1, 1, -1, 2, -1] * 2] * 3
    assert queries.real_BM.tolist() == [
        [True, True, True, True, False, False] * 2,
        [True, True, False, False, False, False] * 2,
        [False] * 12,
    ]


def test_near_boxes_move_by_less_than_half_of_half_a_side_and_far_ones_by_more() -> None:
    truth, queries = objects(), noised(objects(), 600, torch_stream(1))
    box_BM4 = truth.box_BG4.repeat_interleave(2, dim=1).repeat(1, queries.groups, 1)
    moved_BM4 = (corners_of(queries.box_BM4) - corners_of(box_BM4)) / (box_BM4[..., 2:].repeat(1, 1, 2) / 2)
    near, far = moved_BM4[:, 0::2], moved_BM4[:, 1::2]
    assert near.abs().max() < 0.5
    assert far.abs().max() < 1.0
    inside = ((corners_of(queries.box_BM4) > 0) & (corners_of(queries.box_BM4) < 1))[:, 1::2]
    assert far[inside].abs().min() > 0.5 - 1e-5
    for moved in (near, far):
        assert (moved < 0).float().mean() == pytest.approx(0.5, abs=0.05)
    assert near.abs().mean() == pytest.approx(0.25, abs=0.02)


def test_no_box_leaves_the_picture() -> None:
    edge = replace(objects(), box_BG4=torch.tensor([0.05, 0.95, 0.1, 0.1]).expand(3, 3, 4))
    corner_BM4 = corners_of(noised(edge, 60, torch_stream(1)).box_BM4)
    assert corner_BM4.min() >= -1e-6
    assert corner_BM4.max() <= 1 + 1e-6


def test_a_group_sees_itself_and_the_proposals() -> None:
    visible = noised(objects(), QUERIES, torch_stream(1)).visible(queries=4)
    assert visible.shape == (3, 1, 12, 12 + 4)
    assert visible[..., 12:].all()
    own = visible[0, 0, :, :12]
    assert own[0].tolist() == [True] * 4 + [False] * 8
    assert own[7].tolist() == [False] * 6 + [True] * 4 + [False] * 2
    assert not visible[2, 0, :, :12].any()  # a picture without things


def test_noise_stays_where_samples_were_left_out() -> None:
    truth = objects()
    queries = noised(truth, QUERIES, torch_stream(1))
    left = torch.tensor([0, 2])
    some = Objects(
        box_BG4=truth.box_BG4[left],
        class_BG=truth.class_BG[left],
        known_BG=truth.known_BG[left],
        crowd_BG=truth.crowd_BG[left],
    )
    assert torch.equal(noised(some, QUERIES, torch_stream(1), left, 3).box_BM4, queries.box_BM4[left])


def test_of_more_things_than_fit_the_first_are_taken() -> None:
    queries = noised(objects(), 4, torch_stream(1))
    assert queries.groups == 1
    assert queries.thing_BM[0].tolist() == [0, -1, 1, -1]
    assert noised(objects(), 1, torch_stream(1)).thing_BM[0].tolist() == [0, -1]


def proposed(truth: Objects | None, stream: torch.Generator | None) -> tuple[Tensor, object]:
    return trained(denoise=QUERIES, masks=True).propose(pixels(b=3), stream, objects=truth)


def test_proposals_and_tokens_are_the_same_with_and_without_noised_queries() -> None:
    with torch.no_grad():
        x_BGD, regions = proposed(objects(), torch_stream(1))
        without_BGD, without = proposed(None, torch_stream(1))
    assert regions.denoised is not None  # type: ignore[attr-defined]
    assert without.denoised is None  # type: ignore[attr-defined]
    assert torch.equal(x_BGD, without_BGD)
    for left, right in zip(layers_of(regions), layers_of(without), strict=True):  # type: ignore[arg-type]
        assert torch.equal(left, right)


def test_things_are_not_looked_at_without_a_stream() -> None:
    x_BGD, regions = proposed(objects(), None)
    shuffled = replace(objects(), box_BG4=objects().box_BG4.flip(1))
    assert regions.denoised is None  # type: ignore[attr-defined]
    assert torch.equal(x_BGD, proposed(shuffled, None)[0])
    assert torch.equal(x_BGD, proposed(None, None)[0])


def test_a_group_does_not_depend_on_other_groups_nor_on_padding() -> None:
    tokenizer, truth = trained(denoise=QUERIES), objects()
    _, regions = tokenizer.propose(pixels(b=3), torch_stream(1), objects=truth)
    _, of_one_group = trained(denoise=6).propose(pixels(b=3), torch_stream(1), objects=truth)
    assert regions.denoised is not None
    assert of_one_group.denoised is not None
    assert (regions.denoised.groups, of_one_group.denoised.groups) == (2, 1)
    other = replace(truth, box_BG4=truth.box_BG4.clone())
    other.box_BG4[0, 2] = 0.1  # the crowd, which is padding here
    _, with_other = tokenizer.propose(pixels(b=3), torch_stream(1), objects=other)
    assert with_other.denoised is not None
    real_BM = regions.denoised.real_BM
    for left, right in zip(regions.denoised.layers, with_other.denoised.layers, strict=True):
        torch.testing.assert_close(left.box_BQ4[real_BM], right.box_BQ4[real_BM])
        assert not torch.equal(left.box_BQ4[~real_BM], right.box_BQ4[~real_BM])


def test_noised_queries_teach_the_decoder() -> None:
    tokenizer = trained(denoise=QUERIES, masks=True)
    _, regions = tokenizer.propose(pixels(b=3), torch_stream(1), objects=objects())
    assert regions.denoised is not None
    last = regions.denoised.layers[-1]
    assert last.mask_BQHW is not None
    loss = last.objectness_BQ.sum() + last.box_BQ4.square().sum() + last.mask_BQHW.square().mean()
    loss.backward()
    assert tokenizer.decoder.noised.grad is not None
    assert tokenizer.decoder.noised.grad.abs().max() > 1e-6
    assert all(p.grad is None or p.grad.isfinite().all() for p in tokenizer.parameters())


@pytest.mark.parametrize("number", [0, 1])
def test_what_is_said_of_noised_queries_teaches_the_head_of_its_own_layer(number: int) -> None:
    tokenizer = trained(denoise=QUERIES)
    _, regions = tokenizer.propose(pixels(b=3), torch_stream(1), objects=objects())
    assert regions.denoised is not None
    layer = regions.denoised.layers[number]
    sizes = gradients_of(tokenizer, layer.objectness_BQ.square().mean() + layer.box_BQ4.square().mean())
    learns = {name for name, size in sizes.items() if only_says(name) and size > 0}
    assert learns == {name for name in sizes if name.startswith(f"decoder.layers.{number}.head.")}
    assert sizes["backbone.stem.layers.0.weight"] > 1e-6
