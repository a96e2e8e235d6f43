"""FLOAT32 GRAPH -> INT8 GRAPH, and what that costs: the mean cosine to the graph in float32, on made scenes."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from uniperceiver.data.media.preprocess import READERS, Preprocess
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.serving.export.check import answers_of, session_of
from uniperceiver.serving.export.graphs import Layout
from uniperceiver.serving.export.onnx_files import quiet
from uniperceiver.tasks.sequences import cut, pad
from uniperceiver.tokenizers.bpe import TextEncoder

LEAST = 0.999  # mean cosine below which a quantised graph is refused
ITEMS = 600
_TOGETHER = 50


def quantise(path: Path, out: Path) -> None:
    """Write the graph with weights of 8 bits; activations are quantised as they come (dynamic quantisation)."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with quiet():
        quantize_dynamic(path, out, weight_type=QuantType.QInt8)


def cosine(
    path: Path, quantised: Path, layout: Layout, view: Preprocess, codec: TextEncoder, items: int = ITEMS
) -> float:
    """The mean cosine between what both graphs make of scenes (seed 0) and their captions."""
    sessions = session_of(path), session_of(quantised)
    names = [value.name for value in sessions[0].get_inputs()]
    total, count = 0.0, 0
    for values in _scenes(layout, view, codec, items):
        first, second = (answers_of(session, dict(zip(names, values, strict=True)))[0] for session in sessions)
        total += float(torch.nn.functional.cosine_similarity(first, second).sum())
        count += len(first)
    return total / count


def _scenes(layout: Layout, view: Preprocess, codec: TextEncoder, items: int) -> Iterator[tuple[Tensor, ...]]:
    """Inputs of a graph: pictures, clips or sounds, texts, or both."""
    scenes = partial(ScenesSource, items=items, pixels=layout.size or 32, frames=max(layout.frames, 1))
    sides = {"image": scenes(view="image"), "video": scenes(view="clip"), "audio": scenes(view="sound")}
    captioned = sides[layout.media[0] if layout.media else "image"]
    seen = replace(view, size=layout.size or view.size, frames=layout.frames or view.frames)
    for start in range(0, items, _TOGETHER):
        places = range(start, min(start + _TOGETHER, items))
        samples = [captioned.read(place) for place in places]
        values: list[Tensor] = []
        for modality in layout.media:
            read = READERS[modality].values
            media = torch.stack([read(sides[modality].read(place), seen, None, None) for place in places])
            values.append(media[:, 0] if modality == "image" else media)
        if layout.text:
            ids_BN, valid_BN = pad(
                [cut(codec.encode(sample.captions[0]), codec.end, view.length) for sample in samples]
            )
            values += [ids_BN, (torch.ones_like(ids_BN) if valid_BN is None else valid_BN.long())]
        if layout.read_in_text:
            values.append(torch.zeros(len(samples), dtype=torch.int64))
        yield tuple(values)
