"""Scenes are heard: pitch is colour, timbre is shape, motion is the course in time.

Shape suffixes: L samples of a sound.
"""

import itertools
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from uniperceiver.data.scenes.scene import COLOURS, MOTIONS, SHAPES, Scene, Thing, make_scene
from uniperceiver.data.scenes.sounds import RATE, SAMPLES, hear, pitch_of
from uniperceiver.data.scenes.source import ScenesSource, is_unseen
from uniperceiver.errors import UserError
from uniperceiver.records.sounds import Sound
from uniperceiver.streams import numpy_stream
from uniperceiver.strict import parse

# Loudness (root mean square) and four samples of single things, as they were when scenes were first heard; renew them:
# python -m tests.data.scenes.test_sounds
GOLDEN: dict[tuple[str, str, str], tuple[float, ...]] = {
    ("circle", "red", "still"): (0.200115, 0.04767, -0.00057, -0.23685, -0.25255),
    ("square", "orange", "moving left"): (0.124317, 0.02356, -0.18205, 0.11397, -0.02913),
    ("triangle", "yellow", "moving right"): (0.125906, 0.03349, -0.02326, 0.17984, 0.03291),
    ("diamond", "green", "moving up"): (0.200121, 0.25378, -0.10468, -0.16162, -0.16442),
    ("cross", "cyan", "moving down"): (0.199988, 0.25911, -0.09077, 0.30488, -0.22339),
    ("ring", "blue", "growing"): (0.122012, 0.02392, 0.03342, -0.05929, 0.09163),
    ("star", "purple", "shrinking"): (0.129958, 0.58264, -0.01133, 0.05363, -0.05342),
}


def thing(shape: str = "circle", colour: str = "red", motion: str = "still", size: str = "large") -> Thing:
    return Thing(
        shape=shape, colour=colour, size=size, motion=motion, x=0.5, y=0.5, radius=0.1, travel=0.0, phase=0.0,
        rgb=(1, 2, 3),
    )  # type: ignore[arg-type] # fmt: skip


def alone(*args: str, **fields: str) -> np.ndarray:
    return hear(Scene(things=(thing(*args, **fields),), moving=True, seed=7)).astype(np.float64)


def strongest(sound_L: np.ndarray) -> float:
    """The frequency with most energy, in Hz."""
    spectrum = abs(np.fft.rfft(sound_L * np.hanning(len(sound_L)), 8 * len(sound_L)))
    return float(spectrum.argmax() * RATE / (8 * len(sound_L)))


def loudness(sound_L: np.ndarray) -> float:
    return float(np.sqrt((sound_L**2).mean()))


def test_a_steady_circle_is_a_sine_at_the_pitch_of_its_colour() -> None:
    """Against the formula, sample by sample: what is left is the noise of the background."""
    sound_L = alone("circle", "red")
    frequency = strongest(sound_L)
    assert abs(frequency / 330 - 1) < 0.021
    turns = [np.exp(2j * math.pi * frequency * place / RATE) for place in range(SAMPLES)]
    amplitude = abs(np.dot(sound_L, turns)) * 2 / SAMPLES
    assert amplitude == pytest.approx(0.2 * math.sqrt(2), rel=0.02)
    left = loudness(sound_L) ** 2 - amplitude**2 / 2
    assert left < 4 * 0.006**2 + 1e-4


def test_colours_are_four_semitones_apart() -> None:
    pitches = [pitch_of(colour) for colour in COLOURS]
    assert pitches[0] == 330
    for low, high in itertools.pairwise(pitches):
        assert high / low == pytest.approx(2 ** (4 / 12))
    for colour in COLOURS:
        assert abs(strongest(alone("circle", colour)) / pitch_of(colour) - 1) < 0.021


@pytest.mark.parametrize(
    ("shape", "orders"),
    [
        ("circle", (1,)), ("square", (1, 3, 5)), ("triangle", (1, 2, 3, 4, 5)), ("diamond", (1, 2, 4)),
        ("cross", (1, 1.414, 2.1)),
    ],
)  # fmt: skip
def test_shapes_have_their_partials(shape: str, orders: tuple[float, ...]) -> None:
    sound_L = alone(shape, "orange")
    spectrum = abs(np.fft.rfft(sound_L * np.hanning(SAMPLES)))
    base = strongest(alone("circle", "orange"))
    loud = {order: spectrum[round(order * base * SAMPLES / RATE) - 6 :][:13].max() for order in (*orders, 2.6, 5.7)}
    assert all(loud[order] > 10 * max(loud[2.6], loud[5.7]) for order in orders), loud


def test_partials_above_the_highest_frequency_do_not_fold_down() -> None:
    """White is 1,663 Hz: the fifth partial of a square would fold down to 7,685 Hz."""
    spectrum = abs(np.fft.rfft(alone("square", "white") * np.hanning(SAMPLES)))
    heard = spectrum > 0.02 * spectrum.max()
    assert np.flatnonzero(heard).max() * RATE / SAMPLES < 5500


def test_motions_are_courses_in_time() -> None:
    quarter = SAMPLES // 4
    parts = {motion: (alone("circle", "green", motion)[:quarter], alone("circle", "green", motion)[-quarter:])
             for motion in MOTIONS}  # fmt: skip
    assert strongest(parts["moving up"][0]) < 0.92 * strongest(parts["moving up"][1])
    assert strongest(parts["moving down"][1]) < 0.92 * strongest(parts["moving down"][0])
    assert loudness(parts["growing"][0]) < 0.5 * loudness(parts["growing"][1])
    assert loudness(parts["shrinking"][1]) < 0.5 * loudness(parts["shrinking"][0])
    for motion, first in (("moving right", True), ("moving left", False)):
        halves = np.split(alone("circle", "green", motion), 2)
        pulses = [np.diff(np.sign(np.convolve(abs(half_L), np.ones(400) / 400, "valid") - 0.09)) for half_L in halves]
        crossings = [int((pulse_L != 0).sum()) for pulse_L in pulses]
        slow, fast = crossings if first else crossings[::-1]
        assert slow < fast, (motion, crossings)
    assert loudness(parts["still"][0]) == pytest.approx(loudness(parts["still"][1]), rel=0.02)
    swinging = strongest(parts["circling"][0])
    assert abs(swinging / pitch_of("green") - 1) < 0.1
    assert len({alone("circle", "green", motion).tobytes() for motion in MOTIONS}) == len(MOTIONS)


def test_small_things_are_softer_and_several_add_up() -> None:
    assert loudness(alone(size="small")) == pytest.approx(0.4 * loudness(alone()), rel=0.02)
    first, second = thing(), thing("square", "blue", size="small")
    both = hear(Scene(things=(first, second), moving=True, seed=3))
    assert loudness(both) == pytest.approx(math.hypot(0.2, 0.08), rel=0.02)


def test_a_sound_is_a_function_of_its_scene_and_stays_within_full_scale() -> None:
    scenes = ScenesSource(items=60, view="sound", objects=5, label="colour")
    copy = pickle.loads(pickle.dumps(scenes))
    for index in range(60):
        sound = scenes.read(index).others["audio"]
        assert isinstance(sound, Sound)
        assert sound.rate == RATE
        assert sound.array.shape == (SAMPLES,)
        assert sound.array.dtype == np.float32
        assert abs(sound.array).max() < 2
        assert np.array_equal(sound.array, copy.read(index).others["audio"].array)
    scene = make_scene(numpy_stream(0, "x"), moving=True)
    assert not np.array_equal(hear(scene), hear(replace(scene, seed=scene.seed + 1)))


def test_a_clip_has_the_sound_of_its_scene_and_is_else_as_it_was() -> None:
    fields = {"items": 12, "view": "clip", "label": "motion", "pixels": 32, "frames": 2}
    seen, heard = ScenesSource(**fields), ScenesSource(**fields, sound=True)  # type: ignore[arg-type]
    for index in range(12):
        plain, sample = seen.read(index), heard.read(index)
        assert not plain.others
        assert np.array_equal(sample.clip, plain.clip)
        assert np.array_equal(sample.others["audio"].array, hear(heard.scene(index)))
        assert (sample.label, sample.captions) == (plain.label, plain.captions)
    alone = ScenesSource(items=12, view="sound", label="motion")
    assert [alone.read(index).label for index in range(12)] == [seen.read(index).label for index in range(12)]
    assert alone.read(0).clip is None
    assert alone.read(0).captions == seen.read(0).captions


@pytest.mark.parametrize("view", ["image", "clip", "sound"])
def test_eight_combinations_are_kept_back(view: str) -> None:
    kept_back = {(shape, colour) for shape in SHAPES for colour in COLOURS if is_unseen(shape, colour)}
    assert len(kept_back) == 8
    assert {shape for shape, _ in kept_back} == set(SHAPES)
    assert {colour for _, colour in kept_back} == set(COLOURS)
    every, seen, unseen = (
        ScenesSource(items=400, view=view, objects=3, label="shape_colour", combinations=which)  # type: ignore[arg-type]
        for which in ("all", "seen", "unseen")
    )
    pairs = {
        name: [[(thing.shape, thing.colour) for thing in source.scene(index).things] for index in range(400)]
        for name, source in (("all", every), ("seen", seen), ("unseen", unseen))
    }
    assert not kept_back & {pair for things in pairs["seen"] for pair in things}
    assert {things[0] for things in pairs["unseen"]} == kept_back
    for index, things in enumerate(pairs["all"]):
        if not kept_back & set(things):  # nothing is to be changed
            assert pairs["seen"][index] == things
            assert pairs["unseen"][index][1:] == things[1:]
    counts = [sum(things[0] == pair for things in pairs["unseen"]) for pair in kept_back]
    assert min(counts) > 25
    texts = {text for text in seen.texts() for shape, colour in kept_back if f"{colour} {shape}" in text}
    assert texts == {f"{colour} {shape}" for shape, colour in kept_back}  # names of classes, no captions


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        (
            {"view": "sound", "label": "relation"},
            "test: label 'relation' needs view 'image', 'clip' or 'text': a sound",
        ),
        ({"sound": True}, "test: sound: true needs view 'clip', not 'image': it is the sound of a clip's scene"),
        ({"view": "sound", "sound": True}, "test: sound: true needs view 'clip', not 'sound'"),
    ],
)
def test_what_cannot_be_heard(fields: dict[str, object], line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        parse(ScenesSource, {"items": 4, **fields}, "test")


def fingerprint(shape: str, colour: str, motion: str) -> tuple[float, ...]:
    sound_L = alone(shape, colour, motion)
    return (round(loudness(sound_L), 6), *(round(float(sound_L[place]), 5) for place in (0, 1000, 8000, 16000)))


def cases() -> list[tuple[str, str, str]]:
    return [(shape, colour, motion) for shape, colour, motion in zip(SHAPES, COLOURS, MOTIONS, strict=False)]


@pytest.mark.parametrize("case", cases())
def test_sounds_stay_what_they_are(case: tuple[str, str, str]) -> None:
    assert fingerprint(*case) == pytest.approx(GOLDEN[case], abs=2e-5)


if __name__ == "__main__":
    print({case: fingerprint(*case) for case in cases()})
