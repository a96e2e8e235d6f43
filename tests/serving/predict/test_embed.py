"""Vectors of many files: each once, in parts that are whole, whoever makes them and however often they are stopped."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from uniperceiver import UniPerceiver, UserError
from uniperceiver.cli import main
from uniperceiver.serving.predict import embed as embedding
from uniperceiver.serving.predict.embed import embed, part_path, read_parts


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Ten pictures, and one that is none."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{number}.png" for number in range(10)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    (folder / "broken.png").write_bytes(b"no picture")
    return [*map(str, paths[:6]), str(folder / "broken.png"), *map(str, paths[6:])]


def test_vectors_are_those_of_encode_image(model: UniPerceiver, files: list[str], tmp_path: Path) -> None:
    done = embed(model, files, tmp_path / "out", size=4)
    assert (done.made, done.there, list(done.errors)) == (3, 0, [files[6]])
    parts = list(read_parts(tmp_path / "out"))
    assert [part.number for part in parts] == [0, 1, 2]
    names = [name for part in parts for name in part.files]
    assert names == [name for name in files if "broken" not in name]
    assert "broken.png" in next(iter(parts[1].errors))
    expected_ND = model.encode_image([Path(name) for name in names])
    vectors_ND = torch.cat([part.vectors_ND for part in parts])
    assert vectors_ND.dtype == torch.float16
    torch.testing.assert_close(vectors_ND.float(), expected_ND, atol=1e-3, rtol=0)


def test_what_is_there_is_left_and_shares_are_the_whole(model: UniPerceiver, files: list[str], tmp_path: Path) -> None:
    embed(model, files, tmp_path / "whole", size=3)
    for number in (1, 0, 1):  # the last finds all of it there
        done = embed(model, files, tmp_path / "shares", size=3, share=(number, 2))
    assert (done.made, done.there) == (0, 2)
    for number in range(4):
        assert part_path(tmp_path / "shares", number).read_bytes() == part_path(tmp_path / "whole", number).read_bytes()


def test_a_part_that_was_not_finished_is_made_again(
    model: UniPerceiver, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = embedding._embedded

    def killed(model: UniPerceiver, number: int, *more: object) -> object:
        if number == 1:
            raise KeyboardInterrupt
        return made(model, number, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(embedding, "_embedded", killed)
    with pytest.raises(KeyboardInterrupt):
        embed(model, files, tmp_path, size=4)
    assert [part.number for part in read_parts(tmp_path)] == [0]
    monkeypatch.undo()
    done = embed(model, files, tmp_path, size=4)
    assert (done.made, done.there) == (2, 1)


def test_twenty_stops_and_one_to_three_shares_leave_every_file_once(
    model: UniPerceiver, files: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at any moment: while items are read, encoded, or a part is written."""
    pictures = [name for name in files if "broken" not in name]
    names = []
    for number in range(60):
        names.append(str(tmp_path / f"{number:02d}.png"))
        Path(names[-1]).write_bytes(Path(pictures[number % 10]).read_bytes())
    rng, out, stops = np.random.default_rng(0), tmp_path / "out", 0
    save = embedding.save
    while stops < 20:
        left = int(rng.integers(3))  # parts that are written before the stop

        def stopped(*values: Any, **more: Any) -> bytes:
            nonlocal left
            left -= 1
            if left < 0:
                raise KeyboardInterrupt
            return save(*values, **more)

        monkeypatch.setattr(embedding, "save", stopped)
        shares = int(rng.integers(1, 4))
        try:
            embed(model, names, out, size=2, share=(int(rng.integers(shares)), shares))
        except KeyboardInterrupt:
            stops += 1
    monkeypatch.undo()
    embed(model, names, out, size=2)
    parts = list(read_parts(out))
    assert [name for part in parts for name in part.files] == names
    expected_ND = model.encode_image([Path(name) for name in names])
    torch.testing.assert_close(torch.cat([part.vectors_ND for part in parts]).float(), expected_ND, atol=1e-3, rtol=0)
    assert {path.suffix for path in out.iterdir()} == {".safetensors", ".json"}  # no half of a part is left


def test_a_part_of_which_all_files_are_broken_is_a_part(model: UniPerceiver, files: list[str], tmp_path: Path) -> None:
    files = [files[0], files[6], files[1]]
    done = embed(model, files, tmp_path, size=1)
    assert (done.made, list(done.errors)) == (3, [files[1]])
    assert not done.errors[files[1]].startswith(files[1])  # who says it says the name, too
    parts = list(read_parts(str(tmp_path)))
    assert [part.files for part in parts] == [(files[0],), (), (files[2],)]
    assert [tuple(part.vectors_ND.shape) for part in parts] == [(1, 16), (0, 16), (1, 16)]


def test_a_list_is_tried_from_its_beginning_to_its_end(model: UniPerceiver, files: list[str], tmp_path: Path) -> None:
    """Where all files of a part are broken, others of the list say whether it is the list that is wrong."""
    done = embed(model, [files[6]] * 40 + files[:4], tmp_path / "out", size=20)
    assert [len(part.files) for part in read_parts(tmp_path / "out")] == [0, 0, 4]
    assert (done.made, len(done.errors)) == (3, 1)


def test_a_list_of_which_no_file_is_there_is_refused(model: UniPerceiver, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^none of the 2 files of part 0 can be used; gone/1\.png: cannot be read"):
        embed(model, [f"gone/{number}.png" for number in range(1, 4)], tmp_path, size=2)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda files: files[:-1], "holds vectors of another list of files; use another --out"),
        (lambda files: [*files, "notes.txt"], "notes.txt: is no picture, clip or sound by its name"),
    ],
)
def test_another_list_is_refused(
    model: UniPerceiver, files: list[str], tmp_path: Path, change: object, line: str
) -> None:
    embed(model, files, tmp_path, size=100)
    with pytest.raises(UserError, match=line):
        embed(model, change(files), tmp_path, size=100)  # type: ignore[operator]


def test_the_command(trained: Path, files: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "list.txt").write_text("\n".join(files))
    words = ["embed", str(trained), "--files", str(tmp_path / "list.txt"), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "1 parts made, 0 were there, 1 files left out" in capsys.readouterr().out
    assert main([*words, "--share", "x"]) == 2
    assert "--share x: give a number and how many there are" in capsys.readouterr().err
