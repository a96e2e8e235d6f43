"""RECORDS <-> BYTES: plain JSON with tensors in it, as it travels between processes; there is no pickle."""

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_TENSOR = "\0tensor"  # the key of what stands in the JSON for a tensor: no record of ours has it
_LENGTH = 8  # bytes of the number in front


def pack(value: Any) -> bytes:
    """Write a structure of mappings with string keys, lists, tuples, plain values and tensors as bytes."""
    tensors: list[bytes] = []

    def plain(part: Any) -> Any:
        if isinstance(part, Tensor):
            content = part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            tensors.append(content)
            return {_TENSOR: [str(part.dtype).removeprefix("torch."), list(part.shape), len(content)]}
        if isinstance(part, Mapping):
            assert all(isinstance(name, str) for name in part), "JSON would make texts of keys that are none"
            return {name: plain(inner) for name, inner in part.items()}
        return [plain(inner) for inner in part] if isinstance(part, list | tuple) else part

    text = json.dumps(plain(value)).encode()
    return b"".join([len(text).to_bytes(_LENGTH, "little"), text, *tensors])


def unpack(data: bytes) -> Any:
    """Read what `pack` wrote; tuples come back as lists, tensors bit for bit and on the CPU."""
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "little")
    offset = end

    def with_tensors(part: Any) -> Any:
        nonlocal offset
        if isinstance(part, dict) and _TENSOR in part:
            dtype, shape, size = part[_TENSOR]
            content = torch.frombuffer(bytearray(data[offset : offset + size]), dtype=torch.uint8) if size else None
            offset += size
            empty = torch.empty(shape, dtype=getattr(torch, dtype))
            return empty if content is None else content.view(empty.dtype).reshape(shape)
        if isinstance(part, dict):
            return {name: with_tensors(inner) for name, inner in part.items()}
        return [with_tensors(inner) for inner in part] if isinstance(part, list) else part

    return with_tensors(json.loads(data[_LENGTH:end]))
