"""Small encoded pictures for tests of formats with boxes and masks."""

import io
from pathlib import Path

import numpy as np
from PIL import Image


def png(width: int = 60, height: int = 40, orientation: int = 1) -> bytes:
    """A picture of one colour, which EXIF may turn."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 120, 30)).save(file, "PNG", exif=exif)
    return file.getvalue()


def write_picture(path: Path, width: int = 60, height: int = 40, orientation: int = 1) -> None:
    """The same as a file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(png(width, height, orientation))


def write_values(path: Path, values: np.ndarray) -> None:
    """An array as a PNG file that keeps its values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, "PNG")
