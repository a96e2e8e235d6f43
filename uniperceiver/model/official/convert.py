"""An original checkpoint becomes a model of ours; every tensor of the file is used, or left out for a stated reason."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from uniperceiver.errors import UserError
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import empty_model
from uniperceiver.model.model import Generalist
from uniperceiver.model.official.names import TYPE_VECTOR, our_name, our_shape, reason_unused, twin_of
from uniperceiver.model.official.reading import Original, read_original
from uniperceiver.model.official.variant import Choices, add_type_vector, architecture_of

_OF_TYPE_VECTOR = {"folded": "in the patch bias already", "added": "added to the patch bias"}


@dataclass(frozen=True, kw_only=True)
class Line:
    """What became of a tensor of the file."""

    original: str
    shape: tuple[int, ...]
    target: str | None  # its name in our model
    reason: str = ""  # why it is not used


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A model of ours with the weights of an original checkpoint."""

    model: Generalist
    arch: Architecture
    lines: tuple[Line, ...]  # one per tensor of the file
    type_vector: Literal["folded", "added", "none"]  # what became of the visual type vector; none: there is none


class NotWhole(UserError):
    """A checkpoint that is not understood whole: what there is to say of each of its tensors stands in `lines`."""

    def __init__(self, message: str, lines: tuple[Line, ...]) -> None:
        super().__init__(message)
        self.lines = lines


def convert(path: Path, choices: Choices, *, end: int, answer: int, temperatures: tuple[str, ...]) -> Converted:
    """Read, recognise and translate a checkpoint of the original release.

    Args:
        end, answer: ids of the end token and of <SPE> in the vocabulary that it was trained with.

    Raises:
        UserError: it cannot be read; a tensor is left over without a reason, missing, or of another shape.
    """
    original = read_original(path)
    return convert_original(original, choices, end=end, answer=answer, temperatures=temperatures, where=str(path))


def convert_state(
    state: dict[str, Tensor],
    choices: Choices,
    *,
    end: int,
    answer: int,
    temperatures: tuple[str, ...],
    where: str,
) -> Converted:
    """As `convert`, for a state dict under the names of the original's last version."""
    original = Original(tensors=dict(state))
    return convert_original(original, choices, end=end, answer=answer, temperatures=temperatures, where=where)


def convert_original(
    original: Original, choices: Choices, *, end: int, answer: int, temperatures: tuple[str, ...], where: str
) -> Converted:
    """As `convert`, for what was read; its tensors are changed where the visual type vector is added."""
    state = original.tensors
    arch = architecture_of(state, choices, end=end, answer=answer, where=where)
    type_vector = add_type_vector(state, choices, older=original.older, where=where)
    lines = tuple(_line(name, state, choices, arch, type_vector) for name in state)
    left = [line.original for line in lines if line.target is None and not line.reason]
    if left:
        raise NotWhole(
            f"{where}: {_several(left)} of this file have no place in our model; is it of another program?", lines
        )
    model = empty_model(arch, temperatures)
    used = {line.target: our_shape(line.original, state[line.original]) for line in lines if line.target}
    if wrong := _wrong(model.state_dict(), used):
        raise NotWhole(f"{where}: {wrong}", lines)
    # Straight from the mapped file: the model is never in memory twice. Half precision becomes float32.
    model.load_state_dict({name: tensor.float() for name, tensor in used.items()}, assign=True)
    return Converted(model=model, arch=arch, lines=lines, type_vector=type_vector)


def _line(name: str, state: Mapping[str, Tensor], choices: Choices, arch: Architecture, type_vector: str) -> Line:
    """What becomes of a tensor."""
    shape, target, reason = tuple(state[name].shape), our_name(name, 1 if choices.ffn_gates == "shared" else 2), ""
    if target == "tokenizer.patches.spatial.table" and arch.spatial == "sincos":
        target, reason = None, "positions are computed, for any size"
    elif name == TYPE_VECTOR:
        reason = _OF_TYPE_VECTOR[type_vector]
    elif (twin := twin_of(name)) and twin in state and not torch.equal(state[name], state[twin]):
        reason = f"its values are not those of {twin}, which holds for all modalities in every published model"
    elif target is None:
        reason = reason_unused(name) or ""
    return Line(original=name, shape=shape, target=target, reason=reason)


def _wrong(model: Mapping[str, Tensor], used: Mapping[str, Tensor]) -> str:
    """What is missing, too much or of another shape or kind; empty if all fits."""
    if missing := sorted(set(model) - set(used)):
        return f"nothing for {_several(missing)} of our model; is it one of several files?"
    if unknown := sorted(set(used) - set(model)):
        return f"{_several(unknown)} have no place in a model of this kind; is it of another program?"
    for name, tensor in used.items():
        if tensor.shape != model[name].shape:
            needed = tuple(model[name].shape)
            return f"{name!r} has the shape {tuple(tensor.shape)}, a model of this size needs {needed}; fetch it again"
        if not tensor.is_floating_point():
            return f"{name!r} holds {tensor.dtype}, not real numbers; fetch it again"
    return ""


def _several(names: list[str]) -> str:
    return f"{len(names)} tensors ({', '.join(names[:5])}{', ...' if len(names) > 5 else ''})"
