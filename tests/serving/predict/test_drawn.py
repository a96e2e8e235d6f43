"""Pictures with what was found in them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uniperceiver.errors import UserError
from uniperceiver.records.regions import Detections
from uniperceiver.serving.predict.drawn import DrawnPictures


def an_answer(height: int = 40, width: int = 60) -> Detections:
    return Detections(
        size=(height, width),
        boxes=np.array([[5, 5, 30, 30]], dtype=np.float32),
        scores=np.array([0.9], dtype=np.float32),
        classes=np.array([0]),
        names=["cat"],
    )


def test_two_files_of_one_name_are_two_pictures(tmp_path: Path) -> None:
    drawn = DrawnPictures(tmp_path / "out")
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        Image.new("RGB", (60, 40), "navy").save(tmp_path / place / "cat.jpg")
        drawn.add(tmp_path / place / "cat.jpg", an_answer())
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["cat-2.png", "cat.png"]
    picture = np.asarray(Image.open(tmp_path / "out" / "cat.png"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1  # something is drawn


def test_a_folder_with_files_is_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "cat.png").write_bytes(b"mine")
    with pytest.raises(UserError, match="not an empty folder; name a new"):
        DrawnPictures(tmp_path)
    assert not (tmp_path / "new").exists()
    DrawnPictures(tmp_path / "new")
    assert not (tmp_path / "new").exists()  # nothing is written before there is a picture
