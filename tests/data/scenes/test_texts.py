"""Captions are read back word by word and compared with the pixels of every frame."""

import re

import numpy as np
import pytest

from tests.data.scenes.test_scene import scenes
from uniperceiver.data.scenes.drawing import render
from uniperceiver.data.scenes.scene import COLOURS, SHAPES, place_of
from uniperceiver.data.scenes.texts import PARTICIPLES, PLACES, RELATIONS, VERBS, describe, paragraph

NOUN = re.compile(rf"(?:an?|the) (?:(small|large) )?({'|'.join(COLOURS)}) ({'|'.join(SHAPES)}|one)")
RELATION_OF = {words: name for name, variants in RELATIONS.items() for words in variants}
MOTION_OF = {words: name for table in (VERBS, PARTICIPLES) for name, both in table.items() for words in both}
ANY_RELATION = "|".join(sorted(RELATION_OF, key=len, reverse=True))
ANY_MOTION = "|".join(sorted(MOTION_OF, key=len, reverse=True))
# The last word of a phrase, written down a second time: the tables must not vouch for themselves.
MEANT = {
    "still": "still move moving",
    "moving left": "left",
    "moving right": "right",
    "moving up": "up rises rising",
    "moving down": "down sinks sinking",
    "growing": "grows growing bigger",
    "shrinking": "shrinks shrinking smaller",
    "circling": "circles circling circle",
    "left of": "of",
    "right of": "of",
    "above": "above over",
    "below": "below under",
}
Found = dict[str, np.ndarray]


def areas(clip: np.ndarray) -> Found:
    """Which pixels have a colour, (T, H, W) bool, for each colour that is there."""
    near = {name: (abs(clip.astype(int) - rgb) <= 16).all(axis=-1) for name, rgb in COLOURS.items()}
    return {name: pixels for name, pixels in near.items() if pixels.any()}


def relations_told(caption: str, foreground: str) -> list[tuple[str, str, str]]:
    """The (colour, relation, colour) that a caption tells."""
    bare = NOUN.sub(lambda match: f"<{match[2]}>", re.sub(rf" (that )?({ANY_MOTION})\b", "", caption))
    bare = re.sub(r"\bit\b", f"<{foreground}>", bare)
    # "above it, B, left of it, C" or "B above it, C left of it"? In the former a relation comes first.
    first_relation, first_other = re.search(ANY_RELATION, bare), re.search(rf"<(?!{foreground}>)", bare)
    patterns = [(rf"<(\w+)>(?: is|,)? ({ANY_RELATION}) <(\w+)>", (1, 2, 3))]
    if first_relation and first_other and first_relation.start() < first_other.start():
        patterns.insert(0, (rf"({ANY_RELATION}) <(\w+)>(?: is|,)? <(\w+)>", (3, 1, 2)))
    for pattern, order in patterns:
        if found := [tuple(match[place] for place in order) for match in re.finditer(pattern, bare)]:
            return [(a, RELATION_OF[words], b) for a, words, b in found]
    return []


def holds(relation: str, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether a relation holds in every frame, from pixels (T, H, W)."""
    axis = 1 if relation in ("left of", "right of") else 2
    if relation in ("right of", "below"):
        a, b = b, a
    return all(
        np.flatnonzero(one.any(axis=axis - 1)).max() < np.flatnonzero(other.any(axis=axis - 1)).min()
        for one, other in zip(a, b, strict=True)
    )


def motion_seen(pixels_THW: np.ndarray) -> str:
    """The motion of a thing, from where its colour is in each frame."""
    centres = np.array([[np.nonzero(frame)[1].mean(), np.nonzero(frame)[0].mean()] for frame in pixels_THW])
    sizes = pixels_THW.sum(axis=(1, 2))
    x, y = centres[-1] - centres[0]
    if max(sizes[0], sizes[-1]) > 2 * min(sizes[0], sizes[-1]):
        return "growing" if sizes[-1] > sizes[0] else "shrinking"
    if max(abs(x), abs(y)) < 2:
        return "circling" if np.ptp(centres, axis=0).max() > 6 else "still"
    if abs(x) > abs(y):
        return "moving right" if x > 0 else "moving left"
    return "moving down" if y > 0 else "moving up"


def test_words_stand_where_they_belong() -> None:
    for table in (VERBS, PARTICIPLES, RELATIONS):
        for name, variants in table.items():
            assert len(set(variants)) == 2
            for words in variants:
                assert words.split()[-1] in MEANT[name].split()
                assert ("left" in words, "right" in words) == ("left" in name, "right" in name)
                assert name != "still" or "stay" in words or "not" in words or "standing" in words
    for place, variants in PLACES.items():
        for words in variants:
            assert {word for word in ("left", "right", "top", "bottom") if word in words} == {*place} - {"centre"}


@pytest.mark.parametrize("moving", [False, True])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_every_relation_in_a_caption_is_true_and_none_is_left_out(count: int, moving: bool) -> None:
    for scene in scenes(12, objects=count, least=count, moving=moving):
        seen = areas(render(scene, 96, 5 if moving else 1))
        foreground = scene.things[0].colour
        for caption in describe(scene):
            told = relations_told(caption, foreground)
            assert len(told) == count - 1, caption
            assert {colour for a, _, b in told for colour in (a, b)} == set(seen), caption
            for a, relation, b in told:
                assert holds(relation, seen[a], seen[b]), caption


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_motion_in_a_caption_is_true(count: int) -> None:
    for scene in scenes(16, objects=count, least=count, moving=True):
        seen = {colour: motion_seen(pixels) for colour, pixels in areas(render(scene, 96, 8)).items()}
        for caption in describe(scene):
            told = re.findall(rf"({'|'.join(COLOURS)}) (?:{'|'.join(SHAPES)})|\b({ANY_MOTION})\b", caption)
            colours = [colour for colour, _ in told if colour]
            motions = [MOTION_OF[words] for _, words in told if words]
            assert dict(zip(colours, motions, strict=True)) == seen, caption


@pytest.mark.parametrize("moving", [False, True])
def test_every_caption_names_size_colour_and_shape_of_all(moving: bool) -> None:
    for scene in scenes(40, objects=4, moving=moving):
        truth = {(thing.size, thing.colour, thing.shape) for thing in scene.things}
        captions = describe(scene)
        assert len(set(captions)) == len(captions) >= 4
        for caption in captions:
            nouns = [match.groups() for match in NOUN.finditer(caption) if match[3] != "one"]
            if len(scene.things) == 1:
                assert {noun[1:] for noun in nouns} == {each[1:] for each in truth}
                assert scene.things[0].size in caption.split()
            else:
                assert set(nouns) == truth


def test_a_thing_alone_that_stands_still_has_its_place_told() -> None:
    place_told = {words: name for name, both in PLACES.items() for words in both}
    for scene in scenes(40, objects=1):
        for caption in describe(scene):
            found = max((words for words in place_told if words in caption), key=len)
            assert place_told[found] == place_of(scene.things[0]), caption


def test_captions_tell_scenes_apart_and_vary() -> None:
    captions = [describe(scene)[0] for scene in scenes(300, objects=2)]
    assert len(set(captions)) > 290
    assert len({caption.split()[0] for caption in captions}) > 5
    assert max(len(caption.split()) for caption in captions) <= 20


@pytest.mark.parametrize("count", [1, 2, 5])
def test_paragraphs_have_two_to_four_true_sentences(count: int) -> None:
    for scene in scenes(20, objects=count, least=count, moving=True):
        text = paragraph(scene)
        assert 2 <= text.count(".") <= 4
        seen = areas(render(scene, 96, 5))
        for match in NOUN.finditer(text):
            thing = next(thing for thing in scene.things if thing.colour == match[2])
            assert match[3] == thing.shape
            assert match[1] in (None, thing.size)
        bare = NOUN.sub(lambda match: f"<{match[2]}>", text)
        told = re.findall(rf"<(\w+)> is ({ANY_RELATION}) <(\w+)>", bare)
        assert len(told) == 2 * min(2, count - 1)
        for a, words, b in told:
            assert holds(RELATION_OF[words], seen[a], seen[b]), text
