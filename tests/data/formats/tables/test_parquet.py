"""Parquet files."""

import builtins
import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from uniperceiver.data.formats import Source, class_names, notes_of, open_source
from uniperceiver.data.formats.tables.columns import ColumnsData
from uniperceiver.data.formats.tables.parquet import Memory, ParquetRows
from uniperceiver.errors import BrokenSample, UserError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


def write(path: Path, columns: dict[str, Any], group: int = 2, **types: Any) -> None:
    """A file with row groups of that many rows."""
    arrays = {name: pa.array(values, types.get(name)) for name, values in columns.items()}
    pq.write_table(pa.table(arrays), path, row_group_size=group)


def opened(root: Path, **keys: Any) -> Source:
    return open_source({"format": "parquet", "path": "t.parquet"} | keys, "w", root)


def test_values_of_all_kinds(tmp_path: Path) -> None:
    columns = {
        "t": ["a", " b ", "c", "d", "e"],
        "whole": [3, 1, 1, 10, 3],
        "with_gaps": [3.0, None, 1.0, 10.0, float("nan")],
        "named": ["y", "x", "y", "x", "y"],
    }
    write(tmp_path / "t.parquet", columns, named=pa.dictionary(pa.int8(), pa.string()))
    assert class_names(opened(tmp_path, text="named", label="whole")) == ("1", "3", "10")
    source = opened(tmp_path, text="t", label="with_gaps", classes=["1", "3", "10"])
    assert [source.read(index).label for index in (0, 2, 3)] == [1, 0, 2]
    assert source.read(3).id == "t.parquet:3"
    for index, reason in ((1, "no label in column 'with_gaps'"), (4, "column 'with_gaps' is NaN")):
        with pytest.raises(BrokenSample, match=rf"^t\.parquet:{index}: {reason}"):
            source.read(index)
    source = opened(tmp_path, text="t", label="named", rows={"whole": ["1", "10"]})
    assert [(source.read(index).text, source.read(index).label) for index in range(len(source))] == [
        ("b", 0), ("c", 1), ("d", 0),
    ]  # fmt: skip


def test_pictures_as_bytes_paths_and_both(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("A")
    write(
        tmp_path / "t.parquet",
        {
            "bytes": [b"1", None, b"3"],
            "path": ["a.png", "b.png", ""],
            "both": [{"bytes": b"x", "path": "no.png"}, {"bytes": None, "path": "a.png"}, None],
        },
    )
    by_bytes, by_path, both = (opened(tmp_path, image=column) for column in ("bytes", "path", "both"))
    assert [by_bytes.read(0).image, by_path.read(0).image, both.read(0).image] == [b"1", b"A", b"x"]
    assert both.read(1).image == b"A"
    for source, index, reason in (
        (by_bytes, 1, "no file in column 'bytes'"),
        (by_path, 1, r".*b\.png: cannot be read"),
        (by_path, 2, "no file in column 'path'"),
        (both, 2, "no file in column 'both'"),
    ):
        with pytest.raises(BrokenSample, match=rf"^t\.parquet:{index}: {reason}"):
            source.read(index)


def test_captions_in_lists_and_texts_that_are_no_utf8(tmp_path: Path) -> None:
    raw = pa.Array.from_buffers(
        pa.utf8(), 4, [None, pa.py_buffer(np.array([0, 1, 2, 3, 4], np.int32)), pa.py_buffer(b"a\xffcd")]
    )
    lists = pa.ListArray.from_arrays(pa.array([0, 2, 3, 4], pa.int32()), raw)
    table = pa.table({"c": lists, "t": raw[:3], "i": [b"x", b"y", b"z"]})
    pq.write_table(table, tmp_path / "t.parquet")
    source = opened(tmp_path, image="i", captions="c")
    assert [source.read(index).captions for index in range(3)] == [("a",), ("c",), ("d",)]
    assert notes_of(source) == (f"{tmp_path}: 1 caption is empty or damaged and left out",)
    assert list(source.texts()) == ["a", "c", "d"]
    with pytest.raises(BrokenSample, match=r"^t\.parquet:1: column 't' is not valid UTF-8"):
        opened(tmp_path, text="t").read(1)
    assert list(opened(tmp_path, text="t").texts()) == ["a", "c"]


def test_row_groups_are_decoded_when_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in range(2):
        write(tmp_path / f"{file}.parquet", {"i": [bytes([10 * file + row]) * 50 for row in range(5)], "k": [0] * 5})
    decoded: list[tuple[str, int, tuple[str, ...]]] = []
    real = ParquetRows._decode

    def counting(self: ParquetRows, group: int, columns: Any) -> Any:
        decoded.append((self.short, group, tuple(columns)))
        return real(self, group, columns)

    monkeypatch.setattr(ParquetRows, "_decode", counting)
    source = opened(tmp_path, path="{0..1}.parquet", image="i", label="k")
    assert {columns for _, _, columns in decoded} == {("k",)}  # no bytes at the start
    decoded.clear()
    assert [source.read(index).image for index in (0, 4, 9, 8, 1)] == [bytes([n]) * 50 for n in (0, 4, 14, 13, 1)]
    assert decoded == [
        (file, group, ("i", "k"))
        for file, group in (("0.parquet", 0), ("0.parquet", 2), ("1.parquet", 2), ("1.parquet", 1))
    ]


def test_the_oldest_row_groups_are_forgotten() -> None:
    tables = [pa.table({"x": [bytes(1000)]}) for _ in range(4)]
    memory = Memory(limit=2500)
    asked: list[int] = []

    def get(number: int) -> Any:
        return memory.get((Path("f"), number), lambda: (asked.append(number), tables[number])[1])

    for number in (0, 1, 0, 2, 0, 1, 3):
        assert get(number) is tables[number]
    assert asked == [0, 1, 2, 1, 3]
    small = Memory(limit=1)
    assert small.get((Path("f"), 0), lambda: tables[0]) is tables[0]
    copy = pickle.loads(pickle.dumps(memory))
    assert copy.limit == 2500
    assert copy.get((Path("f"), 3), lambda: "anew") == "anew"


def test_a_row_group_that_is_damaged_breaks_its_rows_alone(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", {"i": [bytes([65 + row]) * 400 for row in range(6)], "k": [0, 1, 0, 1, 0, 1]})
    whole = (tmp_path / "t.parquet").read_bytes()
    footer = pq.ParquetFile(tmp_path / "t.parquet").metadata
    start = footer.row_group(1).column(0).dictionary_page_offset or footer.row_group(1).column(0).data_page_offset
    (tmp_path / "t.parquet").write_bytes(whole[:start] + b"\xff" * 40 + whole[start + 40 :])
    source = opened(tmp_path, image="i", label="k")
    for index in (2, 3):
        with pytest.raises(BrokenSample, match=rf"^t\.parquet:{index}: .*row group 1 cannot be read"):
            source.read(index)
    assert [source.read(index).image for index in (1, 4)] == [b"B" * 400, b"E" * 400]


def test_class_names_of_the_hub_are_used(tmp_path: Path) -> None:
    described = b'{"info": {"features": {"k": {"names": ["zoo", "ant"], "_type": "ClassLabel"}, "t": null}}}'
    table = pa.table({"t": ["a", "b", "c"], "k": [1, 0, -1]}).replace_schema_metadata({b"huggingface": described})
    pq.write_table(table, tmp_path / "t.parquet")
    source = opened(tmp_path, text="t", label="k")
    assert class_names(source) == ("zoo", "ant")
    assert [source.read(index).label for index in range(2)] == [1, 0]
    with pytest.raises(BrokenSample, match="no label"):
        source.read(2)
    assert opened(tmp_path, text="t", label="k", classes=["ant", "zoo"]).read(0).label == 0
    assert len(opened(tmp_path, text="t", label="k", rows={"k": "zoo"})) == 1
    pq.write_table(table.replace_schema_metadata({b"huggingface": b"[]"}), tmp_path / "t.parquet")
    assert class_names(opened(tmp_path, text="t", label="k")) == ("-1", "0", "1")


def test_files_that_list_other_classes_have_those_that_occur(tmp_path: Path) -> None:
    """Neither list is that of all files."""
    for file, names in enumerate((["zoo", "ant"], ["dog", "cat"], ["zoo", "ant"])):
        features = {"k": {"names": names, "_type": "ClassLabel"}}
        described = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        table = pa.table({"t": ["a", "b"], "k": [0, 1]}).replace_schema_metadata(described)
        pq.write_table(table, tmp_path / f"{file}.parquet")
    alike, others = (opened(tmp_path, path=path, text="t", label="k") for path in ("{0,2}.parquet", "{0,1}.parquet"))
    assert class_names(alike) == ("zoo", "ant")
    assert [alike.read(index).label for index in range(4)] == [0, 1, 0, 1]
    assert class_names(others) == ("ant", "cat", "dog", "zoo")
    assert [others.read(index).label for index in range(4)] == [3, 0, 2, 1]


def test_numbers_beside_a_file_that_lists_its_classes_are_refused(tmp_path: Path) -> None:
    """They were classes of their own, "0" and "1" beside "zoo" and "ant"."""
    described = b'{"info": {"features": {"k": {"names": ["zoo", "ant"], "_type": "ClassLabel"}}}}'
    numbers, words = pa.table({"t": ["a", "b"], "k": [0, 1]}), pa.table({"t": ["a", "b"], "k": ["ant", "zoo"]})
    pq.write_table(numbers.replace_schema_metadata({b"huggingface": described}), tmp_path / "0.parquet")
    coded = numbers.set_column(1, "k", numbers.column("k").dictionary_encode())
    for name, table in (("1", numbers), ("2", words), ("3", coded)):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    for path, plain in (("{0..1}.parquet", 1), (["3.parquet", "0.parquet"], 3)):
        with pytest.raises(
            UserError, match=rf"^w: 0\.parquet lists the classes of column 'k', {plain}\.parquet has num"
        ):
            opened(tmp_path, path=path, text="t", label="k")
    told = opened(tmp_path, path="{0..1}.parquet", text="t", label="k", classes=["zoo", "ant"])
    assert [told.read(index).label for index in range(4)] == [0, 1, 0, 1]
    assert class_names(opened(tmp_path, path=["0.parquet", "2.parquet"], text="t", label="k")) == ("ant", "zoo")


def test_bytes_are_not_read_to_find_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "t.parquet", {"i": [{"bytes": b"1", "path": "a"}, {"bytes": b"2", "path": None}], "b": [b"", b""]})
    both, by_bytes = opened(tmp_path, image="i"), opened(tmp_path, image="b")
    assert isinstance(both, ColumnsData)
    assert isinstance(by_bytes, ColumnsData)
    decoded: list[list[str]] = []
    real = ParquetRows._decode

    def noting(self: ParquetRows, group: int, columns: Any) -> Any:
        decoded.append(list(columns))
        return real(self, group, columns)

    monkeypatch.setattr(ParquetRows, "_decode", noting)
    assert list(both.names()) == [("t.parquet:0", "a"), ("t.parquet:1",)]
    assert list(by_bytes.names()) == [("t.parquet:0",), ("t.parquet:1",)]
    assert decoded == [["i.path"]]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"", "not a Parquet file"),
        (b"PAR1" + bytes(100) + b"PAR1", "not a Parquet file"),
        ({"txt": ["x"]}, r"t\.parquet: no column 't'; did you mean 'txt'"),
        ({"t": []}, "no rows; is it complete"),
    ],
)
def test_what_a_user_can_mend(tmp_path: Path, written: Any, message: str) -> None:
    if isinstance(written, bytes):
        (tmp_path / "t.parquet").write_bytes(written)
    else:
        write(tmp_path / "t.parquet", written)
    with pytest.raises(UserError, match=f"^w: .*{message}") as caught:
        opened(tmp_path, text="t")
    assert "\n" not in str(caught.value)


def test_labels_that_are_mappings_are_not_called_empty(tmp_path: Path) -> None:
    write(tmp_path / "t.parquet", {"t": ["a", "b"], "k": [{"name": "x"}, {"name": "y"}]})
    message = (
        "no row says its class: column 'k' holds a mapping, not one text or number; name the column with the class"
    )
    with pytest.raises(UserError, match=f"^w: {message}$"):
        opened(tmp_path, text="t", label="k")


@pytest.mark.parametrize("format_", ["parquet", "huggingface"])
def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format_: str) -> None:
    package = {"parquet": "pyarrow", "huggingface": "datasets"}[format_]
    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *rest)

    monkeypatch.setattr("importlib.import_module", without)
    with pytest.raises(UserError) as caught:
        open_source({"format": format_, "path": ".", "text": "t"}, "w", tmp_path)
    said = f"w: format {format_} needs the package {package}, which is missing; pip install {package}"
    assert str(caught.value) == said


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary(), pa.dictionary(pa.int32(), pa.binary())])
def test_texts_of_type_binary_are_texts_everywhere(tmp_path: Path, kind: Any) -> None:
    columns = {"t": ["one", "two", "drei ö"], "k": ["x", "y", "x"], "s": ["train", "val", "train"]}
    arrays = {
        name: pa.array([text.encode() for text in texts], pa.binary()).cast(kind) for name, texts in columns.items()
    }
    captions = pa.array([[b"c", b"d"], [b"e"], [b""]], pa.list_(pa.binary()))
    pq.write_table(pa.table({**arrays, "i": [b"1", b"2", b"3"], "c": captions}), tmp_path / "t.parquet")
    source = opened(tmp_path, text="t", label="k", rows={"s": "train"})
    assert class_names(source) == ("x", "y")
    assert [(source.read(index).text, source.read(index).label) for index in range(2)] == [("one", 0), ("drei ö", 0)]
    assert list(source.texts()) == ["x", "y", "one", "drei ö"]
    pictures = opened(tmp_path, image="i", captions="c")
    assert list(pictures.texts()) == ["c", "d", "e"]
    assert (pictures.read(0).image, pictures.read(0).captions) == (b"1", ("c", "d"))
