"""An original checkpoint becomes a model of ours; every tensor of the file is used, or left out for a stated reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.model.official.names import TYPE_VECTOR, our_name, our_shape, reason_unused
from uniperceiver.model.official.reading import read_state
from uniperceiver.model.official.variant import Given, architecture_of, fold_type_vector


@dataclass(frozen=True, kw_only=True)
class Line:
    """What became of a tensor of the file."""

    original: str
    shape: tuple[int, ...]
    ours: str | None  # its name in our model
    reason: str = ""  # why it is not used


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A model of ours with the weights of an original checkpoint."""

    model: Generalist
    arch: Architecture
    lines: tuple[Line, ...]  # one per tensor of the file


def convert(path: Path, given: Given, *, end: int, answer: int, temperatures: tuple[str, ...]) -> Converted:
    """Read, recognise and translate a checkpoint of the original release.

    Args:
        end, answer: ids of the end token and of <SPE> in the vocabulary that it was trained with.

    Raises:
        UserError: it cannot be read; a tensor is left over without a reason, missing, or of another shape.
    """
    return convert_state(read_state(path), given, end=end, answer=answer, temperatures=temperatures, where=str(path))


def convert_state(
    state: dict[str, Tensor], given: Given, *, end: int, answer: int, temperatures: tuple[str, ...], where: str
) -> Converted:
    """As `convert`, for a state dict under the names of the original's last version; the dict is changed."""
    arch = architecture_of(state, given, end=end, answer=answer, where=where)
    if given.type_vector == "add":
        fold_type_vector(state, where)
    lines = [_line(name, state[name], given, arch) for name in state]
    left = [line.original for line in lines if line.ours is None and not line.reason]
    if left:
        raise UserError(f"{where}: {_several(left)} of this file have no place in our model; is it of another program?")
    with torch.device("meta"):
        model = build(arch, temperatures)
    translated = {line.ours: our_shape(line.original, state[line.original]).float() for line in lines if line.ours}
    _check(model.state_dict(), translated, where)
    # Straight from the mapped file: the model is never in memory twice.
    model.load_state_dict(translated, assign=True)
    return Converted(model=model, arch=arch, lines=tuple(lines))


def _line(name: str, tensor: Tensor, given: Given, arch: Architecture) -> Line:
    shape = tuple(tensor.shape)
    ours = our_name(name, 1 if given.ffn_gates == "shared" else 2)
    if ours == "tokenizer.patches.spatial.table" and arch.spatial == "sincos":
        return Line(original=name, shape=shape, ours=None, reason="positions are computed, for any size")
    if name == TYPE_VECTOR:
        reason = "added to the patch bias" if given.type_vector == "add" else "in the patch bias already"
        return Line(original=name, shape=shape, ours=None, reason=reason)
    return Line(original=name, shape=shape, ours=ours, reason="" if ours else reason_unused(name) or "")


def _check(ours: Mapping[str, Tensor], translated: Mapping[str, Tensor], where: str) -> None:
    missing = sorted(set(ours) - set(translated))
    if missing:
        raise UserError(f"{where}: nothing for {_several(missing)} of our model; is it one of several files?")
    unknown = sorted(set(translated) - set(ours))
    if unknown:
        raise UserError(f"{where}: {_several(unknown)} have no place in a model of this kind")
    for name, tensor in translated.items():
        if tensor.shape != ours[name].shape:
            raise UserError(
                f"{where}: {name!r} has the shape {tuple(tensor.shape)}, a model of this size needs "
                f"{tuple(ours[name].shape)}"
            )


def _several(names: list[str]) -> str:
    return f"{len(names)} tensors ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
