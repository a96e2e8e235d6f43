"""The picture and the numbers of a measurement for TensorBoard."""

import re
from importlib.resources import files

import numpy as np
import pytest
from PIL import ImageFont

from tests.report.made_up import TASKS, a_layer, a_measurement, a_table
from tests.report.test_run_report import EVIL
from uniperceiver.report.interference_cells import rows_of
from uniperceiver.report.interference_image import GROUND, HELPS, HURTS, NONE, OWN, colour, heat_map_image, scalars


def area(image_HWC: np.ndarray, wanted: tuple[int, int, int]) -> int:
    """Pixels of exactly that colour."""
    return int((image_HWC == np.array(wanted, np.uint8)).all(axis=-1).sum())


def test_squares_have_their_colours_and_numbers() -> None:
    matrix = ((1.0, 3.0, -1.0), (None, 1.0, 2.0), (-5.0, -1.5, 1.0))
    image_HWC = heat_map_image(a_measurement(layers=(a_layer(matrix=matrix),)))
    assert image_HWC.dtype == np.uint8
    assert image_HWC.shape[2] == 3
    square = 51 * 25
    for wanted, squares in ((HELPS, 2), (HURTS, 3), (NONE, 1), (OWN, 3)):
        assert 0.6 * squares * square < area(image_HWC, wanted) < squares * square  # the rest is ink
    assert area(image_HWC, (20, 23, 28)) > 100


def test_rows_are_the_affected_tasks() -> None:
    matrix = ((1.0, 2.0, 2.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    image_HWC = heat_map_image(a_measurement(layers=(a_layer(matrix=matrix),)))
    y_N, x_N = np.nonzero((image_HWC == np.array(HELPS, np.uint8)).all(axis=-1))
    assert y_N.max() - y_N.min() < 26
    assert 60 < x_N.max() - x_N.min() < 104


def test_small_values_are_pale_and_none_is_grey() -> None:
    matrix = ((1.0, 0.02, -0.3), (None, 1.0, -1.0), (0.0, 1.0, 1.0))
    rows = rows_of(TASKS, a_layer(matrix=matrix))
    assert [colour(rows[0][0]), colour(rows[1][0]), colour(rows[2][0])] == [OWN, NONE, GROUND]
    pale, middle, full = colour(rows[0][1]), colour(rows[0][2]), colour(rows[1][2])
    assert full == HURTS
    assert GROUND[1] > middle[1] > HURTS[1]
    assert GROUND[0] > pale[0] > 0.9 * GROUND[0]


def test_clear_numbers_are_bold() -> None:
    clear = heat_map_image(a_measurement(layers=(a_layer(matrix=a_table(0.2), low=a_table(0.1)),)))
    unclear = heat_map_image(a_measurement(layers=(a_layer(matrix=a_table(0.2), low=a_table(-0.1)),)))
    assert clear.shape == unclear.shape
    assert clear.astype(int).sum() < unclear.astype(int).sum()


@pytest.mark.parametrize(("layers", "tasks"), [(0, 3), (1, 1), (1, 2), (24, 8), (60, 2)])
def test_any_number_of_layers_and_tasks_can_be_drawn(layers: int, tasks: int) -> None:
    names = tuple(f"a task with a long name {place}" for place in range(tasks))
    measured = a_measurement(names, layers=tuple(a_layer(depth, tasks=tasks) for depth in range(layers)))
    height, width, _ = heat_map_image(measured).shape
    assert 0 < height < 3000
    assert 0 < width < 5000


@pytest.mark.parametrize("name", [EVIL, "鳥", "", "naïve\n", "%s"])
def test_names_in_any_letters_can_be_drawn(name: str) -> None:
    image_HWC = heat_map_image(a_measurement((name, "b"), layers=(a_layer(tasks=2, kind=name),)))
    assert area(image_HWC, OWN) > 0


def test_builds_of_pillow_without_freetype_can_draw_them_too(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = ImageFont.load_default_imagefont()
    monkeypatch.setattr(ImageFont, "load_default", lambda size=None: plain)
    image_HWC = heat_map_image(a_measurement(("鳥", "b…"), layers=(a_layer(tasks=2),)))
    assert area(image_HWC, (20, 23, 28)) > 100


def test_scalars_leave_out_the_own_step_and_what_is_missing() -> None:
    matrix = ((1.0, 0.25, float("nan")), (None, 1.0, -0.5), (0.0, 2.0, 1.0))
    assert scalars(a_measurement(layers=(a_layer(3, matrix=matrix),))) == {
        "interference/encoder.blocks.3.ffn.linear2.weight/birds<-words": 0.25,
        "interference/encoder.blocks.3.ffn.linear2.weight/words<-tales": -0.5,
        "interference/encoder.blocks.3.ffn.linear2.weight/tales<-birds": 0.0,
        "interference/encoder.blocks.3.ffn.linear2.weight/tales<-words": 2.0,
    }


def test_the_colours_are_those_of_the_page() -> None:
    text = files("uniperceiver.report").joinpath("style.css").read_text(encoding="utf-8")
    light = text.split("@media")[0]
    for name, (red, green, blue) in {"helps": HELPS, "hurts": HURTS, "missing": NONE, "sunk": OWN}.items():
        assert re.findall(rf"--{name}: (#\w+)", light) == [f"#{red:02x}{green:02x}{blue:02x}"]
