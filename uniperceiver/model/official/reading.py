"""Files of the original release: what is in them, under the names of its last version.

Native files hold {model: ...}; DeepSpeed files hold {module: ...}, those of the version before under other names.
Nothing is ever unpickled but tensors and plain containers.
"""

import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from uniperceiver.errors import UserError, kind_of_path, refuse_pointer

# Older name -> name of the last version; applied in this order, each wherever it occurs.
_RENAMES = (
    (r"\.deepspeed_moe\.(gate|experts)\.", r".\1."),
    (r"^encoder\.", "fused_encoder."),
    (r"^predictor\.", "loss_prepare."),
    (r"\.attention\.self\.qkv_proj\.", ".self_attn.qkv_proj."),
    (r"\.attention\.output\.dense\.", ".self_attn.dense."),
    (r"\.ffn\.dense\.", ".linear1."),
    (r"\.ffn\.dense2\.", ".linear2."),
    (r"\.attention_output\.residual_scale$", ".gamma_1"),
    (r"\.ffn_output\.residual_scale$", ".gamma_2"),
    (r"\.LayerNormModules\.([01])\.", lambda match: f".norm{int(match[1]) + 1}."),
)
# How torch names a class or function that a file would call.
_GLOBAL = re.compile(r"GLOBAL (\S+)")


@dataclass(frozen=True, kw_only=True)
class Original:
    """What a file of the original release holds."""

    tensors: dict[str, Tensor]  # under the names of the last version
    older: bool = False  # written by the version before it, under other names


def read_original(path: Path) -> Original:
    """The tensors of a checkpoint of the original release, mapped from the disk where the file allows it.

    Raises:
        UserError: there is no such file; it is damaged, holds anything that would have to be executed, or no model.
    """
    if path.is_dir():
        raise UserError(f"{path}: is a folder; give a file, of a DeepSpeed checkpoint mp_rank_00_model_states.pt")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: is {kind_of_path(path)}; save it as a file")
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a .pth, .pt or .safetensors file of the original release")
    refuse_pointer(path)
    if path.suffix == ".json":
        raise UserError(
            f"{path}: is JSON, such as an index of files, and holds no weights; give a whole .pth, .pt or "
            ".safetensors file"
        )
    try:
        contents = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or _line(error)}); fetch it again") from None
    tensors = _tensors(_model_in(contents, path), path)
    before = {_last_name(name): name for name in tensors}
    if len(before) < len(tensors):
        raise UserError(f"{path}: holds the same tensors under names of two versions; give a file of one of them")
    return Original(
        tensors={name: _squeezed(name, tensors[older]) for name, older in before.items()},
        older=any(name != older for name, older in before.items()),
    )


def _safetensors(path: Path) -> Mapping[str, Any]:
    try:
        return load_file(path)
    except SafetensorError as error:
        raise UserError(f"{path}: truncated or damaged ({_line(error)}); fetch it again") from None


def _torch_file(path: Path) -> Mapping[str, Any]:
    # Files from before torch 1.6 are no zip archives: they cannot be mapped, and have no check sums.
    is_archive = zipfile.is_zipfile(path)
    try:
        damaged = _damaged_part(path) if is_archive else None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of other pickle formats, which are refused anyway
            contents = None if damaged else torch.load(path, map_location="cpu", weights_only=True, mmap=is_archive)
    except OSError:
        raise
    except Exception as error:  # torch's reader fails in as many ways as there are to damage a file
        if isinstance(error, UnpicklingError) and (refused := _GLOBAL.search(str(error))):
            raise UserError(
                f"{path}: holds more than tensors and plain containers ({refused[1]}), which would have to be "
                "executed; it is refused: save its state dict alone where you trust it, as safetensors"
            ) from None
        raise UserError(f"{path}: truncated or no file of torch ({_line(error)}); fetch it again") from None
    if damaged:
        raise UserError(f"{path}: damaged: the check sum of its part {damaged} is wrong; fetch it again")
    if not isinstance(contents, Mapping):
        raise UserError(f"{path}: holds a {type(contents).__name__}, not the tensors of a model")
    return contents


def _damaged_part(path: Path) -> str | None:
    """The first part of an archive whose check sum is wrong: where a file is mapped, nothing else looks at them."""
    with zipfile.ZipFile(path) as archive:
        return archive.testzip()


def _model_in(contents: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    """The part of a file's contents that is a model."""
    for key in ("model", "module"):
        if isinstance(part := contents.get(key), Mapping):
            return part
    if contents and all(isinstance(value, Tensor) for value in contents.values()):
        return contents
    keys = ", ".join(sorted(map(str, contents))[:5]) or "nothing"
    raise UserError(
        f"{path}: holds no model of the original release (neither `model` nor `module`, but {keys}); of a DeepSpeed "
        "checkpoint give the file mp_rank_00_model_states.pt"
    )


def _tensors(values: Mapping[Any, Any], path: Path) -> dict[str, Tensor]:
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise UserError(
                f"{path}: {name!r} is a {type(value).__name__}, not a named, dense tensor; give a checkpoint of a model"
            )
    return dict(values)


def _last_name(name: str) -> str:
    """The name that a tensor has in the last version."""
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    return name


def _squeezed(name: str, tensor: Tensor) -> Tensor:
    """LayerScale as a vector: older files hold it as (1, 1, D)."""
    return tensor.flatten() if name.endswith(("gamma_1", "gamma_2")) else tensor


def _line(error: Exception) -> str:
    """What an error says, without torch's advice to execute the file instead."""
    text = str(error).rpartition("WeightsUnpickler error:")[2].partition("Check the documentation")[0]
    return " ".join(text.split())[:160] or type(error).__name__
