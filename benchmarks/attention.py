"""Attention on this machine: the fused kernel against two plain matrix products, and what 16 bit gains in all."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.harness import BenchmarkRow, main, ratio
from benchmarks.parts import sequences_of
from uniperceiver import ModelConfig, MoEConfig
from uniperceiver.model.attention import attend_plainly
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.records import Sequences
from uniperceiver.runs.architecture import architecture
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES

SHAPES = {  # (B, H, N, d)
    "nano image 64 px": (32, 4, 65, 32),
    "nano clip 4x48 px": (16, 4, 145, 32),
    "nano vocabulary 2000": (2000, 4, 3, 32),
    "Ti image 224 px": (8, 3, 197, 64),
}


def measure(pairs: int) -> list[BenchmarkRow]:
    """Plain over fused, per shape and type; below 1 the plain way is faster."""
    rows = []
    for name, (b, h, n, d) in SHAPES.items():
        for dtype in (torch.float32, torch.bfloat16):
            packed = torch.randn(b, n, 3, h, d, dtype=dtype, requires_grad=True)
            threads = torch.get_num_threads()
            rows.append(
                ratio(
                    f"attention/plain over fused/{name}/threads{threads}/{dtype}",
                    partial(_step, packed, plainly=True),
                    partial(_step, packed, plainly=False),
                    pairs=pairs,
                )
            )
    facts = CATALOGUE["image_classification"].facts("input")
    pictures = sequences_of(facts=facts, pixels_BFCHW=torch.randn(32, 1, 3, 64, 64))
    arch = architecture(ModelConfig(size="nano"), MoEConfig(), tasks=1, vocabulary=300, end=0, answer=1)
    model = build(arch, TEMPERATURES, torch_stream(0, "weights"))
    rows.append(
        ratio(
            f"encoder/bfloat16 over float32/nano image 64 px/batch32/threads{torch.get_num_threads()}",
            partial(_encode, model, pictures, torch.bfloat16),
            partial(_encode, model, pictures, None),
            pairs=pairs,
        )
    )
    return rows


def _encode(model: Generalist, pictures: Sequences, dtype: torch.dtype | None) -> None:
    with torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        model.encode(pictures).x_BND.sum().backward()


def _step(packed_BN3Hd: Tensor, *, plainly: bool) -> None:
    query, key, value = packed_BN3Hd.permute(2, 0, 3, 1, 4).unbind(0)
    if plainly:
        y = attend_plainly(query, key, value, None)
    else:
        y = F.scaled_dot_product_attention(query, key, value)
    y.sum().backward()


if __name__ == "__main__":
    main(measure)
