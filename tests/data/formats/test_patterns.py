"""Patterns of files: braces, wild cards, and names that only look like them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniperceiver.data.formats.patterns import expand_braces, list_files
from uniperceiver.errors import UserError


@given(low=st.integers(0, 300), count=st.integers(1, 40), width=st.integers(1, 5))
def test_a_range_in_braces_counts_with_its_zeros(low: int, count: int, width: int) -> None:
    high = low + count - 1
    names = expand_braces(f"s-{{{low:0{width}d}..{high:0{width}d}}}.tar")
    assert len(names) == count
    assert [int(name[2:-4]) for name in names] == list(range(low, high + 1))
    assert names[0] == f"s-{low:0{width}d}.tar"
    padded = width > 1 and len(str(low)) < width
    assert not padded or len({len(name) for name in names}) == 1 or len(str(high)) > width


@given(st.text(st.characters(exclude_characters="{}", exclude_categories=["Cs"])))
def test_without_braces_a_path_is_itself(path: str) -> None:
    assert expand_braces(path) == [path]


def test_braces() -> None:
    assert expand_braces("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"]
    assert expand_braces("{2..0}") == ["2", "1", "0"]
    assert expand_braces("{08..10}") == ["08", "09", "10"]
    assert expand_braces("{one}{}") == ["{one}{}"]
    with pytest.raises(UserError, match="more than 1000000 files"):
        expand_braces("{0..9999999999999}")
    with pytest.raises(UserError, match="more than 1000000 files"):
        expand_braces("{0..1999}{0..1999}")


def test_list_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a.txt", ".hidden.txt", "c.md"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    assert [file.name for file in list_files(tmp_path, ".", ".txt", "w")] == ["a.txt", "b.txt"]
    assert [file.name for file in list_files(tmp_path, ["c.md", "{b,a}.txt"], ".txt", "w")] == [
        "c.md",
        "b.txt",
        "a.txt",
    ]
    assert [file.name for file in list_files(tmp_path, ["?.txt", "[c-d].m?"], ".txt", "w")] == [
        "a.txt",
        "b.txt",
        "c.md",
    ]
    with pytest.raises(UserError, match=r"w: .*/x\*\.txt: no file is named like this"):
        list_files(tmp_path, "x*.txt", ".txt", "w")
    for name in ("x*.txt", "xy.txt"):  # a file may have such a name
        (tmp_path / name).touch()
    assert [file.name for file in list_files(tmp_path, "x*.txt", ".txt", "w")] == ["x*.txt"]
    for twice in (["a.txt", "?.txt"], [".", "a.txt"], "{a,a}.txt"):
        with pytest.raises(UserError, match=r"w: key 'path' names .*/a\.txt twice"):
            list_files(tmp_path, twice, ".txt", "w")
    with pytest.raises(UserError, match=r"no \.txt file in this folder"):
        list_files(tmp_path, "empty", ".txt", "w")
    with pytest.raises(UserError, match="empty list"):
        list_files(tmp_path, [], ".txt", "w")


def test_of_a_series_all_files_are_there(tmp_path: Path) -> None:
    for number in (0, 2):
        (tmp_path / f"s-{number:03}.tar").write_bytes(b"x")
    with pytest.raises(UserError) as caught:
        list_files(tmp_path, "s-{000..002}.tar", ".tar", "here")
    told = "names 3 files, of which 1 are not there: s-001.tar; to read those that are, write path: 's-*.tar'"
    assert str(caught.value) == f"here: s-{{000..002}}.tar {told}"
    assert [file.name for file in list_files(tmp_path, "s-*.tar", ".tar", "here")] == ["s-000.tar", "s-002.tar"]


@pytest.mark.parametrize("name", ["a [v1]", "b {x,y}", "c*", "d {0..2}", "[e"])
def test_a_folder_that_is_there_is_no_pattern(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    for number in range(2):
        (folder / f"s-{number}.tar").touch()
    (folder / "{p,q}.tar").touch()
    for base, begin in ((folder, ""), (tmp_path, f"{name}/"), (tmp_path, f"{folder}/")):
        for pattern in ("s-*.tar", "s-{0..1}.tar", "s-[01].tar", "**/s-?.tar"):
            assert list_files(base, begin + pattern, ".tar", "w") == (folder / "s-0.tar", folder / "s-1.tar")
        for whole in ("s-1.tar", "{p,q}.tar"):
            assert list_files(base, begin + whole, ".tar", "w") == (folder / whole,)
        with pytest.raises(UserError, match=r"x-\*\.tar: no file is named like this"):
            list_files(base, f"{begin}x-*.tar", ".tar", "w")
        with pytest.raises(UserError, match=r"write path: '.*s-\*\.tar'") as caught:
            list_files(base, f"{begin}s-{{0..2}}.tar", ".tar", "w")
        mended = str(caught.value).split("write path: ")[1].strip("'")
        assert list_files(base, mended, ".tar", "w") == (folder / "s-0.tar", folder / "s-1.tar")
