"""DETECTIONS -> A PICTURE: boxes with labels and scores, and half transparent masks, drawn into a copy of a photograph.

Shape suffixes: D detections, H W pixels.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from uniperceiver.data.media.decode import decode_image, stored_size
from uniperceiver.errors import UserError
from uniperceiver.palette import class_tone, ink_on
from uniperceiver.records.regions import Detections

_OPACITY = 0.45  # of a mask
_LINES, _TEXTS = 240, 46  # parts of the picture's longest side that a line is wide, a text is high
_LEAST_TEXT = 12  # pixels
_SHADE = "#16181c"  # around lines

Corners = tuple[float, float, float, float]  # x0 y0 x1 y1 in pixels


def draw(
    image: Image.Image | np.ndarray,
    detections: Detections,
    *,
    least: float = 0.0,
    smallest: int = 480,
    font: str | Path | None = None,
) -> Image.Image:
    """Draw the things that were found into a copy of a picture, the best of them on top.

    Every class has a colour, those that are far apart first; more than eight classes share them. A label that would
    cover another is left out, the worse of the two: its box is there.

    Args:
        image: (H, W, 3) uint8 or a Pillow image, of which EXIF's rotation is followed.
        least: only detections of at least that score.
        smallest: a picture whose longest side has fewer pixels is enlarged to so many, so that labels can be read; 0:
            never.
        font: a TrueType file for the labels; None: DejaVu Sans, which has the letters of Europe and the Near East.

    Raises:
        UserError: the detections are those of a picture of another size, or the font cannot be read.
    """
    picture = ImageOps.exif_transpose(image) if isinstance(image, Image.Image) else Image.fromarray(image)
    height, width = detections.size
    if picture.size != (width, height):
        raise UserError(
            f"draw: the picture has {picture.width}x{picture.height} pixels, and the detections are of one with "
            f"{width}x{height}; give the picture that was asked about"
        )
    scale = max(1.0, smallest / max(picture.size))
    canvas = picture.convert("RGB").copy()
    if scale > 1:
        canvas = canvas.resize((round(scale * width), round(scale * height)), Image.Resampling.BICUBIC)
    chosen = [place for place, score in enumerate(detections.scores.tolist()) if score >= least]
    if detections.masks is not None:
        _paint_masks(canvas, detections, chosen)
    pen, side = ImageDraw.Draw(canvas), max(canvas.size)
    line = max(3, round(side / _LINES))
    boxes = {place: _corners(detections.boxes[place] * scale, canvas.size) for place in chosen}
    for place in reversed(chosen):
        _rectangle(pen, boxes[place], line, class_tone(int(detections.classes[place])))
    letters = _font(font, max(_LEAST_TEXT, side / _TEXTS))
    taken: list[Corners] = []
    for place in chosen:
        text = _fitted(detections.labels[place], f" {detections.scores[place]:.2f}", letters, canvas.width - 4 * line)
        _label(pen, text, boxes[place], letters, line, class_tone(int(detections.classes[place])), taken)
    return canvas


def decoded(data: bytes, name: str, size: tuple[int, int]) -> Image.Image:
    """An encoded picture with the pixels that it has upright; a giant, which is decoded at a part of them, is enlarged.

    Args:
        size: height and width of the picture that was asked about: only that one is enlarged.

    Raises:
        BrokenSample: it cannot be decoded.
    """
    picture = Image.fromarray(decode_image(data, name))
    if picture.size != (size[1], size[0]) and stored_size(data, name).upright == size:
        picture = picture.resize((size[1], size[0]))
    return picture


def _paint_masks(canvas: Image.Image, detections: Detections, chosen: list[int]) -> None:
    """Blend the masks into the picture, each only where it is."""
    assert detections.masks is not None
    for place in reversed(chosen):
        mask_HW = detections.masks[place]
        rows, columns = np.flatnonzero(mask_HW.any(axis=1)), np.flatnonzero(mask_HW.any(axis=0))
        if not len(rows):
            continue
        scale_x, scale_y = canvas.width / mask_HW.shape[1], canvas.height / mask_HW.shape[0]
        x0, x1 = round(columns[0] * scale_x), round((columns[-1] + 1) * scale_x)
        y0, y1 = round(rows[0] * scale_y), round((rows[-1] + 1) * scale_y)
        part_HW = mask_HW[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        stencil = Image.fromarray(part_HW.astype(np.uint8) * 255).resize((x1 - x0, y1 - y0), Image.Resampling.NEAREST)
        tone = class_tone(int(detections.classes[place]))
        blended = Image.blend(canvas.crop((x0, y0, x1, y1)), Image.new("RGB", stencil.size, tone), _OPACITY)
        canvas.paste(blended, (x0, y0), stencil)


def _font(file: str | Path | None, height: float) -> ImageFont.FreeTypeFont:
    if file is None:
        from matplotlib import get_data_path  # which brings a font for many scripts

        file = Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    try:
        return ImageFont.truetype(file, height)
    except OSError as error:
        raise UserError(f"draw: {file}: not a font that can be read ({error}); give a TrueType file") from None


def _corners(box_4: np.ndarray, size: tuple[int, int]) -> Corners:
    """The corners inside the picture; a box without area becomes a point."""
    x0, y0, x1, y1 = (float(side) for side in box_4)
    right, bottom = size[0] - 1, size[1] - 1
    x0, y0 = min(max(x0, 0), right), min(max(y0, 0), bottom)
    return x0, y0, min(max(x1, x0), right), min(max(y1, y0), bottom)


def _rectangle(pen: ImageDraw.ImageDraw, box: Corners, line: int, tone: str) -> None:
    """A line of a colour between two dark ones, which is seen on every ground."""
    shade = max(1, line // 3)
    x0, y0, x1, y1 = box
    pen.rectangle((x0 - shade, y0 - shade, x1 + shade, y1 + shade), outline=_SHADE, width=line + 2 * shade)
    pen.rectangle(box, outline=tone, width=line)


def _fitted(name: str, score: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """The name, cut where it is wider than the picture, and the score."""
    name = " ".join(name.split())
    text = name + score
    for length in range(len(name) - 1, 0, -1):
        if font.getlength(text) <= width:
            break
        text = f"{name[:length].rstrip()}…{score}"
    return text


def _label(
    pen: ImageDraw.ImageDraw,
    text: str,
    box: Corners,
    font: ImageFont.FreeTypeFont,
    line: int,
    tone: str,
    taken: list[Corners],
) -> None:
    """Write a label at a side of its box where no other label is, and note its place; nowhere if there is none."""
    left, top, right, bottom = font.getbbox(text)
    width, height = right - left + 4 * line, bottom - top + 2 * line
    for place in _places(box, width, height, pen.im.size):
        x0, y0, x1, y1 = place
        if not any(x0 < other[2] and other[0] < x1 and y0 < other[3] and other[1] < y1 for other in taken):
            taken.append(place)
            pen.rectangle(place, fill=tone)
            pen.text((x0 + 2 * line - left, y0 + line - top), text, fill=ink_on(tone), font=font)
            return


def _places(box: Corners, width: float, height: float, size: tuple[int, int]) -> Iterator[Corners]:
    """Where a label may stand: above its box, inside it, below it, from the left and from the right."""
    x0, y0, x1, y1 = box
    for top in (y0 - height, y0, y1, y1 - height):
        for left in (x0, x1 - width):
            left = min(max(left, 0), max(0, size[0] - width))
            if 0 <= top <= size[1] - height:
                yield left, top, left + width, top + height
