"""WHERE A ROW'S PICTURE, CLIP OR SOUND LIES: a column with its path or bytes, or a template of it, as {id}.jpg."""

import string
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniperceiver.data.formats.files import read_bytes
from uniperceiver.data.formats.tables.values import media_of, path_of, plain
from uniperceiver.errors import BrokenSample, UserError


@dataclass(frozen=True, kw_only=True)
class MediaColumn:
    """What a recipe says of the pictures, clips or sounds of a table."""

    modality: str
    key: str  # of the recipe
    says: str  # its value
    columns: tuple[str, ...]
    parts: tuple[tuple[str, str, int], ...] = ()  # of a template: text, the column behind it, its least width

    @staticmethod
    def of(modality: str, key: str, says: str, where: str) -> "MediaColumn":
        """Read the key's value: a column, or a template with columns in braces ({id:012}: with zeros to 12 places).

        Raises:
            UserError: a template that cannot be read.
        """
        if "{" not in says:
            return MediaColumn(modality=modality, key=key, says=says, columns=(says,))
        parts = []
        try:
            for text, name, width, _ in string.Formatter().parse(says):
                if name == "" or (width and not (width[0] == "0" and width.rstrip("ds").isdecimal())):
                    raise ValueError("no column, or another format than zeros in front")
                parts.append((text, name or "", int((width or "0").rstrip("ds") or 0)))
        except ValueError as error:
            raise UserError(
                f"{where}: key {key!r}: {says!r} is no template ({error}); write columns in braces, such as {{id}}.jpg "
                "or {id:012}.jpg"
            ) from None
        return MediaColumn(
            modality=modality,
            key=key,
            says=says,
            columns=tuple(name for _, name, _ in parts if name),
            parts=tuple(parts),
        )

    def path(self, values: Mapping[str, Any]) -> str | None:
        """The path that a row names; None: none."""
        if not self.parts:
            return path_of(values[self.columns[0]])
        try:
            texts = {name: plain(values[name]) for name in self.columns}
        except ValueError:
            return None
        if not all(texts.values()):
            return None
        return "".join(text + (texts[name].zfill(width) if name else "") for text, name, width in self.parts)

    def read(self, values: Mapping[str, Any], folder: Path, sample: str) -> bytes:
        """The encoded file of a row; relative paths start at `folder`.

        Raises:
            BrokenSample: there is none, or the file cannot be read.
        """
        if not self.parts:
            return media_of(values[self.columns[0]], self.columns[0], folder, sample)
        if (path := self.path(values)) is None:
            raise BrokenSample(sample, f"no file: a column of {self.says!r} is empty")
        return read_bytes(folder / path, sample)
