"""Which parameters a measurement looks at: groups of a model's parameters, chosen by a pattern of their names."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from uniperceiver.errors import UserError, nearest

_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


@dataclass(frozen=True, kw_only=True)
class ParameterGroup:
    """Parameters whose gradients are one vector: a matrix, all experts of one, a whole layer."""

    name: str
    layer: int | None  # depth; None: of no layer, or of all
    parameters: tuple[str, ...]  # names in the model


def groups_of(names: Iterable[str], pattern: str, as_dense: Callable[[str], str] = str) -> tuple[ParameterGroup, ...]:
    """Find the groups that a pattern chooses, in the order of the model.

    A pattern is a name, or the beginning of one, in which `*` stands for any part between two dots:
    "encoder.blocks.*.ffn" is every FFN, "encoder.blocks.2" one whole layer, "encoder.blocks.*.*.router" the gates of
    every half-layer. Each different beginning is a group of its own.

    Args:
        names: names of the model's parameters.
        as_dense: the name that a parameter would have without experts, so that all experts of a matrix are one vector.

    Raises:
        UserError: no parameter has such a name.
    """
    parts, chosen = pattern.split("."), dict[str, list[str]]()
    dense = {name: as_dense(name) for name in names}
    for name, plain in dense.items():
        beginning = plain.split(".")[: len(parts)]
        if len(beginning) == len(parts) and all(map(fnmatchcase, beginning, parts)):
            chosen.setdefault(".".join(beginning), []).append(name)
    if not chosen:
        dotted = [_NUMBER.sub("*", plain).split(".") for plain in dense.values()]
        choices = {".".join(words[:count]) for words in dotted for count in range(1, len(words) + 1)}
        raise UserError(f"parameters: no parameter's name begins with {pattern!r}; {nearest(pattern, choices)}")
    return tuple(
        ParameterGroup(name=beginning, layer=_layer(beginning), parameters=tuple(members))
        for beginning, members in chosen.items()
    )


def _layer(name: str) -> int | None:
    number = _NUMBER.search(name)
    return None if number is None else int(number.group())
