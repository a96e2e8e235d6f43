"""Pictures with texts beside them, and lists of captions by picture and number."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import notes_of, open_source
from uniperceiver.errors import UserError


def put(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_a_text_beside_each_picture(tmp_path: Path) -> None:
    put(
        tmp_path,
        b_jpg="B",
        b_txt="one\n\ntwo\n",
        sub__a_png="A",
        sub__a_txt="three",
        c_jpg="C",
        d_txt="x",
        e_jpg="E",
        e_txt=" ",
    )
    (tmp_path / "._b.jpg").touch()
    (tmp_path / ".z.jpg").touch()
    (tmp_path / "x.psd").touch()
    put(tmp_path, g_jpg="G", h_gif="H", h_txt="four")
    (tmp_path / "g.txt").write_bytes(b"\xff")
    source = pickle.loads(pickle.dumps(open_source({"format": "beside", "path": "."}, "w", tmp_path)))
    samples = [source.read(index) for index in range(len(source))]
    assert [(sample.id, sample.image, sample.captions) for sample in samples] == [
        ("b.jpg", b"B", ("one", "two")),
        ("h.gif", b"H", ("four",)),
        ("sub/a.png", b"A", ("three",)),
    ]
    assert [note.removeprefix(f"{tmp_path}: ") for note in notes_of(source)] == [
        "2 files are not taken: 1 hidden, 1 .psd",
        "3 of 6 files have no text beside them and are left out",
        "1 texts cannot be read as UTF-8",
        "1 texts have no picture beside them",
        "1 .gif: of those that move, the first frame is taken",
    ]
    assert list(source.texts()) == ["one", "two", "four", "three"]
    with pytest.raises(UserError, match=r"no picture has a text beside it, such as a\.jpg and a\.caption"):
        open_source({"format": "beside", "path": ".", "suffix": ".caption"}, "w", tmp_path)
    put(tmp_path, f_mp4="F", f_txt="x")
    with pytest.raises(UserError, match=r"mixes kinds of files, such as .*f\.mp4; keep them apart"):
        open_source({"format": "beside", "path": "."}, "w", tmp_path)


def test_captions_of_flickr(tmp_path: Path) -> None:
    put(tmp_path, pictures__b_jpg="B", pictures__a_jpg="A")
    lines = "b.jpg#0\tone\nb.jpg#1\ttwo\na.jpg#0\tthree # 3\na.jpg#1\t\n"
    (tmp_path / "t.token").write_text(lines)
    spec: dict[str, Any] = {"format": "flickr_captions", "path": "t.token"}
    source = open_source({**spec, "files": "pictures"}, "w", tmp_path)
    assert [source.read(index).captions for index in range(2)] == [("one", "two"), ("three # 3",)]
    assert source.read(1).image == b"A"
    assert notes_of(source) == (f"{tmp_path}/t.token: 1 caption is empty or damaged and left out",)
    with pytest.raises(UserError, match=r"holds none of the pictures, not even b\.jpg; set key files"):
        open_source(spec, "w", tmp_path)
    (tmp_path / "t.token").write_text(lines + "a.jpg\tfour\n")
    source = open_source({**spec, "files": "pictures"}, "w", tmp_path)
    assert (len(source), notes_of(source)) == (
        2,
        (f"{tmp_path}/t.token: 2 captions are empty or damaged and left out",),
    )
    (tmp_path / "t.token").write_bytes("b.jpg#0\tGröße\n".encode("cp1252"))
    with pytest.raises(UserError, match="cannot be read as UTF-8 text"):
        open_source({**spec, "files": "pictures"}, "w", tmp_path)
    assert open_source({**spec, "files": "pictures", "encoding": "cp1252"}, "w", tmp_path).read(0).captions == (
        "Größe",
    )
    (tmp_path / "t.token").write_text("a.jpg\tone\n")
    with pytest.raises(UserError, match=r"no line has picture\.jpg#0, a tab and a caption; for other tables"):
        open_source({**spec, "files": "pictures"}, "w", tmp_path)
