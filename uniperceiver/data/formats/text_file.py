"""TEXT FILES in any encoding, read by offset as if they were UTF-8; what is no text at all is recognised."""

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from uniperceiver.data.formats.files import read_bytes, refuse_packed
from uniperceiver.errors import UserError

UTF8 = "utf-8"
_CHUNK = 1 << 24
_HEAD = 1 << 16
_MARK = codecs.BOM_UTF8
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What people take for a table: how its files begin, and what to do.
_OTHERS = {
    b"PK\x03\x04": "an Excel workbook or a zip archive; unpack it, or save the sheet as CSV UTF-8",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV UTF-8",
    b"PAR1": "a Parquet file; use format: parquet",
}


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """An opened text file; of another encoding than UTF-8 its text is kept in memory."""

    path: Path
    converted: bytes | None  # the whole text as UTF-8
    start: int  # its first byte, behind a byte order mark
    invalid_line: int | None  # the first that is not valid UTF-8, from 1

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The bytes of the text as UTF-8, from `start` on."""
        with open(self.path, "rb") if self.converted is None else io.BytesIO(self.converted) as file:
            file.seek(self.start)
            yield file

    def read(self, sample: str, start: int, size: int) -> bytes:
        """A part of the bytes.

        Raises:
            BrokenSample: the file has changed or cannot be read.
        """
        if self.converted is None:
            return read_bytes(self.path, sample, start, size)
        return self.converted[start : start + size]

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of it."""
        if self.invalid_line is None:
            return ()
        return (
            f"{self.path}:{self.invalid_line}: not valid UTF-8; texts with such characters are broken. If the file has "
            "another encoding, set key encoding, such as cp1252",
        )


def open_text(path: Path, encoding: str, where: str) -> TextFile:
    """Look at a text file: once through, for bytes that are none of its encoding.

    Raises:
        UserError: it cannot be read, is no text, or has another encoding.
    """
    try:
        codec = codecs.lookup(encoding)
    except LookupError:
        raise UserError(f"{where}: encoding: unknown encoding {encoding!r}; use utf-8, utf-16, cp1252, ...") from None
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD)
            refuse_packed(path, head, where)
            for magic, mend in _OTHERS.items():
                if head.startswith(magic):
                    raise UserError(f"{where}: {path} is {mend}")
            if b"\n" not in head and head.count(b"\r") > 1:
                raise UserError(
                    f"{where}: {path}: its lines end with CR alone, as on old Macs; make them end with LF: "
                    f"tr '\\r' '\\n' < {path.name} > new-{path.name}"
                )
            if codec.name == UTF8:
                if head.startswith(_UTF16):
                    raise UserError(f"{where}: {path} is UTF-16; set encoding: utf-16, or save it as UTF-8")
                start = len(_MARK) if head.startswith(_MARK) else 0
                return TextFile(path=path, converted=None, start=start, invalid_line=_first_invalid(file))
            file.seek(0)
            text = file.read().decode(codec.name)
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: {path}: byte {error.start} is not valid {encoding}; set its own encoding") from None
    except OSError as error:
        raise UserError(f"{where}: {path}: cannot be read ({error.strerror})") from None
    return TextFile(path=path, converted=text.removeprefix("\ufeff").encode(), start=0, invalid_line=None)


def _first_invalid(file: IO[bytes]) -> int | None:
    """The number of the first line that is not valid UTF-8."""
    file.seek(0)
    decoder = codecs.getincrementaldecoder(UTF8)()
    lines, rest = 1, b""
    while chunk := file.read(_CHUNK):
        try:
            decoder.decode(chunk)
        except UnicodeDecodeError as error:
            # The error counts from the bytes that the decoder had kept.
            return lines + (rest + chunk)[: error.start].count(b"\n")
        lines += chunk.count(b"\n")
        rest = decoder.getstate()[0]
    return lines if decoder.getstate()[0] else None
