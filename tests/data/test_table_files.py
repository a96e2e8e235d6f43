"""Tables as files: what is written can be read, and what cannot be written is refused before there is anything."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.table_files import check_table, write_table
from uniperceiver.errors import UserError

COLUMNS: dict[str, type] = {"sample": str, "truth": str, "probability": float, "right": bool}
ROWS: list[dict[str, Any]] = [
    {"sample": 'a "b", c\nd', "truth": ("x", "y z"), "probability": 0.25, "right": True},
    {"sample": "ü", "truth": ("x",), "probability": None, "right": None},
]


def test_csv_has_one_text_in_a_cell(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", COLUMNS, ROWS)
    with (tmp_path / "a.csv").open(newline="", encoding="utf-8") as file:
        assert list(csv.reader(file)) == [
            [*COLUMNS], ['a "b", c\nd', "x | y z", "0.25", "true"], ["ü", "x", "", ""],
        ]  # fmt: skip


def test_json_lines_have_lists(tmp_path: Path) -> None:
    write_table(tmp_path / "a.jsonl", COLUMNS, ROWS)
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text(encoding="utf-8").splitlines()]
    assert lines == [row | {"truth": list(row["truth"])} for row in ROWS]


def test_parquet_has_types(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(tmp_path / "a.parquet", COLUMNS, ROWS)
    table = parquet.read_table(tmp_path / "a.parquet")
    assert [str(kind) for kind in table.schema.types] == ["string", "string", "double", "bool"]
    assert table.to_pylist() == [row | {"truth": " | ".join(row["truth"])} for row in ROWS]
    write_table(tmp_path / "b.parquet", COLUMNS, [])
    assert parquet.read_table(tmp_path / "b.parquet").num_rows == 0


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet"])
def test_a_file_with_something_else_is_kept(tmp_path: Path, name: str) -> None:
    pytest.importorskip("pyarrow")
    path, begins = tmp_path / name, ["sample", "truth"]
    message = rf"--to: {path} holds something else, which would be lost; name another file$"
    path.touch()
    check_table(path, "--to", begins)
    write_table(path, COLUMNS, ROWS)
    check_table(path, "--to", begins)
    with pytest.raises(UserError, match=message):
        check_table(path, "--to", ["file", "answer"])
    for data in (b"sample;truth\n", b"[]\n", b"{\n", b"\xff\xfe\n", b"PAR1"):
        path.write_bytes(data)
        with pytest.raises(UserError, match=message):
            check_table(path, "--to", begins)
        assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("a.xlsx", r"--to: .*a\.xlsx: expected a file that ends in \.csv, \.jsonl or \.parquet"),
        ("none/a.csv", r"--to: there is no folder .*none; make it first"),
        ("folder.csv", r"--to: .*folder\.csv is a folder; name a file in it"),
    ],
)
def test_what_cannot_be_written_is_refused_before(tmp_path: Path, name: str, line: str) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(UserError, match=line):
        check_table(tmp_path / name, "--to")
    check_table(None, "--to")
    check_table(tmp_path / "a.csv", "--to")
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("uniperceiver.data.table_files.write_text", full)
    with pytest.raises(UserError, match=r"a\.csv: cannot be written \(No space left on device\); free the disk"):
        write_table(tmp_path / "a.csv", COLUMNS, ROWS)
