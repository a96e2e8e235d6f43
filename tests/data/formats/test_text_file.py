"""Text files in other encodings, and what is no text: each message names a mend, which is tried here."""

import bz2
import gzip
import io
import lzma
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import pytest

from uniperceiver.data.formats import Source, notes_of, open_source, text_file
from uniperceiver.data.formats.files import read_json, read_lines
from uniperceiver.errors import BrokenSample, UserError

TABLE = "name,kind\nGröße,süß\n„so“,sauer\n"


def opened(path: Path, **keys: Any) -> Source:
    spec = {"format": "csv", "path": path.name, "text": "name", "label": "kind", **keys}
    return open_source(spec, "w", path.parent)


def texts_in(source: Source) -> list[str | None]:
    return [source.read(index).text for index in range(len(source))]


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "utf-16-le", "utf-8-sig"])
def test_a_table_in_another_encoding(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(TABLE.encode(encoding))
    assert texts_in(opened(path, encoding=encoding)) == ["Größe", "„so“"]
    assert opened(path, encoding=encoding).classes == (("sauer",), ("süß",))


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16"])
def test_the_encoding_that_a_message_names_is_right(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(TABLE.encode(encoding))
    if encoding == "cp1252":
        source = opened(path)
        (note,) = notes_of(source)
        assert note == (
            f"{path}:2: not valid UTF-8; texts with such characters are broken. If the file has another encoding, set "
            "key encoding, such as cp1252"
        )
        with pytest.raises(BrokenSample, match="is not valid UTF-8"):
            source.read(0)
    else:
        with pytest.raises(UserError, match=rf"^w: {path} is UTF-16; set encoding: utf-16, or save it as UTF-8"):
            opened(path)
    assert texts_in(opened(path, encoding=encoding)) == ["Größe", "„so“"]
    with pytest.raises(UserError, match=r"byte \d+ is not valid ascii; set its own encoding"):
        opened(path, encoding="ascii")
    with pytest.raises(UserError, match="encoding: unknown encoding 'utf8-x'; use utf-8, utf-16, cp1252"):
        opened(path, encoding="utf8-x")


def test_lines_and_json_lines_and_lists_have_encodings(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Größe\nso\n".encode("cp1252"))
    source = open_source({"format": "text", "path": "a.txt", "encoding": "cp1252"}, "w", tmp_path)
    assert (texts_in(source), list(source.texts())) == (["Größe", "so"], ["Größe", "so"])
    (tmp_path / "a.jsonl").write_bytes('{"t": "Größe"}\n'.encode("utf-16"))
    assert texts_in(
        open_source({"format": "jsonl", "path": "a.jsonl", "text": "t", "encoding": "utf-16"}, "w", tmp_path)
    ) == ["Größe"]
    (tmp_path / "ö.png").write_bytes(b"P")
    (tmp_path / "list.txt").write_bytes("ö.png\n".encode("cp1252"))
    assert (
        open_source({"format": "files", "path": "list.txt", "encoding": "cp1252"}, "w", tmp_path).read(0).image == b"P"
    )


@pytest.mark.parametrize("chunk", [1, 2, 1000])
@pytest.mark.parametrize(
    ("data", "line"),
    [("a\nö\n".encode(), None), (b"a\nb\xff\n", 2), (b"a\n\n\xc3", 3), ("ö\n".encode() + b"\xc3\n", 2), (b"", None)],
)
def test_the_first_line_that_is_not_utf8(
    tmp_path: Path, data: bytes, line: int | None, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_file, "_CHUNK", chunk)
    (tmp_path / "a.txt").write_bytes(data)
    assert text_file.open_text(tmp_path / "a.txt", "utf-8", "w").invalid_line == line


def test_what_is_no_text_is_said(tmp_path: Path) -> None:
    workbook = io.BytesIO()
    with zipfile.ZipFile(workbook, "w") as archive:
        archive.writestr("xl/workbook.xml", "x")
    for data, message in (
        (workbook.getvalue(), "is an Excel workbook or a zip archive; unpack it, or save the sheet as CSV UTF-8"),
        (gzip.compress(TABLE.encode()), r"is compressed; unpack it first \(gunzip\)$"),
        (bz2.compress(TABLE.encode()), r"is compressed; unpack it first \(bunzip2\)$"),
        (bz2.compress(b""), r"is compressed; unpack it first \(bunzip2\)$"),
        (lzma.compress(TABLE.encode()), r"is compressed; unpack it first \(unxz\)$"),
        (b"\x28\xb5\x2f\xfd....", r"is compressed; unpack it first \(unzstd\)$"),
        (b"PAR1....", "is a Parquet file; use format: parquet"),
    ):
        (tmp_path / "t.csv").write_bytes(data)
        with pytest.raises(UserError, match=message):
            opened(tmp_path / "t.csv")


def test_every_reader_of_texts_knows_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(bz2.compress(b"{}"))
    for read in (read_json, read_lines):
        with pytest.raises(UserError, match=rf"^w: {tmp_path}/t is compressed; unpack it first \(bunzip2\)$"):
            read(tmp_path / "t", "w")
    (tmp_path / "t").write_text("BZh is a text\r\n\r\nb\r\n")
    assert read_lines(tmp_path / "t", "w") == [(1, "BZh is a text"), (3, "b")]


def test_a_first_line_that_says_the_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("sep=;\nname;kind\na;x\nb;y\n")
    with pytest.raises(UserError, match=rf"{path}: its first line says sep=;; set delimiter: ';'$"):
        opened(path)
    source = opened(path, delimiter=";")
    assert [source.read(index).id for index in range(2)] == ["t.csv:3", "t.csv:4"]


def test_lines_of_old_macs(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(TABLE.replace("\n", "\r").encode())
    with pytest.raises(
        UserError, match=r"its lines end with CR alone, .*: tr '\\r' '\\n' < t\.csv > new-t\.csv$"
    ) as refused:
        opened(path)
    subprocess.run(str(refused.value).rpartition("LF: ")[2], shell=True, cwd=tmp_path, check=True)
    assert texts_in(opened(tmp_path / "new-t.csv")) == ["Größe", "„so“"]
