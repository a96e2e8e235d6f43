"""The vocabulary as candidates: the exact encoding on its fast path, and sampled, against the plain encoding.

The plain baseline encodes the same sequences as any padded batch: with a mask, all positions in every layer.
"""

from functools import partial

import torch

from benchmarks.harness import BenchmarkRow, main, ratio
from benchmarks.parts import changed, flat
from uniperceiver import ModelConfig, MoEConfig
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.runs.architecture import architecture
from uniperceiver.streams import torch_stream
from uniperceiver.tasks.candidates import Candidates, represent_candidates, sampled_candidates, vocabulary_sequences
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES

VOCABULARY, SAMPLES, TARGETS = 2000, 384, 150


def measure(pairs: int) -> list[BenchmarkRow]:
    """Forward and backward of all candidates: fast over plain, sampled over fast."""
    facts = CATALOGUE["masked_language_modelling"].facts("candidate")
    arch = architecture(ModelConfig(size="nano"), MoEConfig(), tasks=1, vocabulary=VOCABULARY, end=0, answer=1)
    model = build(arch, TEMPERATURES, torch_stream(0, "weights"))
    full = Candidates(sequences=vocabulary_sequences(torch.arange(VOCABULARY), facts, 0))
    target_R = torch.arange(TARGETS)
    drawn = sampled_candidates(target_R, torch.ones(VOCABULARY), SAMPLES, torch_stream(0, "draw"), facts, 0)
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        what = f"nano/V{VOCABULARY}/threads{torch.get_num_threads()}/{dtype}"
        rows += [
            ratio(
                f"vocabulary/fast over plain/{what}",
                partial(_fast, model, full, dtype),
                partial(_plain, model, full, dtype),
                pairs=pairs,
            ),
            ratio(
                f"vocabulary/sampled {SAMPLES}+{TARGETS} over full/{what}",
                partial(_fast, model, drawn, dtype),
                partial(_fast, model, full, dtype),
                pairs=pairs,
            ),
        ]
    return rows


def _fast(model: Generalist, candidates: Candidates, dtype: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        represent_candidates(model, candidates).sum().backward()


def _plain(model: Generalist, candidates: Candidates, dtype: torch.dtype) -> None:
    ids = flat(candidates.sequences).ids_BN
    assert ids is not None
    masked = changed(candidates.sequences, valid_BN=torch.ones_like(ids, dtype=torch.bool))
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        encoded = model.encode(masked)
        torch.nn.functional.normalize(model.represent(encoded.x_BND[:, 0]).float(), dim=-1).sum().backward()


if __name__ == "__main__":
    main(measure)
