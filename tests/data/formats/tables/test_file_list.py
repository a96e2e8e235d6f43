"""Lists of files."""

import pickle
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import Source, class_names, open_source
from uniperceiver.errors import BrokenSample, UserError


def listed(root: Path, written: str, **keys: Any) -> Source:
    """A source of that list, beside the files a.png, sub/b.PNG, c.mp4 and d.webm."""
    (root / "sub").mkdir(exist_ok=True)
    for name in ("a.png", "sub/b.PNG", "c.mp4", "d.webm"):
        (root / name).write_text(name)
    (root / "list.txt").write_bytes(written.encode("utf-8", "surrogateescape"))
    return open_source({"format": "files", "path": "list.txt", **keys}, "w", root)


def test_images_with_classes(tmp_path: Path) -> None:
    source = pickle.loads(pickle.dumps(listed(tmp_path, "sub/b.PNG\thot_dog\r\n\na.png\tcat\n")))
    samples = [source.read(index) for index in range(len(source))]
    assert [(sample.id, sample.image, sample.label) for sample in samples] == [
        ("list.txt:1", b"sub/b.PNG", 1),
        ("list.txt:3", b"a.png", 0),
    ]
    assert class_names(source) == ("cat", "hot_dog")
    assert list(source.texts()) == ["cat", "hot dog"]


def test_clips_without_classes(tmp_path: Path) -> None:
    source = listed(tmp_path, f"d.webm\n{tmp_path}/c.mp4\n")
    assert [source.read(index).clip for index in range(2)] == [b"d.webm", b"c.mp4"]
    assert source.read(0).image is None
    assert source.read(0).label is None
    assert source.classes is None


def test_a_folder_for_the_files_and_given_classes(tmp_path: Path) -> None:
    source = listed(tmp_path, "b.PNG\t1\nc.png\tdog\nd.png\n", files="sub", classes=["cat", "dog"])
    assert source.read(0).label == 1
    with pytest.raises(BrokenSample, match=r"^list\.txt:2: .*c\.png: cannot be read"):
        source.read(1)
    with pytest.raises(BrokenSample, match=r"^list\.txt:3: 1 columns instead of 2"):
        source.read(2)


def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    name = "\udcff.png"
    try:
        (tmp_path / name).write_text("x")
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    assert listed(tmp_path, f"{name}\n").read(0).image == b"x"


@pytest.mark.parametrize(
    ("written", "keys", "message"),
    [
        ("\n", {}, r"list\.txt: no rows"),
        ("a.png\nc.mp4\n", {}, r"list\.txt mixes images and clips, such as a\.png and c\.mp4; make a list of each"),
        ("a.png\tx\ty\n", {}, r"list\.txt: 3 columns; a list has paths, or path, tab, class"),
        ("a.png\n", {"classes": ["x"]}, "no classes in the list; write path, tab, class on each line"),
        ("a.png\nb.png\na.png\n", {}, r"names one file in list\.txt:1 and list\.txt:3"),
        ("x.png\ny.png\n", {}, r"none of the files is there, not even .*x\.png; set key files"),
        ("a.png\tdgo\n", {"classes": ["dog"]}, r"list\.txt:1: label 'dgo' is not in `classes`; did you mean 'dog'"),
        ("a.png\n", {"path": "lists.txt"}, r"lists\.txt: no such file or folder; did you mean 'list\.txt'"),
        ("a.png\n", {"path": "sub"}, "sub is a folder; give a file"),
    ],
)
def test_what_a_user_can_mend(tmp_path: Path, written: str, keys: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=f"^w: .*{message}"):
        listed(tmp_path, written, **keys)
