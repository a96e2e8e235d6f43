"""Files are read when their batch comes, and not before."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uniperceiver import UniPerceiver
from uniperceiver.errors import UserError
from uniperceiver.serving import values
from uniperceiver.serving.inputs import image_samples, samples_of, with_texts


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for number, path in enumerate(paths):
        Image.new("RGB", (12, 9), (50 * number, 0, 90)).save(path)
    return paths


def test_a_file_is_read_when_it_is_looked_at(files: list[Path]) -> None:
    samples = with_texts(image_samples(files), [f"text {number}" for number in range(5)])
    kept = files[1].read_bytes()
    for path in files[2:]:
        path.unlink()
    assert (len(samples), len(samples[1:4])) == (5, 3)
    assert (samples[1].image, samples[1].text) == (kept, "text 1")
    assert samples[0:2][1].id == str(files[1])
    with pytest.raises(UserError, match=r"4\.png: cannot be read"):
        samples[4]


def test_what_is_not_there_is_told_before_anything_is_read(files: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.png: cannot be read \(No such file or directory\)"):
        image_samples([*files, tmp_path / "absent.png"])
    with pytest.raises(UserError, match=r"cannot be read \(Is a directory\)"):
        image_samples([tmp_path])


def test_at_most_a_batch_is_held(files: list[Path], model: UniPerceiver, monkeypatch: pytest.MonkeyPatch) -> None:
    told = list[str]()
    opened, encode = values._opened_at_once, model.model.encode

    def reading(path: str, flags: int) -> int:
        told.append(Path(path).stem)
        return opened(path, flags)

    asked = UniPerceiver(model.saved, batch=2)
    monkeypatch.setattr(values, "_opened_at_once", reading)
    monkeypatch.setattr(
        model.model, "encode", lambda *args, **options: told.append("encode") or encode(*args, **options)
    )
    asked.encode_image(files)
    assert told == ["0", "1", "encode", "2", "3", "encode", "4", "encode"]


def test_modalities_are_joined_when_they_are_read(files: list[Path]) -> None:
    frames = [np.zeros((2, 8, 8, 3), np.uint8)] * 5
    samples = samples_of(("image", "video"), {"image": files, "video": frames})
    assert all(sample.image and sample.clip is not None for sample in samples)
    assert [sample.id for sample in samples] == [str(path) for path in files]
