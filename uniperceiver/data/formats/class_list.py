"""CLASSES OF A DATA SET: their names in label order, and what is read of each, from a list or a file."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniperceiver.data.formats.files import class_texts, existing_file, read_json, read_lines
from uniperceiver.errors import UserError

_WORDNET = re.compile(r"(n\d{8})\s+(.+)")  # a synset and its words, as ImageNet lists them
_FORMS = "a list of names, {name: text}, {name: index}, or {index: name}"


@dataclass(frozen=True, kw_only=True)
class ClassList:
    """The classes in label order."""

    names: tuple[str, ...]  # what the data call them
    texts: tuple[tuple[str, ...], ...]  # one or several for each


def read_classes(base: Path, classes: str | Sequence[str], where: str) -> ClassList:
    """The classes that a list names, or a file: a name on each line, or name, tab, text; or JSON.

    Raises:
        UserError: no class, a name twice, a file that is none of these.
    """
    where = f"{where}: key 'classes'"
    texts: list[tuple[str, ...]] = []
    if not isinstance(classes, str):
        names = list(classes)
    elif Path(classes).suffix.lower() == ".json":
        path = existing_file(base, classes, where)
        names, texts = _of_json(read_json(path, where), path, where)
    else:
        names, texts = _of_lines(existing_file(base, classes, where), where)
    if not names:
        raise UserError(f"{where} names no class; give a list, or a file with one name per line")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{where} names {twice[0]!r} twice; each class has one name")
    return ClassList(names=tuple(names), texts=tuple(texts) or class_texts(names))


def _of_lines(path: Path, where: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Names, and texts where there are some: behind a tab, or behind a synset of WordNet."""
    lines = read_lines(path, where)
    matches = [_WORDNET.fullmatch(line) for _, line in lines]
    pairs = [
        match.groups() if match else tuple(line.split("\t")) for match, (_, line) in zip(matches, lines, strict=True)
    ]
    for (number, _), pair in zip(lines, pairs, strict=True):
        if len(pair) != len(pairs[0]) or len(pair) > 2 or not all(part.strip() for part in pair):
            raise UserError(f"{where}: {path}:{number}: write a name on each line, or name, tab and text on each")
    names = [pair[0].strip() for pair in pairs]
    return names, [(pair[1].strip(),) for pair in pairs if len(pair) == 2]


def _of_json(document: Any, path: Path, where: str) -> tuple[list[str], list[tuple[str, ...]]]:
    """Names, and texts where there are some."""
    wrong = UserError(f"{where}: {path}: is no list of classes; write {_FORMS}")
    if isinstance(document, list) and all(isinstance(name, str) for name in document):
        return document, []
    if not isinstance(document, dict) or not document:
        raise wrong
    values = list(document.values())
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        if sorted(values) != list(range(len(values))):
            raise UserError(f"{where}: {path}: the indices of {len(values)} classes must be 0 to {len(values) - 1}")
        return sorted(document, key=document.__getitem__), []
    if all(key.isdecimal() for key in document):
        if sorted(map(int, document)) != list(range(len(values))):
            raise UserError(f"{where}: {path}: the indices of {len(values)} classes must be 0 to {len(values) - 1}")
        values = [document[key] for key in sorted(document, key=int)]
        if all(isinstance(value, str) for value in values):
            return values, []
        pairs = [value for value in values if isinstance(value, list) and len(value) == 2]
        document = {str(name): text for name, text in pairs}
        if len(document) < len(values):
            raise wrong
    texts = [
        (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else ()
        for value in document.values()
    ]
    if not all(isinstance(name, str) for name in document) or not all(
        parts and all(isinstance(part, str) and part.strip() for part in parts) for parts in texts
    ):
        raise wrong
    return list(document), texts
