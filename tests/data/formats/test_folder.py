"""A folder per class."""

import os
import pickle
import sys
from pathlib import Path

import pytest

from uniperceiver.config import parse_recipe
from uniperceiver.data.formats import class_names, notes_of, open_source
from uniperceiver.data.tasks import open_tasks
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.modalities import MODALITIES, Modality


def make(root: Path, *files: str) -> Path:
    """Files that hold their own name."""
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_text(file)
    return root


def test_classes_and_files_are_sorted(tmp_path: Path) -> None:
    make(
        tmp_path, "t-shirt/2.JPG", "t-shirt/1.png", "hot_dog/deep/er/3.webp", "hot_dog/notes.txt", "hot_dog/.x.jpg",
        ".cache/4.jpg", "hot_dog/.thumbs/5.jpg", "readme.md",
    )  # fmt: skip
    source = pickle.loads(pickle.dumps(open_source({"format": "folder", "path": "."}, "w", tmp_path)))
    assert class_names(source) == ("hot_dog", "t-shirt")
    assert source.classes == (("hot dog",), ("t-shirt",))
    assert list(source.texts()) == ["hot dog", "t-shirt"]
    samples = [source.read(index) for index in range(len(source))]
    assert [sample.id for sample in samples] == ["hot_dog/deep/er/3.webp", "t-shirt/1.png", "t-shirt/2.JPG"]
    assert [sample.label for sample in samples] == [0, 1, 1]
    assert [sample.image for sample in samples] == [sample.id.encode() for sample in samples]
    assert all(sample.clip is None for sample in samples)


def test_clips(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "a/2.webm", "a/1.jpg")
    message = r"mixes images and clips, such as a/1\.jpg; choose with `extensions: \[jpg\] or \[mp4, webm\]`"
    with pytest.raises(UserError, match=message):
        open_source({"format": "folder", "path": "."}, "w", tmp_path)
    source = open_source({"format": "folder", "path": ".", "extensions": [".MP4", "webm"]}, "w", tmp_path)
    assert [source.read(index).clip for index in range(len(source))] == [b"a/1.mp4", b"a/2.webm"]
    assert source.read(0).image is None


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["x.jpg"], "no class folders; expected a sub-folder per class"),
        (["train/a/1.jpg", "val/a/2.jpg"], "holds splits, not classes; give one of them, such as .*train"),
        (["a/1.jpg", "b/1.txt"], r"b: class folder without files \(jpg .*fill it, remove it in every split, or list"),
    ],
)
def test_what_is_no_folder_of_classes(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(UserError, match=f"^w: .*{message}"):
        open_source({"format": "folder", "path": str(make(tmp_path / "data", *files))}, "w", Path("elsewhere"))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    make(tmp_path, "x.jpg")
    with pytest.raises(UserError, match=r"x\.jpg is a file; give a folder"):
        open_source({"format": "folder", "path": "x.jpg"}, "w", tmp_path)


def test_an_extension_without_decoder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no decoder for 'jpgg'; did you mean 'jpg'"):
        open_source({"format": "folder", "path": ".", "extensions": ["jpgg"]}, "w", make(tmp_path, "a/1.jpg"))


def test_a_file_that_is_gone_is_a_broken_sample(tmp_path: Path) -> None:
    source = open_source({"format": "folder", "path": "."}, "w", make(tmp_path, "a/1.jpg", "a/2.jpg"))
    os.remove(tmp_path / "a/1.jpg")
    with pytest.raises(BrokenSample, match=r"^a/1\.jpg: .*No such file"):
        source.read(0)
    assert source.read(1).image == b"a/2.jpg"


def test_files_of_a_new_modality_are_found_by_its_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = Modality(kind="signal", noun="signal", tokenizer="patches", suffixes=(".sig",))
    monkeypatch.setitem(MODALITIES, "signal", row)
    for name in ("beep", "hum"):
        (tmp_path / "things" / name).mkdir(parents=True)
        (tmp_path / "things" / name / "a.sig").write_bytes(name.encode())
    source = open_source({"format": "folder", "path": "things"}, "w", tmp_path)
    assert [source.read(index).value("signal") for index in range(len(source))] == [b"beep", b"hum"]
    (tmp_path / "things" / "hum" / "b.png").touch()
    with pytest.raises(UserError, match=r"things mixes images and signals, such as .*; choose with `extensions: "):
        open_source({"format": "folder", "path": "things"}, "w", tmp_path)


def test_what_is_not_taken_is_counted(tmp_path: Path) -> None:
    make(tmp_path, "a/1.jpg", "a/2.psd", "a/3.psd", "a/b/4", "readme.md", "b/5.png", "b/._5.png", "__MACOSX/b/._5.png")
    source = open_source({"format": "folder", "path": ".", "part": [0.0, 0.5]}, "w", tmp_path)
    assert class_names(source) == ("a", "b")
    assert notes_of(source) == (f"{tmp_path}: 4 files are not taken: 2 .psd, 1 without a suffix, 1 .md",)
    assert notes_of(open_source({"format": "folder", "path": "a"}, "w", make(tmp_path / "x", "a/c/1.jpg"))) == ()
    make(tmp_path / "x", "a/.net/2.jpg", "a/c/.ipynb_checkpoints/1.jpg", "a/c/.3.jpg", "a/c/.DS_Store")
    hidden = open_source({"format": "folder", "path": "a"}, "w", tmp_path / "x")
    assert (len(hidden), notes_of(hidden)) == (1, (f"{tmp_path / 'x/a'}: 3 files are not taken: 3 hidden",))


def test_a_split_that_lacks_a_class_lists_all(tmp_path: Path) -> None:
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/b/1.jpg", "val/a/notes.md")
    tasks = {
        "things": {"kind": "image_classification", **{s: {"format": "folder", "path": s} for s in ("train", "val")}}
    }
    recipe = parse_recipe({"tasks": tasks}, {}, "r")
    with pytest.raises(
        UserError, match=r"class folder without files .* list all classes in key 'classes' of every split"
    ):
        open_tasks(recipe, tmp_path)
    (tmp_path / "val/a/notes.md").unlink()
    (tmp_path / "val/a").rmdir()
    with pytest.raises(
        UserError, match=r"its classes \(1\) are not those of train \(2\): they lack a; list the classes"
    ):
        open_tasks(recipe, tmp_path)
    for split in ("train", "val"):
        tasks["things"][split]["classes"] = ["b", "a"]  # type: ignore[index]
    (data,) = open_tasks(parse_recipe({"tasks": tasks}, {}, "r"), tmp_path)
    assert data.task.labels == (("b",), ("a",))
    assert [data.sources["val"].read(0).label, data.sources["train"].read(0).label] == [0, 0]
    with pytest.raises(UserError, match="b: this class is not in `classes`; choose one of a, c"):
        open_source({"format": "folder", "path": "train", "classes": ["a", "c"]}, "w", tmp_path)


def test_pictures_of_telephones_are_taken_or_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/1.jpg", "a/2.HEIC", "a/3.heif", "a/4.avif", "a/5.tiff", "a/6.gif", "a/7.webp", "a/8.WEBP")
    source = open_source({"format": "folder", "path": "."}, "w", tmp_path)
    assert len(source) == 8
    assert notes_of(source) == (f"{tmp_path}: 1 .gif, 2 .webp: of those that move, the first frame is taken",)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    source = open_source({"format": "folder", "path": "."}, "w", tmp_path)
    assert len(source) == 6
    assert notes_of(source)[0] == (
        f"{tmp_path}: 2 files are not taken: 1 .heic, 1 .heif; to read them: pip install pillow-heif"
    )
    with pytest.raises(UserError, match="extensions: heic needs a package of its own: pip install pillow-heif"):
        open_source({"format": "folder", "path": ".", "extensions": ["heic"]}, "w", tmp_path)


def test_clips_of_telephones_are_taken(tmp_path: Path) -> None:
    make(tmp_path, "a/1.mp4", "a/2.m4v", "a/3.3GP")
    assert len(open_source({"format": "folder", "path": "."}, "w", tmp_path)) == 3


@pytest.mark.parametrize("kind", ["[jpg, png]", "[mp4]"])
def test_the_extensions_that_a_message_names_are_right(tmp_path: Path, kind: str) -> None:
    make(tmp_path, "a/1.mp4", "a/2.mp4", "b/1.jpg", "a/3.png")
    with pytest.raises(UserError, match=r"such as .*; choose with `extensions: \[jpg, png\] or \[mp4\]`$") as refused:
        open_source({"format": "folder", "path": "."}, "w", tmp_path)
    assert kind in str(refused.value)
    chosen = {"format": "folder", "path": ".", "extensions": kind[1:-1].split(", "), "classes": ["a", "b"]}
    assert len(open_source(chosen, "w", tmp_path)) == 2


def test_linked_folders_are_said(tmp_path: Path) -> None:
    make(tmp_path, "x/a/1.jpg", "y/2.jfif")
    (tmp_path / "x/a/more").symlink_to(tmp_path / "y")
    source = open_source({"format": "folder", "path": "x"}, "w", tmp_path)
    assert (len(source), notes_of(source)) == (1, (f"{tmp_path / 'x'}: 1 file is not taken: 1 linked folders",))
