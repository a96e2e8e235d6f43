"""One measurement of interference as a picture and as numbers, for TensorBoard.

Shape suffixes: H and W pixels, C red, green and blue.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

from uniperceiver.interference.records import Interference, InterferenceLayer
from uniperceiver.report.interference_cells import MINUS, Cell, rows_of, short_names, strength, written_in

Colour = tuple[int, int, int]

GROUND: Colour = (255, 255, 255)
HELPS: Colour = (110, 168, 242)  # as in style.css
HURTS: Colour = (242, 145, 122)
_INK: Colour = (20, 23, 28)
_SOFT: Colour = (89, 97, 110)
OWN: Colour = (238, 240, 243)
NONE: Colour = (214, 218, 224)

_MOST = 24  # groups of parameters that are drawn; of more, evenly chosen ones
_NAME = 16  # most characters
_CELL_WIDTH, _CELL_HEIGHT, _TEXT, _TITLE, _PAD = 52, 26, 13, 15, 12

_LEGEND = "row: affected task; column: task that takes the step; + helps, - hurts; bold: interval excludes 0"
_LEAST_WIDTH = 640  # room for the legend

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def heat_map_image(measured: Interference) -> np.ndarray:
    """All heat maps of a measurement side by side, with numbers: image_HWC, uint8, on white.

    Bold numbers have a 95 % interval that excludes 0; grey squares could not be measured. Letters that the built-in
    font does not have become question marks.
    """
    layers = _evenly(measured.layers)
    panels = [_panel(measured.tasks, each) for each in layers]
    if not panels:
        return np.full((_TITLE + 2 * _PAD, 4 * _CELL_WIDTH, 3), 255, np.uint8)
    width, height = (max(sizes) for sizes in zip(*(each.size for each in panels), strict=True))
    columns = max(1, math.ceil(math.sqrt(1.6 * len(panels) * height / width)))
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    page = Image.new("RGB", (max(columns * width, _LEAST_WIDTH), rows * height + _TEXT + _PAD), GROUND)
    for place, each in enumerate(panels):
        page.paste(each, (place % columns * width, place // columns * height))
    ImageDraw.Draw(page).text((_PAD, rows * height - 2), _LEGEND, _SOFT, _font(_TEXT))
    return np.asarray(page, np.uint8)


def scalars(measured: Interference) -> dict[str, float]:
    """The numbers under TensorBoard's tags: "interference/LAYER/AFFECTED<-STEPPING" -> value.

    The diagonal, which is 1 by definition, and what was not measured are left out.
    """
    return {
        f"interference/{layer.name}/{cell.affected}<-{cell.stepping}": cell.value
        for layer in measured.layers
        for row in rows_of(measured.tasks, layer)
        for cell in row
        if cell.value is not None and not cell.own
    }


def colour(cell: Cell) -> Colour:
    """The colour of a square."""
    if cell.value is None:
        return NONE
    if cell.own:
        return OWN
    end, share = HELPS if cell.value >= 0 else HURTS, strength(cell.value)
    red, green, blue = (round(ground + share * (to - ground)) for ground, to in zip(GROUND, end, strict=True))
    return red, green, blue


class _Place(NamedTuple):
    x: float
    y: float


def _evenly(layers: Sequence[InterferenceLayer]) -> list[InterferenceLayer]:
    if not layers:
        return []
    chosen = np.linspace(0, len(layers) - 1, min(_MOST, len(layers))).round().astype(int)
    return [layers[index] for index in chosen]


def _panel(tasks: Sequence[str], layer: InterferenceLayer) -> Image.Image:
    """One heat map under its name; the columns' names are turned by a quarter."""
    small, large = _font(_TEXT), _font(_TITLE)
    names = [_plain(each) for each in short_names(tasks, _NAME)]
    label = math.ceil(max((small.getlength(each) for each in names), default=0)) + 8
    title = _plain(layer.name if layer.layer is None else f"layer {layer.layer}   {layer.name}")
    left, top = _PAD + label, _PAD + _TITLE + 10 + label
    width = max(left + _CELL_WIDTH * len(tasks), _PAD + math.ceil(large.getlength(title))) + 2 * _PAD
    image = Image.new("RGB", (width, top + _CELL_HEIGHT * len(tasks) + 2 * _PAD), GROUND)
    pen = ImageDraw.Draw(image)
    pen.text((_PAD, _PAD), title, _INK, large)
    for place, name in enumerate(names):
        middle = top + (place + 0.5) * _CELL_HEIGHT
        _write(pen, _Place(left - 8 - small.getlength(name), middle - _TEXT / 2 - 1), name, small, _SOFT)
        image.paste(_turned(name, small, label), (left + place * _CELL_WIDTH + (_CELL_WIDTH - _TEXT) // 2, top - label))
    for row, cells in enumerate(rows_of(tasks, layer)):
        for column, cell in enumerate(cells):
            _square(pen, _Place(left + column * _CELL_WIDTH, top + row * _CELL_HEIGHT), cell, small)
    return image


def _square(pen: ImageDraw.ImageDraw, corner: _Place, cell: Cell, font: Font) -> None:
    x, y = corner
    pen.rectangle((x, y, x + _CELL_WIDTH - 2, y + _CELL_HEIGHT - 2), colour(cell))
    text = _plain(written_in(cell))
    at = _Place(x + (_CELL_WIDTH - 2 - font.getlength(text)) / 2, y + (_CELL_HEIGHT - _TEXT) / 2 - 2)
    _write(pen, at, text, font, _SOFT if cell.own or cell.value is None else _INK)
    if cell.clear and not cell.own:  # the built-in font has no bold letters: the same once more beside it
        _write(pen, _Place(at.x + 0.7, at.y), text, font, _INK)


def _turned(name: str, font: Font, length: int) -> Image.Image:
    image = Image.new("RGB", (length, _TEXT + 4), GROUND)
    _write(ImageDraw.Draw(image), _Place(6, 0), name, font, _SOFT)
    return image.transpose(Image.Transpose.ROTATE_90)


def _write(pen: ImageDraw.ImageDraw, at: _Place, text: str, font: Font, ink: Colour) -> None:
    pen.text((at.x, at.y), text, ink, font)


def _font(size: int) -> Font:
    """The font that comes with Pillow; builds without FreeType have one size only."""
    return ImageFont.load_default(size if features.check("freetype2") else None)


def _plain(text: str) -> str:
    """The text in letters that the font has."""
    return text.replace(MINUS, "-").replace("–", "-").replace("…", "..").encode("ascii", "replace").decode()
