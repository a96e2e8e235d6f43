"""ARROW TABLES, which parquet and huggingface share: their optional packages, and columns as plain values."""

import importlib
import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from uniperceiver.errors import UserError


def optional_package(name: str, format_: str, where: str) -> Any:
    """A module of an optional package.

    Raises:
        UserError: it is not installed; the line says how to mend that.
    """
    package = name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        missing = isinstance(error, ModuleNotFoundError) and (error.name or "").partition(".")[0] == package
        state = "which is missing" if missing else f"which does not start ({' '.join(str(error).split())})"
        raise UserError(
            f"{where}: format {format_} needs the package {package}, {state}; pip install {package}"
        ) from None


def is_text(type_: Any) -> bool:
    """Whether a column of that Arrow type holds texts, each by itself or in a dictionary."""
    from pyarrow import types

    if types.is_dictionary(type_):
        type_ = type_.value_type
    return bool(types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_))


def is_integer(type_: Any) -> bool:
    """Whether a column of that Arrow type holds whole numbers, each by itself or in a dictionary."""
    from pyarrow import types

    return bool(types.is_integer(type_.value_type if types.is_dictionary(type_) else type_))


def has_path(type_: Any) -> bool:
    """Whether a column of that Arrow type holds mappings with a path, as Hugging Face writes pictures."""
    from pyarrow import types

    return bool(types.is_struct(type_)) and type_.get_field_index("path") >= 0


def is_large(type_: Any) -> bool:
    """Whether a picture's column of that Arrow type holds bytes, which come into memory only with their sample."""
    from pyarrow import types

    if types.is_struct(type_):
        return not has_path(type_)
    return bool(types.is_binary(type_) or types.is_large_binary(type_) or types.is_binary_view(type_))


def rows_of(
    table: Any, columns: Sequence[str], classes: Mapping[str, tuple[str, ...]], media: Collection[str]
) -> list[tuple[Any, ...]]:
    """The rows of a table without what is large: of a picture only its path, or None.

    Args:
        media: the columns that hold pictures or clips; bytes in others are texts.
    """
    values = []
    for name in columns:
        if name not in table.column_names or (name in media and is_large(table.column(name).type)):
            values.append([None] * table.num_rows)
            continue
        column = table.column(name)
        if name in media and has_path(column.type):
            column = column.flatten()[column.type.get_field_index("path")]
        values.append([class_of(value, classes.get(name)) for value in values_of(column)])
    return list(zip(*values, strict=True))


def values_of(column: Any) -> list[Any]:
    """The values of a column; a text that is not UTF-8 comes as its bytes, which whoever uses it refuses."""
    try:
        values: list[Any] = column.to_pylist()
    except UnicodeDecodeError:
        values = [value_of(scalar) for scalar in column]
    return values


def value_of(scalar: Any) -> Any:
    """The value of a scalar, in the same way."""
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        items = getattr(scalar, "values", None)  # those of a list
        return scalar.as_buffer().to_pybytes() if items is None else [value_of(item) for item in items]


def class_of(value: Any, names: tuple[str, ...] | None) -> Any:
    """The name behind the number of a class, None for -1 (no label); other values are themselves."""
    if names is None or not isinstance(value, int | list):
        return value
    if isinstance(value, list):
        return [class_of(item, names) for item in value]
    return names[value] if 0 <= value < len(names) else None


def listed_classes(metadata: Mapping[bytes, bytes] | None) -> dict[str, tuple[str, ...]]:
    """The class names, by column, that Hugging Face's `datasets` writes into the files it saves."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        names = {column: _listed_names(feature) for column, feature in features.items()}
        return {column: tuple(listed) for column, listed in names.items() if listed is not None}
    except (ValueError, KeyError, TypeError, AttributeError):  # somebody else's metadata
        return {}


def _listed_names(feature: Any) -> Any:
    """The class names of a column, of what its lists hold, or of the first part of its mappings that has some."""
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        return feature["names"]
    parts = [feature["feature"]] if "feature" in feature else feature.values() if "_type" not in feature else ()
    return next((names for names in map(_listed_names, parts) if names is not None), None)
