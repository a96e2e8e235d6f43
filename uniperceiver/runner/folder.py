"""An exported folder as it lies on the disk: what it says of itself, its graphs and its vectors."""

import hashlib
import json
import math
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from uniperceiver.errors import UserError, refuse_pointer
from uniperceiver.records.exported import EXPORT_FILE, EXPORT_FORMAT, VECTORS_FILE, Exported
from uniperceiver.strict import parse

_EXTERNAL = b"\n\x08location"  # the key by which a tensor in a file of ONNX says that it lies in another file
_MOST_HEADER = 100_000_000  # bytes


class ExportedFolder:
    """The files of an export, each read when it is first needed.

    Args:
        int8: use graphs with weights of 8 bits where there are some.
        threads: that compute an answer; None: as many as onnxruntime thinks best.

    Raises:
        UserError: no such folder, written by a newer version, or damaged.
    """

    def __init__(self, folder: Path, *, int8: bool = False, threads: int | None = None) -> None:
        self.folder, self._int8, self._threads = folder, int8, threads
        values = _read_json(folder / EXPORT_FILE)
        if isinstance(values.get("format"), int) and values["format"] > EXPORT_FORMAT:
            raise UserError(f"{folder}: was written by a newer version of uniperceiver; upgrade to read it")
        self.exported = parse(Exported, values, str(folder / EXPORT_FILE))
        if int8 and not any(graph.cosine is not None for graph in self.exported.graphs.values()):
            raise UserError(f"{folder}: holds no graphs of 8 bits; export with --int8")
        self._sessions: dict[str, Any] = {}
        self._vectors: Mapping[str, np.ndarray] | None = None
        self._lock = threading.Lock()

    def run(self, file: str, values: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """What a graph makes of arrays, by the names of its inputs."""
        outputs: list[np.ndarray] = self._session(file).run(None, dict(values))
        return outputs

    def vectors(self, name: str) -> np.ndarray:
        """An array of the file of vectors, by name."""
        with self._lock:
            if self._vectors is None:
                self._vectors = _read_vectors(self.folder / VECTORS_FILE)
        if name not in self._vectors:
            raise UserError(f"{self.folder / VECTORS_FILE}: holds no {name!r}; copy the export again")
        return self._vectors[name]

    def _session(self, file: str) -> Any:
        with self._lock:
            if file not in self._sessions:
                self._sessions[file] = self._load(file)
            return self._sessions[file]

    def _load(self, file: str) -> Any:
        """A session of onnxruntime, if the file is the one that was exported, and names no other.

        Without an arena and patterns of memory, which grow with every new shape, and without threads that spin.
        """
        small = f"{Path(file).stem}_int8.onnx"
        file = small if self._int8 and small in self.exported.graphs else file
        if file not in self.exported.graphs or Path(file).name != file:
            raise UserError(
                f"{self.folder / EXPORT_FILE}: names the graph {file!r}, and does not describe it; export anew"
            )
        path = self.folder / "onnx" / file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}); copy the export again") from None
        refuse_pointer(path)
        if hashlib.sha256(data).hexdigest() != self.exported.graphs[file].sha256:
            raise UserError(f"{path}: is not the file that was exported; copy the export again")
        if _EXTERNAL in data:
            raise UserError(f"{path}: has weights in other files, which are not read; export anew")
        try:
            import onnxruntime
        except ImportError:
            raise UserError("an export runs on the package onnxruntime: pip install 'uniperceiver[runner]'") from None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        if self._threads is not None:
            options.intra_op_num_threads = self._threads
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; give a folder that `uniperceiver export` wrote") from None
    except (OSError, ValueError, RecursionError) as error:
        refuse_pointer(path)
        raise UserError(f"{path}: damaged or not JSON ({error}); copy the export again") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object")
    return values


def _read_vectors(path: Path) -> Mapping[str, np.ndarray]:
    """The float32 arrays of a safetensors file, mapped from it.

    (A length, a header in JSON, and the bytes: read here, as the package safetensors is not needed otherwise.)

    Raises:
        UserError: it is missing or damaged.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(size - 8, _MOST_HEADER):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(file.read(length))
        arrays: dict[str, np.ndarray] = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            (start, stop), shape = entry["data_offsets"], tuple(map(int, entry["shape"]))
            if entry["dtype"] != "F32" or 4 * math.prod(shape) != stop - start or 8 + length + stop > size:
                raise ValueError(name)
            if start < stop:
                arrays[name] = np.memmap(path, dtype="<f4", mode="r", offset=8 + length + start, shape=shape)
        return arrays
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: missing, truncated or damaged ({error}); copy the export again") from None
