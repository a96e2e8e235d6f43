"""Plain text: one document per line.

Shape suffixes: I documents, L lines of a file.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field

from uniperceiver.data.formats.files import decode_text, others_beside, short_names
from uniperceiver.data.formats.line_index import Lines, index_lines
from uniperceiver.data.formats.patterns import list_files
from uniperceiver.data.formats.text_file import TextFile, open_text
from uniperceiver.errors import BrokenSample, UserError
from uniperceiver.records import Sample
from uniperceiver.strict import record


@record
class TextSource:
    """A document per line of UTF-8 text; empty lines are skipped."""

    path: str | tuple[str, ...]
    """A file, a folder of .txt files, a pattern such as book-{00..12}.txt or book-*.txt, or a list of these."""
    min_words: int = Field(default=0, ge=0)
    """Append the lines that follow, each after a line break, until a document has that many words (masked language
    modelling). There is still one document per line, so documents overlap; none crosses the end of a file."""
    max_documents: int = Field(default=0, ge=0)
    """Take only the first so many; 0: all."""
    encoding: str = "utf-8"
    """Of the files, such as cp1252 or utf-16; another than UTF-8 is kept in memory as a whole."""

    def open(self, base: Path, where: str) -> "TextData":
        """Find the lines of all files."""
        files = list_files(base, self.path, ".txt", where)
        opened = tuple(open_text(file, self.encoding, where) for file in files)
        indexed = [(number, index_lines(file, where)) for number, file in enumerate(opened)]
        starts, stops = zip(*(_documents(lines, self.min_words) for _, lines in indexed), strict=True)
        keep = slice(self.max_documents or None)
        data = TextData(
            files=opened,
            short=short_names(files),
            file_I=np.concatenate([np.full(len(lines.start_L), number) for number, lines in indexed])[keep],
            number_I=np.concatenate([lines.number_L for _, lines in indexed])[keep],
            line_I2=np.concatenate([np.stack([lines.start_L, lines.stop_L], axis=1) for _, lines in indexed])[keep],
            others=others_beside(base, self.path, ".txt"),
            span_I2=np.stack([np.concatenate(starts), np.concatenate(stops)], axis=1)[keep],
        )
        if not len(data):
            raise UserError(
                f"{where}: {files[0]}: no text in {'it' if len(files) == 1 else 'these files'}; check the path"
            )
        return data


@dataclass(frozen=True, kw_only=True)
class TextData:
    """The opened files."""

    files: tuple[TextFile, ...]
    short: tuple[str, ...]  # names of the files, for sample names
    file_I: np.ndarray  # int64, index into `files`
    number_I: np.ndarray  # int64, number of the line that the document belongs to
    line_I2: np.ndarray  # (I, 2) int64, first byte and byte after the last of that line
    span_I2: np.ndarray  # (I, 2) int64, the same of the document
    others: tuple[str, ...] = ()  # lines about files beside them
    classes: None = None
    class_names: None = None

    def __len__(self) -> int:
        return len(self.file_I)

    def read(self, index: int) -> Sample:
        """The document; its lines are joined by line breaks."""
        start, stop = self.span_I2[index].tolist()
        file = int(self.file_I[index])
        name = f"{self.short[file]}:{self.number_I[index]}"
        text = decode_text(self.files[file].read(name, start, stop - start), name)
        lines = (line.strip() for line in text.split("\n"))
        return Sample(id=name, text="\n".join(line for line in lines if line))

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be said of the files."""
        return (*self.others, *(note for file in self.files for note in file.notes))

    def names(self) -> Iterator[tuple[str, ...]]:
        """File and line of each document."""
        return ((f"{self.short[file]}:{number}",) for file, number in zip(self.file_I, self.number_I, strict=True))

    def texts(self) -> Iterator[str]:
        """Every line once, however documents overlap; lines that are not valid UTF-8 are left out."""
        for number, text in enumerate(self.files):
            with text.open() as file:
                for start, stop in self.line_I2[self.file_I == number].tolist():
                    file.seek(start)
                    try:
                        yield decode_text(file.read(stop - start), self.short[number])
                    except BrokenSample:
                        continue


def _documents(lines: Lines, min_words: int) -> tuple[np.ndarray, np.ndarray]:
    """First byte and byte after the last of each line's document, (L,) int64 each.

    The last lines of a file, which too little follows, take lines before them instead.
    """
    count = len(lines.start_L)
    if not count:
        return lines.start_L, lines.stop_L
    words_before = np.concatenate([[0], np.cumsum(lines.words_L)])  # (L + 1,)
    latest = np.searchsorted(words_before, words_before[-1] - min_words, side="right") - 1
    first_L = np.minimum(np.arange(count), max(0, int(latest)))
    last_L = np.searchsorted(words_before, words_before[first_L] + min_words, side="left") - 1
    last_L = np.maximum(last_L, np.arange(count)).clip(max=count - 1)
    return lines.start_L[first_L], lines.stop_L[last_L]
