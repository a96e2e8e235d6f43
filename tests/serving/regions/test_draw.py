"""What is drawn into pictures: where lines, masks and labels are, at any size, and what is refused."""

import io
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.coco_reference import detections
from uniperceiver.errors import UserError
from uniperceiver.palette import DARK_TONES, class_tone, ink_on
from uniperceiver.serving.regions import draw as drawing
from uniperceiver.serving.regions.detect import drawn
from uniperceiver.serving.regions.draw import draw

GREY = 120
NAMES = ["red", "round"]


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def is_tone(picture: Image.Image, label: int) -> np.ndarray:
    """Where the picture has the colour of a class, (H, W) bool."""
    colour = tuple(bytes.fromhex(class_tone(label)[1:]))
    return (np.array(picture) == np.array(colour)).all(axis=2)


@pytest.mark.parametrize("side", [100, 500, 4000])
def test_a_box_is_where_it_was_found_at_any_size(side: int) -> None:
    scale = side / 100
    picture = draw(
        grey(side, side),
        detections([[20 * scale, 40 * scale, 80 * scale, 90 * scale]], [1], [0.5], NAMES, size=(side, side)),
    )
    assert picture.width == picture.height == max(side, 480)
    line_HW, unit = is_tone(picture, 1), picture.width / 100
    rows, columns = np.flatnonzero(line_HW.any(axis=1)), np.flatnonzero(line_HW.any(axis=0))
    assert abs(columns[0] - 20 * unit) <= 1.5
    assert abs(rows[-1] - 90 * unit) <= 1.5
    assert 25 * unit < rows[0] < 40 * unit  # a label above it
    assert line_HW[:, : round(19 * unit)].sum() == 0
    middle = line_HW[round(65 * unit)]
    width = int(np.diff(np.flatnonzero(np.diff(np.concatenate([[0], middle.astype(int), [0]]))))[0])
    assert picture.width / 300 <= width <= picture.width / 100  # of the line
    assert 12 <= rows_of_label(line_HW, round(21 * unit)) <= max(40, picture.width / 20)


def rows_of_label(line_HW: np.ndarray, column: int) -> int:
    """The height of the label, which is a full block of colour beside its text."""
    rows = np.flatnonzero(line_HW[:, column])
    return int(np.argmax(np.diff(rows) > 1)) + 1


def test_the_picture_itself_stays_as_it_is() -> None:
    before = grey(480, 480)
    image = Image.fromarray(before)
    masks = np.ones((1, 480, 480), bool)
    draw(image, detections([[0, 0, 99, 99]], [0], [0.5], NAMES, size=(480, 480), masks=masks))
    np.testing.assert_array_equal(np.array(image), grey(480, 480))
    untouched = draw(before, detections([], [], [], NAMES, size=(480, 480)))
    np.testing.assert_array_equal(np.array(untouched), before)
    assert draw(grey(9, 5), detections([], [], [], NAMES, size=(9, 5)), smallest=0).size == (5, 9)


def test_masks_are_half_transparent_and_the_best_is_on_top() -> None:
    masks = np.zeros((2, 480, 480), bool)
    masks[0, 100:200, 100:200], masks[1, 150:300, 150:300] = True, True
    empty = np.zeros((1, 480, 480), bool)
    answers = detections(
        [[400, 400, 410, 410]] * 3,
        [0, 1, 1],
        [0.9, 0.8, 0.7],
        NAMES,
        size=(480, 480),
        masks=np.concatenate([masks, empty]),
    )
    pixels = np.array(draw(grey(480, 480), answers)).astype(int)
    tones = [np.array(list(bytes.fromhex(class_tone(label)[1:]))) for label in (0, 1)]
    under = 0.55 * GREY + 0.45 * tones[1]
    np.testing.assert_allclose(pixels[120, 120], 0.55 * GREY + 0.45 * tones[0], atol=1.01)
    np.testing.assert_allclose(pixels[250, 250], under, atol=1.01)
    np.testing.assert_allclose(pixels[180, 180], 0.55 * under + 0.45 * tones[0], atol=2.01)
    assert pixels[50, 50].tolist() == [GREY] * 3


def test_the_box_of_the_best_is_on_top() -> None:
    answers = detections([[100, 100, 300, 300]] * 2, [0, 1], [0.9, 0.8], NAMES, size=(480, 480))
    picture = draw(grey(480, 480), answers)
    assert is_tone(picture, 0)[300, 120:280].all()
    assert not is_tone(picture, 1)[300].any()


def test_masks_of_small_pictures_grow_with_them() -> None:
    masks = np.zeros((1, 60, 80), bool)
    masks[0, 20:30, 50:70] = True
    picture = draw(grey(60, 80), detections([[0, 0, 1, 1]], [0], [0.5], NAMES, size=(60, 80), masks=masks))
    changed = (np.array(picture) != GREY).any(axis=2)
    assert picture.size == (480, 360)
    assert changed[121:179, 301:419].all()
    assert not changed[121:179, 421:].any()


def test_only_what_is_good_enough_is_drawn() -> None:
    answers = detections([[10, 100, 60, 150], [300, 300, 400, 400]], [0, 1], [0.9, 0.2], NAMES, size=(480, 480))
    picture = draw(grey(480, 480), answers, least=0.3)
    assert (is_tone(picture, 0).any(), is_tone(picture, 1).any()) == (True, False)


def test_labels_do_not_cover_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    corner_N2 = rng.random((60, 2)) * 400
    boxes = np.concatenate([corner_N2, corner_N2 + 10 + rng.random((60, 2)) * 60], axis=1)
    places: list[drawing.Corners] = []
    label = drawing._label

    def noted(*parts: object) -> None:
        label(*parts)  # type: ignore[arg-type]
        places[:] = parts[-1]  # type: ignore[index]

    monkeypatch.setattr(drawing, "_label", noted)
    draw(grey(480, 480), detections(boxes, [0] * 60, np.linspace(1, 0, 60), NAMES, size=(480, 480)))
    assert 20 < len(places) < 60
    assert np.array(places).min() >= 0
    assert np.array(places).max() <= 480
    for first, second in combinations(places, 2):
        assert first[2] <= second[0] or second[2] <= first[0] or first[3] <= second[1] or second[3] <= first[1]


@pytest.mark.parametrize("name", ["a very long label that does not fit into any picture, " * 3, "x", "Größe тест"])
def test_every_label_fits(name: str) -> None:
    picture = draw(grey(50, 50), detections([[10, 20, 40, 45]], [0], [0.5], [name], size=(50, 50)))
    assert is_tone(picture, 0)[:, 200].any()


def test_boxes_beyond_the_picture_and_without_area() -> None:
    boxes = [[-50, -50, 900, 900], [100, 100, 100, 100], [470, 470, 480, 480]]
    assert is_tone(draw(grey(480, 480), detections(boxes, [0] * 3, [0.9, 0.8, 0.7], NAMES, size=(480, 480))), 0).any()


def test_a_turned_picture_is_drawn_upright() -> None:
    image, exif = Image.fromarray(grey(480, 640)), Image.Exif()
    exif[0x0112] = 6
    image.getexif().update(exif)
    assert draw(image, detections([], [], [], NAMES, size=(640, 480))).size == (480, 640)


def test_what_is_refused() -> None:
    answers = detections([], [], [], NAMES, size=(30, 40))
    with pytest.raises(UserError) as refused:
        draw(grey(8, 9), answers)
    assert str(refused.value) == (
        "draw: the picture has 9x8 pixels, and the detections are of one with 40x30; "
        "give the picture that was asked about"
    )
    with pytest.raises(
        UserError, match=r"^draw: nowhere\.ttf: not a font that can be read \(.*\); give a TrueType file$"
    ):
        draw(grey(30, 40), answers, font="nowhere.ttf")


def test_labels_can_be_read_on_every_tone() -> None:
    assert {ink_on(tone) for tone in DARK_TONES} <= {"#000000", "#ffffff"}
    assert (ink_on("#ffffff"), ink_on("#000000"), ink_on("#e7e64b"), ink_on("#0a4a23")) == (
        "#000000",
        "#ffffff",
        "#000000",
        "#ffffff",
    )
    assert [class_tone(index) for index in (0, 7, 8)] == [DARK_TONES[0], DARK_TONES[7], DARK_TONES[0]]


def test_a_giant_that_is_decoded_smaller_is_drawn_at_its_size() -> None:
    file = io.BytesIO()
    Image.new("RGB", (8000, 5200)).save(file, "JPEG")  # 41.6 megapixels, more than are decoded
    things = detections([[10, 10, 90, 90]], [0], [0.5], NAMES, size=(5200, 8000))
    assert drawn(file.getvalue(), things).size == (8000, 5200)
    others = detections([[10, 10, 90, 90]], [0], [0.5], NAMES, size=(520, 800))
    with pytest.raises(UserError, match="4000x2600 pixels, and the detections are of one with 800x520"):
        drawn(file.getvalue(), others)


@pytest.mark.parametrize(
    ("image", "answer", "message"),
    [
        (grey(9, 9), [], r"a list is not what was found in a picture; give the Detections of that picture"),
        ([grey(9, 9)], detections([], [], [], NAMES, size=(9, 9)), "give the picture itself, found a list"),
    ],
)
def test_lists_are_no_picture_and_no_answer(image: Any, answer: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        drawn(image, answer)
