"""What a scene says of itself is what its pixels show."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniperceiver.data.scenes.drawing import DISTANCE, boxes, masks, render
from uniperceiver.data.scenes.scene import COLOURS, MOTIONS, SHAPES, Scene, make_scene, place_of, relation, track
from uniperceiver.streams import numpy_stream


def scenes(count: int, *, objects: int, moving: bool = False, least: int = 1) -> list[Scene]:
    return [make_scene(numpy_stream(5, index), objects=objects, least=least, moving=moving) for index in range(count)]


def test_a_scene_is_a_function_of_its_stream() -> None:
    first, again, other = (make_scene(numpy_stream(seed), objects=3, moving=True) for seed in (1, 1, 2))
    assert first == again != other
    assert np.array_equal(render(first, 32, 3), render(again, 32, 3))
    assert not np.array_equal(render(first, 32, 3), render(other, 32, 3))


def test_all_shapes_colours_sizes_motions_and_counts_occur() -> None:
    things = [thing for scene in scenes(200, objects=4, moving=True) for thing in scene.things]
    assert {thing.shape for thing in things} == set(SHAPES) == set(DISTANCE)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.motion for thing in things} == set(MOTIONS)
    assert {len(scene.things) for scene in scenes(50, objects=4)} == {1, 2, 3, 4}
    assert {scene.things[0].size for scene in scenes(50, objects=1)} == {"small", "large"}


@pytest.mark.parametrize("moving", [False, True])
def test_things_never_touch_stay_inside_and_the_first_is_the_only_large_one(moving: bool) -> None:
    times = np.linspace(0, 1, 9)
    for scene in scenes(60, objects=5, least=2, moving=moving):
        paths = np.stack([track(thing, times) for thing in scene.things])  # (things, times, x y radius)
        assert (paths[..., :2] - paths[..., 2:] > 0).all()
        assert (paths[..., :2] + paths[..., 2:] < 1).all()
        for a in range(len(paths)):
            for b in range(a):
                apart = abs(paths[a, :, :2] - paths[b, :, :2]).max(axis=1)
                assert (apart > paths[a, :, 2] + paths[b, :, 2]).all()
        assert [thing.size for thing in scene.things] == ["large"] + ["small"] * (len(scene.things) - 1)
        assert scene.things[0].radius > 1.4 * max(thing.radius for thing in scene.things[1:])
        assert len({thing.colour for thing in scene.things}) == len(scene.things)


def test_masks_hold_the_colour_and_boxes_hold_the_masks() -> None:
    for scene in scenes(40, objects=4, moving=True):
        image, masks_KHW = render(scene, 64)[0], masks(scene, 64)
        assert masks_KHW.sum(axis=0).max() == 1
        for thing, mask, (x0, y0, x1, y1) in zip(scene.things, masks_KHW, boxes(masks_KHW).astype(int), strict=True):
            near = (abs(image.astype(int) - COLOURS[thing.colour]) <= 16).all(axis=-1)
            assert not (near & ~mask).any()
            assert near[mask].any()
            assert near[mask].mean() > 0.4 or mask.sum() < 40  # the rest are soft edges
            assert mask[y0:y1, x0:x1].sum() == mask.sum()
            assert all(edge.any() for edge in (mask[y0], mask[y1 - 1], mask[:, x0], mask[:, x1 - 1]))


@settings(max_examples=40, deadline=None)
@given(pixels=st.integers(32, 160), seed=st.integers(0, 10**9), frames=st.integers(1, 4), objects=st.integers(1, 5))
def test_any_size_can_be_drawn(pixels: int, seed: int, frames: int, objects: int) -> None:
    scene = make_scene(numpy_stream(seed), objects=objects, moving=frames > 1)
    clip, masks_KHW = render(scene, pixels, frames), masks(scene, pixels)
    assert clip.shape == (frames, pixels, pixels, 3)
    assert clip.dtype == np.uint8
    assert masks_KHW.any(axis=(1, 2)).all()
    boxes_K4 = boxes(masks_KHW)
    assert boxes_K4.dtype == np.float32
    assert (boxes_K4[:, 2:] > boxes_K4[:, :2]).all()
    assert boxes_K4.min() >= 0
    assert boxes_K4.max() <= pixels


def test_the_background_is_dim_and_differs() -> None:
    first, second = scenes(2, objects=1)
    for scene in (first, second):
        outside = render(scene, 64)[0][~masks(scene, 64)[0]]
        assert np.percentile(outside, 95) < 130
        assert outside.std() > 5
    assert first.seed != second.seed


def test_relations_are_those_of_the_boxes() -> None:
    for scene in scenes(60, objects=2, least=2):
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = boxes(masks(scene, 64))
        truth = {"left of": ax1 <= bx0, "right of": ax0 >= bx1, "above": ay1 <= by0, "below": ay0 >= by1}
        assert truth[relation(*scene.things)]


@pytest.mark.parametrize("moving", [False, True])
def test_a_thing_alone_that_goes_nowhere_is_plainly_somewhere(moving: bool) -> None:
    """Its place is what is told of it, also where it grows, shrinks or stands still in a clip."""
    seen = Counter[str]()
    for seed in range(300):
        (thing,) = make_scene(numpy_stream(seed), objects=1, moving=moving).things
        if thing.travel == 0:
            seen[thing.motion] += 1
            for value in (thing.x, thing.y):
                assert not 0.34 < value < 0.43
                assert not 0.57 < value < 0.66
    assert set(seen) == ({"still", "growing", "shrinking"} if moving else {"still"})


def test_places_are_those_of_the_masks() -> None:
    for scene in scenes(60, objects=1):
        rows, columns = np.nonzero(masks(scene, 64)[0])
        across, down = place_of(scene.things[0])
        for word, low_word, high_word, middle in (
            (across, "left", "right", columns.mean()),
            (down, "top", "bottom", rows.mean()),
        ):
            assert word == (low_word if middle < 25 else high_word if middle > 39 else "centre")
