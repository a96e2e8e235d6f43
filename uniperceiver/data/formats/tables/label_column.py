"""WHAT A ROW SAYS ABOUT ITS CLASSES: a column with one, or with several; or a column of 0 and 1 for each class."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from uniperceiver.data.formats.tables.values import label_text, plain
from uniperceiver.errors import BrokenSample

_RIGHT, _WRONG = frozenset({"1", "1.0", "true", "yes"}), frozenset({"", "0", "0.0", "false", "no"})


@dataclass(frozen=True, kw_only=True)
class LabelColumn:
    """What a recipe says of the labels of a table."""

    columns: tuple[str, ...]
    one_hot: bool  # whether there is a column for each class, which it is named after
    separator: str | None  # between several classes in a cell

    @staticmethod
    def of(label: str | tuple[str, ...] | None, separator: str | None) -> "LabelColumn | None":
        """What the keys of a recipe say; None: nothing."""
        if label is None:
            return None
        columns = (label,) if isinstance(label, str) else label
        return LabelColumn(columns=columns, one_hot=not isinstance(label, str), separator=separator)

    @property
    def names_listed(self) -> tuple[str, ...] | None:
        """The classes, where their columns name them."""
        return self.columns if self.one_hot else None

    def texts(self, values: Mapping[str, Any], sample: str, names: Collection[str]) -> tuple[str, ...]:
        """The classes of a row by name or index; several, or none, where the row can hold several.

        Args:
            names: of the classes, as far as they are known: "nan" says nothing, unless one has that name.

        Raises:
            BrokenSample: the row says nothing, or nothing that can be understood.
        """
        if self.one_hot:
            return tuple(column for column in self.columns if _is_right(values[column], column, sample))
        (column,) = self.columns
        value = values[column]
        if isinstance(value, list | tuple):
            return tuple(dict.fromkeys(label_text(item, column, sample, names) for item in value))
        if self.separator is None:
            return (label_text(value, column, sample, names),)
        try:
            text = plain(value)
        except ValueError as error:
            raise BrokenSample(sample, f"column {column!r} {error}") from None
        return tuple(dict.fromkeys(part.strip() for part in text.split(self.separator) if part.strip()))

    def __str__(self) -> str:
        return f"column {self.columns[0]!r}" if len(self.columns) == 1 else f"columns {self.columns[0]!r}, ..."


def joined_labels(label: LabelColumn, texts: Collection[str]) -> tuple[str, ...]:
    """A line about labels that join others, such as cat|dog, and are read as classes of their own; none where none is.

    Args:
        texts: all labels that occur.
    """
    if label.one_hot or label.separator is not None:
        return ()
    lists = [text for text in texts if text[:1] + text[-1:] in ("[]", "()", "{}")]
    if lists:
        return (
            f"{label}: {len(lists):,} labels look like lists, such as {lists[0]!r}, and are classes of their own; for "
            "several right classes write them with a separator",
        )
    for mark in ("|", ";", ","):
        joined = [text for text in texts if mark in text and all(part.strip() in texts for part in text.split(mark))]
        if joined:
            return (
                f"{label}: {len(joined):,} labels join others and are classes of their own, such as {joined[0]!r}; for "
                f"several right classes set separator: {mark!r} and a kind that takes them "
                "(image_tagging, text_tagging)",
            )
    return ()


def _is_right(value: Any, column: str, sample: str) -> bool:
    try:
        text = plain(value).lower()
    except ValueError as error:
        raise BrokenSample(sample, f"column {column!r} {error}") from None
    if text not in _RIGHT | _WRONG:
        raise BrokenSample(sample, f"column {column!r} holds {text!r}, neither 0 nor 1")
    return text in _RIGHT
