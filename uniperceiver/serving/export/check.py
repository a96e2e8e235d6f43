"""FILES -> DIFFERENCES: what a written graph computes, beside what the model itself computes.

Shape suffixes: B sequences, D width.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from uniperceiver.model.model import Generalist
from uniperceiver.moe.layer import ExpertFeedForward, ExpertLinear
from uniperceiver.moe.token_router import TokenRouter
from uniperceiver.records import Sequences
from uniperceiver.serving.export.graphs import CaptionBegin, CaptionStep, ReadingGraph, ThingsGraph, media_parts
from uniperceiver.serving.export.onnx_files import examples
from uniperceiver.serving.export.plan import ExportPlan, PlannedGraph
from uniperceiver.tasks.decode import prefix_with_query
from uniperceiver.tasks.likelihood import unit
from uniperceiver.tokenizers.regions.tokens import RegionTokenizer

GREATEST = 1e-4  # difference of a value of unit vectors, above which an export is refused
_ROWS = (1, 3, 32)
_WORDS = 5  # of a checked caption
_TIE = 1e-5  # between logits of objectness: nearer ones may come in another order


def session_of(path: Path) -> Any:
    """A session of onnxruntime on one graph."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answers_of(session: Any, values: Mapping[str, Tensor]) -> list[Tensor]:
    """What a graph makes of tensors, as tensors."""
    return [torch.from_numpy(value) for value in session.run(None, {name: x.numpy() for name, x in values.items()})]


@torch.no_grad()
def difference(folder: Path, file: str, plan: ExportPlan, model: Generalist, words: int) -> float:
    """The greatest difference of a value between a graph and the model, at batches of 1, 3 and 32 and several lengths.

    Args:
        model: the model as it was loaded, with its experts.
        words: entries of the vocabulary.
    """
    graph = plan.graphs[file]
    if isinstance(graph.module, CaptionBegin | CaptionStep):
        begin, step = plan.begin_of(file) or file, graph.step or file
        both = session_of(folder / begin), session_of(folder / step)
        differences = _of_captions(*both, plan.graphs[begin], model, words)
        return differences[isinstance(graph.module, CaptionStep)]
    session, most = session_of(folder / file), len(model.tokenizer.words.positions)
    reader: ReadingGraph | ThingsGraph = ThingsGraph(model, graph.layout, graph.facts)
    if isinstance(graph.module, ReadingGraph):
        reader = ReadingGraph(model, graph.layout, graph.facts, features=graph.module.features)
    greatest = 0.0
    for rows in _ROWS:
        for length in dict.fromkeys((min(2, most), min(9, most), most)) if graph.layout.text else (1,):
            values = examples(graph, rows, length=length, words=words, seed=rows)
            got = answers_of(session, dict(zip(reader.input_names, values, strict=True)))
            clear_B, expected = _clear(model, graph, values), reader(*values)
            greatest = max(greatest, *(_apart(x[clear_B], y[clear_B]) for x, y in zip(got, expected, strict=True)))
    return greatest


def _clear(model: Generalist, graph: PlannedGraph, values: Sequence[Tensor]) -> Tensor:
    """Whose pictures have proposals whose order does not hang on the last bits of their objectness, bool (B,)."""
    clear_B = torch.ones(len(values[0]), dtype=torch.bool)
    tokenizer = model.tokenizer.tokenizer_of("image")
    if graph.layout.media != ("image",) or not isinstance(tokenizer, RegionTokenizer):
        return clear_B
    _, regions = tokenizer.propose(values[0])
    for layer in (regions.layers[0], regions.layers[-1]):
        best_BN = layer.objectness_BQ.sort(dim=1, descending=True).values[:, : tokenizer.shape.queries + 1]
        clear_B &= (best_BN.diff(dim=1).abs() > _TIE).all(dim=1)
    return clear_B


def _apart(x: Tensor, y: Tensor) -> float:
    """The greatest difference; what is not finite is as far away as can be."""
    return float((x - y).abs().nan_to_num(nan=float("inf")).amax()) if x.numel() else 0.0


def _of_captions(begin: Any, step: Any, graph: PlannedGraph, model: Generalist, words: int) -> tuple[float, float]:
    """Of what words are read from: at the first word, and at the greatest of a few more."""
    answer, first, later = model.tokenizer.words.answer, 0.0, 0.0
    for rows in _ROWS:
        media = examples(graph, rows, length=1, words=words, seed=rows)
        seen = Sequences(facts=graph.facts, parts=tuple(media_parts(graph.layout, media)))
        most = min(_WORDS, len(model.tokenizer.words.positions) - 1)
        cache, x_BD = model.begin(prefix_with_query(seen, answer), most + 1)
        z_BD, past, *pooled = answers_of(begin, dict(zip(graph.layout.media_inputs, media, strict=True)))
        first = max(first, _apart(z_BD, unit(model.represent(x_BD))))
        for place in range(1, most + 1):
            word_B = (torch.arange(rows) * 7 + place * 13) % words
            x_BD = model.extend(cache, word_B, place)
            values = {"word": word_B, "place": torch.tensor(place), "past": past}
            z_BD, past = answers_of(step, values | ({"pooled": pooled[0]} if pooled else {}))
            later = max(later, _apart(z_BD, unit(model.represent(x_BD))))
    return first, later


def experts_in(model: nn.Module) -> int | None:
    """Different weights of experts that a graph must hold; None of a model whose experts values do not choose."""
    weights = _expert_weights(model)
    return len(weights) if weights else None


def experts_held(path: Path, model: nn.Module) -> int:
    """How many of them a file of ONNX holds: rows or columns of its matrices, or matrices of their own."""
    import onnx
    from onnx import numpy_helper

    arrays = [numpy_helper.to_array(value) for value in onnx.load(path).graph.initializer]
    held = set[str]()
    for rows, columns in {weight.shape for weight in _expert_weights(model).values()}:
        for array in arrays:
            for matrix in array if array.ndim == 3 else [array] if array.ndim == 2 else []:
                for part in (matrix, matrix.T):
                    if part.shape[1] == columns and part.shape[0] % rows == 0:
                        held |= {_digest(piece) for piece in part.reshape(-1, rows, columns)}
    return len(held & _expert_weights(model).keys())


def _expert_weights(model: nn.Module) -> dict[str, np.ndarray]:
    """Each expert's weight, (O, I), by its digest."""
    if not any(isinstance(module, TokenRouter) for module in model.modules()):
        return {}
    owners = [module for module in model.modules() if isinstance(module, ExpertLinear | ExpertFeedForward)]
    linears = [linear for owner in owners for linear in owner.experts.modules() if isinstance(linear, nn.Linear)]
    arrays = [linear.weight.detach().cpu().numpy() for linear in linears]
    return {_digest(weight): weight for weight in arrays}


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.shape}".encode() + np.ascontiguousarray(array).tobytes()).hexdigest()
