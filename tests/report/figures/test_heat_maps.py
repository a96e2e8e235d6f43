"""Heat maps of interference: colours, numbers, what is clear and what is missing; and their pixels for TensorBoard."""

import re

import numpy as np
import pytest

from tests.report.html import EVIL, Page, assert_harmless
from tests.report.made_up import TASKS, a_layer, a_measurement, a_table
from uniperceiver.interference.records import InterferenceLayer, scalars
from uniperceiver.report.figures import image_of, interference_heat_maps
from uniperceiver.report.figures.canvas import clear_of
from uniperceiver.report.figures.heat_maps import MOST_LAYERS, colour_of, strength
from uniperceiver.report.figures.svg import inline
from uniperceiver.report.parts.colours import LIGHT


def heat_map(layer: InterferenceLayer, tasks: tuple[str, ...] = TASKS) -> object:
    (axes,) = interference_heat_maps(a_measurement(tasks, layers=(layer,))).axes
    return axes


def test_a_square_for_each_pair_of_tasks_row_by_row() -> None:
    matrix = ((1.0, 0.25, -0.5), (0.0, 1.0, None), (2.0, -0.004, 1.0))
    axes = heat_map(a_layer(matrix=matrix))
    numbers = [text.get_text() for text in axes.texts]  # type: ignore[attr-defined]
    assert numbers == ["1", "+0.25", "−0.50", "0.00", "1", "–", "+2.00", "0.00", "1"]
    places = [text.get_position() for text in axes.texts]  # type: ignore[attr-defined]
    assert places[1] == (1.5, 0.5)  # row birds, column words
    (squares,) = axes.collections  # type: ignore[attr-defined]
    colours = squares.get_facecolors()
    np.testing.assert_allclose(colours[1], clear_of(LIGHT.helps, 0.25**0.6))
    np.testing.assert_allclose(colours[2], clear_of(LIGHT.hurts, 0.5**0.6))
    np.testing.assert_allclose(colours[5], clear_of(LIGHT.missing, 1))
    np.testing.assert_allclose(colours[6], clear_of(LIGHT.helps, 1))  # twice the own step is no stronger than once
    np.testing.assert_allclose(colours[0], clear_of(LIGHT.sunk, 1))
    assert [label.get_text() for label in axes.get_yticklabels()] == list(TASKS)  # type: ignore[attr-defined]


def test_bold_is_what_is_clearly_not_nothing() -> None:
    low = ((0.9, 0.1, -0.1), (-0.2, 0.9, 0.0), (None, -0.4, 0.9))
    high = ((1.1, 0.5, 0.5), (-0.1, 1.1, 0.5), (0.3, None, 1.1))
    axes = heat_map(a_layer(matrix=a_table(0.3), low=low, high=high))
    bold = [text.get_fontweight() == "bold" for text in axes.texts]  # type: ignore[attr-defined]
    assert bold == [False, True, False, True, False, False, False, False, False]


def test_figures_are_said_where_one_points() -> None:
    layer = a_layer(
        matrix=a_table(0.32),
        low=a_table(0.1),
        high=a_table(0.5),
        mean_of_ratios=a_table(0.4),
        cosine=a_table(-0.05),
        conflict_rate=a_table(0.57),
    )
    titles = re.findall("<title>([^<]*)</title>", inline(interference_heat_maps(a_measurement(layers=(layer,))), ""))
    assert titles[1] == (
        "birds, when words takes the step · +0.32 (95\u202f% interval +0.10 to +0.50) · mean of ratios +0.40 · "
        "cosine −0.05 · conflict in 57\u202f% of the pairs"
    )
    assert titles[0].startswith("birds, by its own step · +1.00")
    assert titles[3].startswith("words, when birds takes the step")
    assert len(titles) == 9


def test_the_colour_grows_with_the_value_up_to_the_own_step() -> None:
    shades = [strength(value) for value in (0.0, 0.02, 0.3, 0.9, 1.0, 50.0)]
    assert shades == sorted(shades)
    assert (shades[0], shades[-2], shades[-1]) == (0, 1, 1)
    assert strength(-0.3) == strength(0.3)
    assert shades[1] > 0.09  # small effects are seen
    assert colour_of(None, own=True) == colour_of(None, own=False)


@pytest.mark.parametrize(("layers", "tasks"), [(1, 1), (1, 2), (24, 8), (60, 2)])
def test_any_number_of_layers_and_tasks_can_be_drawn(layers: int, tasks: int) -> None:
    names = tuple(f"a task with a long name {place}" for place in range(tasks))
    measured = a_measurement(names, layers=tuple(a_layer(depth, tasks=tasks) for depth in range(layers)))
    figure = interference_heat_maps(measured)
    assert len(figure.axes) == min(layers, MOST_LAYERS)
    width, height = figure.get_size_inches()
    assert 0.2 < width / height < 6
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert len(set(labels)) == tasks
    assert max(map(len, labels)) <= 14


@pytest.mark.parametrize("name", [EVIL, "鳥", "", "naïve\n", "%s", "$x"])
def test_names_in_any_letters_can_be_drawn(name: str) -> None:
    measured = a_measurement((name, "b"), layers=(a_layer(tasks=2, kind=name),))
    text = inline(interference_heat_maps(measured), name)
    assert image_of(interference_heat_maps(measured)).size
    assert_harmless(text)
    assert Page(text).tags.count("rect") == 4


def test_the_image_of_tensorboard_is_the_same_figure() -> None:
    matrix = ((1.0, 3.0, -1.0), (None, 1.0, 2.0), (-5.0, -1.5, 1.0))
    figure = interference_heat_maps(a_measurement(layers=(a_layer(matrix=matrix),)))
    image_HWC = image_of(figure)
    assert image_HWC.dtype == np.uint8
    width, height = figure.get_size_inches() * 100
    assert image_HWC.shape == (int(height), int(width), 3)
    counts = [area(image_HWC, colour) for colour in (LIGHT.helps, LIGHT.hurts, LIGHT.missing, LIGHT.sunk)]
    square = counts[2]
    assert square > 1000
    for count, squares in zip(counts, (2, 3, 1, 3), strict=True):
        assert count == pytest.approx(squares * square, rel=0.3)  # the rest is ink
    helped_y, helped_x = np.nonzero((image_HWC == pixel(LIGHT.helps)).all(axis=-1))
    assert helped_y.min() < 0.5 * height < helped_y.max()
    assert helped_x.min() > 0.4 * width
    assert image_of(figure).tobytes() == image_HWC.tobytes()


def test_scalars_leave_out_the_own_step_and_what_is_missing() -> None:
    matrix = ((1.0, 0.25, float("nan")), (None, 1.0, -0.5), (0.0, 2.0, 1.0))
    assert scalars(a_measurement(layers=(a_layer(3, matrix=matrix),))) == {
        "interference/encoder.blocks.3.ffn.linear2.weight/birds<-words": 0.25,
        "interference/encoder.blocks.3.ffn.linear2.weight/words<-tales": -0.5,
        "interference/encoder.blocks.3.ffn.linear2.weight/tales<-birds": 0.0,
        "interference/encoder.blocks.3.ffn.linear2.weight/tales<-words": 2.0,
    }


def pixel(colour: str) -> np.ndarray:
    return np.array([int(colour[place : place + 2], 16) for place in (1, 3, 5)], np.uint8)


def area(image_HWC: np.ndarray, colour: str) -> int:
    """Pixels of exactly that colour."""
    return int((image_HWC == pixel(colour)).all(axis=-1).sum())
