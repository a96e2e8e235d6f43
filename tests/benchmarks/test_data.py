"""The benchmark of reading runs; every format gives the samples of the bare loop."""

import math
from pathlib import Path

import pytest
import torch

from benchmarks.data import BARE, Medium, Scale, measure, mixture_of, read
from benchmarks.data_files import FORMATS, make_files
from uniperceiver.data.media.preprocess import Preprocess

pytest.importorskip("av")
TINY: Scale = {
    "image": Medium(count=5, batch=3, size=(40, 32), preprocess=Preprocess(size=16)),
    "clip": Medium(count=3, batch=2, size=(32, 48), preprocess=Preprocess(size=16, frames=3, stride=2)),
    "text": Medium(count=7, batch=3, preprocess=Preprocess(length=9)),
}


@pytest.mark.parametrize("name", [name for name, kind in FORMATS.items() if kind.usable and kind.media != "text"])
def test_the_pixels_are_those_of_the_bare_loop(name: str, tmp_path: Path) -> None:
    medium = TINY[FORMATS[name].media]
    files = make_files(tmp_path / "files", FORMATS[name].media, medium.count, medium.size)
    mixture = mixture_of(name, tmp_path, files, medium)
    whole, bare = torch.cat(read(mixture)), torch.cat(BARE[files.media](files, medium, mixture))
    assert whole.shape[0] == medium.count
    if files.media == "clip":  # training starts at a random frame
        assert whole.shape == bare.shape
        return
    distance = torch.cdist(whole.flatten(1), bare.flatten(1), p=torch.inf)
    nearest = distance.argmin(dim=1)  # training shuffles
    assert sorted(nearest.tolist()) == list(range(medium.count))
    assert float(distance.min(dim=1).values.max()) < 1e-5


def test_every_row_is_measured() -> None:
    rows = {row.name.removeprefix("data/"): row for row in measure(1, TINY, (160, 120), (2, 0.5))}
    assert all(math.isfinite(row.value) and row.value > 0 for row in rows.values())
    assert rows["draft over whole/160x120 to 224/batch1/threads1"].goal == 0.2
    assert [row.goal for name, row in rows.items() if "sounds" in name or "probing" in name] == [0.8, 0.8, 0.6]
    for name, kind in FORMATS.items():
        if kind.usable:
            named = [row for key, row in rows.items() if f"/{name}/" in key]
            assert len(named) == (2 if kind.media == "text" else 4)
    assert {row.goal for name, row in rows.items() if name.startswith("speed over bare loop/folder")} == {0.8, 0.7}
