"""Files of the original release: what is in them, under the names of its last version.

Native files hold {model: ...}; older DeepSpeed files hold {module: ...} under other names. Nothing is ever
unpickled but tensors and plain containers.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from uniperceiver.errors import UserError

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


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of the original release, mapped from the disk where the file allows it.

    Raises:
        UserError: there is no such file; it is damaged, holds anything that would have to be executed, or no model.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; give a .pth, .pt or .safetensors file of the original release")
    contents: Mapping[str, Any] = _safetensors(path) if path.suffix == ".safetensors" else _torch_file(path)
    if "model" in contents and isinstance(contents["model"], Mapping):
        return _tensors(contents["model"], path)
    if "module" in contents and isinstance(contents["module"], Mapping):
        return {name: _squeezed(name, each) for name, each in _renamed(_tensors(contents["module"], path)).items()}
    if contents and all(isinstance(each, Tensor) for each in contents.values()):
        return _tensors(contents, path)
    found = ", ".join(sorted(map(str, contents))[:5]) or "nothing"
    raise UserError(
        f"{path}: holds no model of the original release (neither `model` nor `module`, but {found}); of a DeepSpeed "
        "checkpoint give the file mp_rank_00_model_states.pt"
    )


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: truncated or damaged ({_line(error)}); fetch it again") from None


def _torch_file(path: Path) -> Mapping[str, Any]:
    try:
        # Files from before torch 1.6 are no zip archives and cannot be mapped.
        contents = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UnpicklingError as error:
        if "weights_only" in str(error) or "Unsupported" in str(error):
            raise UserError(
                f"{path}: holds more than tensors and plain containers ({_global_of(error)}), which would have to be "
                "executed; it is refused: save its state dict alone where you trust it, as safetensors"
            ) from None
        raise UserError(f"{path}: truncated or no file of torch ({_line(error)}); fetch it again") from None
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise UserError(f"{path}: truncated or no file of torch ({_line(error)}); fetch it again") from None
    if not isinstance(contents, Mapping):
        raise UserError(f"{path}: holds a {type(contents).__name__}, not the tensors of a model")
    return contents


def _tensors(values: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    wrong = next((name for name, each in values.items() if not isinstance(each, Tensor)), None)
    if wrong is not None:
        raise UserError(f"{path}: {wrong!r} is a {type(values[wrong]).__name__}, not a tensor; fetch the file again")
    return dict(values)


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of an older file under the names of the last version."""
    has_experts = any(".deepspeed_experts." in name for name in state)
    return {_last_name(name, has_experts): each for name, each in state.items()}


def _last_name(name: str, has_experts: bool) -> str:
    for pattern, replacement in _RENAMES:
        name = re.sub(pattern, replacement, name)
    if has_experts:
        return name
    name = re.sub(r"\.self_attn\.qkv_proj\.(weight|bias)$", r".self_attn.in_proj_\1", name)
    return re.sub(r"\.self_attn\.dense\.(weight|bias)$", r".self_attn.out_proj.\1", name)


def _squeezed(name: str, tensor: Tensor) -> Tensor:
    """LayerScale as a vector: older files hold it as (1, 1, D)."""
    return tensor.flatten() if name.endswith(("gamma_1", "gamma_2")) else tensor


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _global_of(error: Exception) -> str:
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return found[1] if found else "an object"
