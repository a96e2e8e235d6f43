"""Paths of pictures by a template, and where files are that are not there: each mend that a message names is tried."""

import re
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import Source, open_source
from uniperceiver.errors import BrokenSample, UserError


def opened(root: Path, table: str, **keys: Any) -> Source:
    (root / "t.csv").write_text(table)
    return open_source({"format": "csv", "path": "t.csv", **keys}, "w", root)


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def test_a_template_makes_paths_of_columns(tmp_path: Path) -> None:
    put(tmp_path, "train/7.jpg", "val/000000000012.jpg", "val/12.jpg")
    rows = "split,id,k\ntrain,7,a\nval,12,b\n,3,b\n"
    source = opened(tmp_path, rows, image="{split}/{id}.jpg", label="k")
    assert [source.read(index).image for index in range(2)] == [b"train/7.jpg", b"val/12.jpg"]
    with pytest.raises(BrokenSample, match=r"^t\.csv:4: no file: a column of '{split}/{id}\.jpg' is empty"):
        source.read(2)
    padded = opened(tmp_path, rows, image="val/{id:012}.jpg", rows={"split": "val"})
    assert padded.read(0).image == b"val/000000000012.jpg"
    (tmp_path / "only.txt").write_text("train/7.jpg\n")
    assert len(opened(tmp_path, rows, image="{split}/{id}.jpg", only="only.txt")) == 1
    with pytest.raises(UserError, match="no column 'name'"):
        opened(tmp_path, rows, image="{name}.jpg")
    for wrong in ("{}.jpg", "{id:>5}.jpg", "{id"):
        with pytest.raises(UserError, match=r"^w: key 'image': .* is no template .*write columns in braces, such as"):
            opened(tmp_path, rows, image=wrong)


def mended(message: str) -> dict[str, str]:
    """The key and the value that a message says to set."""
    match = re.search(r"set (\w+): '?([^']*?)'?$", message)
    assert match is not None
    return {match[1]: match[2]}


@pytest.mark.parametrize(
    ("files", "cell", "keys"),
    [
        (("x/7.jpg",), "7", {"files": "x"}),
        (("7.PNG",), "7", {}),
        (("x/train/7.jpg",), "train/7", {"files": "x"}),
        (("x/7.jpg",), "7", {"files": "x", "image": "{id}", "split": "a"}),
    ],
)
def test_names_without_ending(tmp_path: Path, files: tuple[str, ...], cell: str, keys: dict[str, str]) -> None:
    put(tmp_path, *files)
    keys = {"image": "id", **{key: value for key, value in keys.items() if key != "split"}}
    with pytest.raises(UserError, match=r"none of the files is there, .*; their names end with ") as refused:
        opened(tmp_path, f"id\n{cell}\n", **keys)
    assert (
        opened(tmp_path, f"id\n{cell}\n", **{**keys, **mended(str(refused.value))}).read(0).image == files[0].encode()
    )


@pytest.mark.parametrize("files", [None, "data/x", "data/x/deep"])
def test_files_in_another_folder(tmp_path: Path, files: str | None) -> None:
    put(tmp_path, "data/7.jpg", "data/x/y/1.jpg", "data/x/deep/2.jpg")
    keys = {"image": "id"} | ({} if files is None else {"files": files})
    with pytest.raises(UserError, match="they are in another folder: set files: ") as refused:
        opened(tmp_path, "id\n7.jpg\n", **keys)
    assert opened(tmp_path, "id\n7.jpg\n", **{**keys, **mended(str(refused.value))}).read(0).image == b"data/7.jpg"


def test_a_list_of_names_without_ending(tmp_path: Path) -> None:
    put(tmp_path, "JPEGImages/000005.jpg")
    (tmp_path / "list.txt").write_text("000005\n")
    spec = {"format": "files", "path": "list.txt", "files": "JPEGImages"}
    with pytest.raises(UserError, match=r"their names end with \.jpg: set file: '\{0\}\.jpg'$") as refused:
        open_source(spec, "w", tmp_path)
    assert open_source({**spec, **mended(str(refused.value))}, "w", tmp_path).read(0).image == b"JPEGImages/000005.jpg"
    with pytest.raises(UserError, match="file: a list has no column 'id'; its first is 0"):
        open_source({**spec, "file": "{id}.jpg"}, "w", tmp_path)


def test_paths_of_windows_and_capitals(tmp_path: Path) -> None:
    put(tmp_path, "train/a.jpg", "B.JPG")
    with pytest.raises(UserError, match=r"parted by .* as on Windows: write / instead$"):
        opened(tmp_path, "id\ntrain\\a.jpg\n", image="id")
    assert opened(tmp_path, "id\ntrain/a.jpg\n", image="id").read(0).image == b"train/a.jpg"
    with pytest.raises(UserError, match=r"it is called B\.JPG: capitals matter"):
        opened(tmp_path, "id\nb.jpg\n", image="id")


def test_paths_of_another_machine_and_cells_in_quotation_marks(tmp_path: Path) -> None:
    put(tmp_path, "train/a.jpg")
    with pytest.raises(UserError, match=r"; remove /kaggle/input/ from the column: here it is no folder$"):
        opened(tmp_path, "id\n/kaggle/input/train/a.jpg\n", image="id")
    (tmp_path / "t.tsv").write_text('id\tk\n"train/a.jpg"\t"x"\n')
    spec = {"path": "t.tsv", "image": "id", "label": "k"}
    with pytest.raises(UserError, match=r"in quotation marks: use format: csv \(for tabs with delimiter: \"\\t\"\)$"):
        open_source({"format": "tsv", **spec}, "w", tmp_path)
    assert open_source({"format": "csv", "delimiter": "\t", **spec}, "w", tmp_path).read(0).image == b"train/a.jpg"


def test_names_whose_folder_another_column_says(tmp_path: Path) -> None:
    put(tmp_path, "cat/7.jpg", "dog/8.jpg")
    table = "id,k\n7,cat\n8,dog\n"
    with pytest.raises(
        UserError, match=r"but .*cat/7\.jpg; make the path of columns, .* image: '\{COLUMN\}/\{id\}\.jpg'$"
    ):
        opened(tmp_path, table, image="id", label="k")
    assert opened(tmp_path, table, image="{k}/{id}.jpg", label="k").read(1).image == b"dog/8.jpg"
