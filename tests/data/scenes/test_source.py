"""The embedded data set as a source: pure, lazy, and labelled so that pixels or words alone give the label."""

import pickle
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from uniperceiver.data.scenes.scene import COLOURS, SHAPES
from uniperceiver.data.scenes.source import Label, ScenesSource
from uniperceiver.data.scenes.texts import PARTICIPLES, VERBS
from uniperceiver.errors import UserError
from uniperceiver.records import Sample
from uniperceiver.strict import parse


def source(**fields: object) -> ScenesSource:
    return parse(ScenesSource, {"items": 40, **fields}, "test")


def same(a: Sample, b: Sample) -> bool:
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in Sample.__dataclass_fields__)


def small(mask: np.ndarray) -> np.ndarray:
    """The part of a mask that holds something, as 12 x 12 numbers."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    part = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.uint8) * 255
    return np.asarray(Image.fromarray(part).resize((12, 12), Image.Resampling.BOX)).astype(int)


def test_reading_is_pure_and_survives_a_process_border() -> None:
    scenes = source(view="clip", label="motion", frames=4, pixels=32)
    copy = pickle.loads(pickle.dumps(scenes))
    for index in (7, 0, 7, 39):
        assert same(scenes.read(index), copy.read(index))
    assert scenes.read(17).id == "scenes/train/000017"


def test_size_does_not_matter_and_nothing_is_made_before_it_is_read() -> None:
    huge = source(items=10**12)
    assert len(huge) == 10**12
    assert same(huge.read(3), source().read(3))
    assert huge.read(10**12 - 1).image is not None
    assert len(list(islice(huge.texts(), 3))) == 3
    with pytest.raises(IndexError):
        source().read(40)


def test_seeds_and_splits_are_disjoint() -> None:
    texts = [set(source(**fields).texts()) for fields in ({}, {"seed": 1}, {"split": "val"}, {"split": "test"})]
    for place, some in enumerate(texts):
        for others in texts[:place]:
            assert len(some & others) < len(some) / 10


def test_a_view_fills_its_fields() -> None:
    image, clip, text = (source(view=view, frames=3, pixels=48).read(1) for view in ("image", "clip", "text"))
    assert image.image.shape == (48, 48, 3)
    assert image.clip is None
    assert image.captions
    assert clip.clip.shape == (3, 48, 48, 3)
    assert clip.image is None
    for sample in (image, clip):
        assert len(sample.boxes) == len(sample.masks)
        assert sample.masks.shape[1:] == (48, 48)
        assert sample.text is None
        assert sample.label is None
    assert text.text
    assert text.image is text.clip is text.boxes is None


@pytest.mark.parametrize("view", ["image", "text"])
@pytest.mark.parametrize("label", ["none", "colour"])
def test_texts_are_those_of_classes_and_samples(view: str, label: str) -> None:
    scenes = source(view=view, label=label)
    samples = [scenes.read(index) for index in range(40)]
    wanted = [text for names in scenes.classes or () for text in names]
    wanted += [text for sample in samples for text in ([sample.text] if view == "text" else sample.captions)]
    assert list(scenes.texts()) == wanted


@pytest.mark.parametrize("label", ["shape", "colour", "shape_colour", "count", "motion", "relation"])
def test_labels_index_classes_and_all_classes_occur(label: str) -> None:
    scenes = source(view="text", label=label, objects=3, items=800)
    labels = [scenes.read(index).label for index in range(800)]
    assert set(labels) == set(range(len(scenes.classes)))
    assert np.bincount(labels).max() < 4 * 800 / len(scenes.classes)
    names = [name for names in scenes.classes for name in names]
    assert len(set(names)) == len(names)


def test_shape_and_colour_are_those_of_the_largest_mask() -> None:
    samples = [source(label="shape_colour", objects=3, items=120).read(index) for index in range(120)]
    seen, labels = [], []
    for sample in samples:
        mask = max(sample.masks, key=lambda mask: np.ptp(np.nonzero(mask), axis=1).max())
        rgb = np.median(sample.image[mask], axis=0)
        colour = min(range(len(COLOURS)), key=lambda place: abs(rgb - list(COLOURS.values())[place]).sum())
        assert colour == sample.label % len(COLOURS)
        seen.append(small(mask))
        labels.append(sample.label // len(COLOURS))
    # The shape is that of the most similar mask among the others.
    distances = np.array([[abs(a - b).sum() for b in seen] for a in seen]) + np.eye(120, dtype=int) * 10**9
    assert len(set(labels)) == len(SHAPES)
    assert np.mean(np.array(labels)[distances.argmin(axis=1)] == labels) > 0.95


def test_count_and_relation_are_those_of_the_boxes() -> None:
    for index in range(40):
        sample = source(label="count", objects=4).read(index)
        assert sample.label == len(sample.boxes) - 1
        sample = source(label="relation").read(index)
        (ax0, ay0, ax1, ay1), (bx0, by0, bx1, by1) = sorted(sample.boxes, key=lambda box: max(box[:2] - box[2:]))
        assert [ax1 <= bx0, ax0 >= bx1, ay1 <= by0, ay0 >= by1][sample.label]


def test_the_motion_can_be_read_but_not_by_a_keyword_alone() -> None:
    scenes = source(view="text", label="motion", items=200)
    several = 0
    for index in range(200):
        sample = scenes.read(index)
        name = scenes.classes[sample.label][0]
        assert any(words in sample.text for words in (*VERBS[name], *PARTICIPLES[name]))
        told = [motion for motion in VERBS if any(w in sample.text for w in (*VERBS[motion], *PARTICIPLES[motion]))]
        several += len(told) > 1
    assert several > 60


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"label": "motion"}, "test: label 'motion' needs view 'clip', 'sound' or 'text'"),
        ({"label": "motion", "view": "clip", "frames": 1}, "2 frames"),
        ({"label": "relation", "objects": 1}, "objects: 2 or more"),
        ({"pixel": 3}, "did you mean 'pixels'"),
        ({"items": 0}, "items"),
        ({"objects": 6}, "objects"),
    ],
)
def test_what_cannot_be_is_one_clear_line(fields: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        source(**fields)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", ["shape", "colour", "shape_colour"])
def test_every_thing_has_a_class_of_its_own(label: Label) -> None:
    source = ScenesSource(items=30, objects=5, label=label)
    several = 0
    for index in range(30):
        sample, scene = source.read(index), source.scene(index)
        assert sample.classes is not None
        assert sample.boxes is not None
        assert len(sample.classes) == len(sample.boxes) == len(scene.things)
        assert sample.classes[0] == sample.label
        names = [source.class_names[label] for label in sample.classes.tolist()]  # type: ignore[index]
        facts = {
            "shape": [thing.shape for thing in scene.things],
            "colour": [thing.colour for thing in scene.things],
            "shape_colour": [f"{thing.colour} {thing.shape}" for thing in scene.things],
        }
        assert names == facts[label]
        several += len(set(names)) > 1
    assert several > 10


def test_labels_of_whole_scenes_say_nothing_of_a_thing() -> None:
    assert ScenesSource(items=1, label="count").read(0).classes is None
    assert ScenesSource(items=1).read(0).classes is None
