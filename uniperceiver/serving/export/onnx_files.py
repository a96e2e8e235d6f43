"""GRAPHS -> FILES: a module as ONNX, or as torch.export's own format."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim

from uniperceiver.errors import UserError
from uniperceiver.serving.export.graphs import CaptionBegin, CaptionStep, Graph
from uniperceiver.serving.export.plan import PlannedGraph
from uniperceiver.streams import torch_stream

OPSET = 20
_MOST_BYTES = 2_000_000_000  # of a file of ONNX, which is a protocol buffer
_NOISY = ("torch.onnx", "onnxscript", "onnx_ir")  # they tell of packages that are not needed


def refuse_without_onnx() -> None:
    """Refuse to export where a package for it is missing.

    Raises:
        UserError: one is missing.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        if find_spec(package) is None:
            raise UserError(f"export needs the package {package}: pip install 'uniperceiver[export]'")


def examples(graph: PlannedGraph, rows: int, *, length: int, words: int, seed: int) -> tuple[Tensor, ...]:
    """Inputs of a graph that is no step of captions: random pixels, sounds and words, padding behind all but one text.

    Args:
        length: tokens of the texts.
        words: entries of the vocabulary.
    """
    layout, stream = graph.layout, torch_stream(seed, "export", rows, length)
    values: list[Tensor] = []
    pixels = (3, layout.size, layout.size)
    shapes = {"image": pixels, "video": (layout.frames, *pixels), "audio": layout.grid}
    for modality in layout.media:
        values.append(torch.randn(rows, *shapes[modality], generator=stream))
    if layout.text:
        lengths_B = torch.randint(1, length + 1, (rows,), generator=stream)
        lengths_B[0] = length
        valid_BN = torch.arange(length) < lengths_B[:, None]
        values.append(torch.randint(words, (rows, length), generator=stream) * valid_BN)
        values.append(valid_BN.long())
    if layout.read_in_text:
        values.append(torch.arange(rows) % length)
    return tuple(values)


def traced_inputs(graph: PlannedGraph, begin: PlannedGraph | None, words: int) -> tuple[tuple[Tensor, ...], Any]:
    """Inputs that a graph is traced with, and which of their axes may have any length."""
    batch = Dim("batch")
    if isinstance(graph.module, CaptionStep):
        assert begin is not None
        assert isinstance(begin.module, CaptionBegin)
        with torch.no_grad():
            _, *past = begin.module(*examples(begin, 2, length=1, words=words, seed=0))
        axes = [{0: batch}, {}, {0: batch, 4: Dim("past")}, *({0: batch} for _ in past[1:])]
        return (torch.arange(2), torch.tensor(1), *past), {"inputs": tuple(axes)}
    length = min(7, graph.module.model.tokenizer.words.positions.shape[0])
    values = examples(graph, 2, length=length, words=words, seed=0)
    text = {0: batch, 1: Dim("length", max=graph.module.model.tokenizer.words.positions.shape[0])}
    axes = [text if name in ("input_ids", "attention_mask") else {0: batch} for name in graph.module.input_names]
    return values, {"inputs": tuple(axes)}


def write_onnx(path: Path, module: Graph, inputs: tuple[Any, Any], opset: int) -> None:
    """Write a module as ONNX, in one file.

    Raises:
        UserError: torch cannot turn it into such a graph, or it is too large for one file.
    """
    weights = sum(value.numel() * value.element_size() for value in module.parameters())
    if weights > _MOST_BYTES:
        raise UserError(
            f"export: {weights / 1e9:.1f} GB of weights are more than a file of ONNX holds; export a smaller model"
        )
    values, axes = inputs
    with quiet():
        program = _translated(path.stem, module, values, axes, opset)
        program.save(path, external_data=False)


def _translated(name: str, module: nn.Module, values: Any, axes: Any, opset: int) -> Any:
    try:
        return torch.onnx.export(
            module,
            values,
            dynamo=True,
            opset_version=opset,
            dynamic_shapes=axes,
            custom_translation_table={torch.ops.aten.sort.stable: _stable_sort},
            input_names=list(module.input_names),  # type: ignore[arg-type]
            output_names=list(module.output_names),  # type: ignore[arg-type]
            verbose=False,
        )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = " ".join(str(error.__cause__ or error).split())[:200]
        raise UserError(f"export: torch cannot make a graph of {name} ({reason}); ask the model itself") from None


def _stable_sort(self: Any, stable: bool, dim: int = -1, descending: bool = False) -> Any:
    """What torch.sort(stable=True) is in ONNX, whose TopK gives the first of equals first; by torch's names."""
    from onnxscript import opset20 as op

    opset: Any = op
    length = opset.Gather(opset.Shape(self), opset.Constant(value_ints=[dim]), axis=0)
    return opset.TopK(self, length, axis=dim, largest=int(descending), sorted=1)


def write_pt2(path: Path, module: nn.Module, inputs: tuple[Any, Any]) -> None:
    """Write a module in the format of torch.export, which this library never reads: loading it may execute code."""
    values, axes = inputs
    with quiet():
        # Whether there is more than one token is asked when the graph runs, and does not split it in two.
        program = torch.export.export(
            module, values, dynamic_shapes=axes, prefer_deferred_runtime_asserts_over_guards=True
        )
        torch.export.save(program, path)


@contextmanager
def quiet() -> Iterator[None]:
    """A time in which exporters do not speak of what is none of a user's business, such as a missing torchvision."""
    levels = {name: logging.getLogger(name).level for name in _NOISY}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in levels:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
