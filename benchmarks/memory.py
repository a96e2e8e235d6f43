"""Peak memory of a training step per size and batch, and what activation checkpointing trades for it."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch

from benchmarks.harness import QUICK_PAIRS, BenchmarkRow, figure, main, ratio
from benchmarks.moe_parts import Shape, Training
from benchmarks.peak import peak_bytes
from uniperceiver.model.sizes import SIZES

MB = 1e6
FEW = 3  # pairs of the sizes whose steps take many seconds, and of the quick form


@dataclass(frozen=True, kw_only=True)
class Case:
    """A stack that is trained on sequences of 197 tokens."""

    name: str
    shape: Shape
    condition: str = "shared"
    slow: bool = False


def _case(size: str, condition: str = "shared") -> Case:
    sizes = SIZES[size]
    shape = Shape(width=sizes.width, layers=sizes.layers, heads=sizes.heads)
    return Case(name=size, shape=shape, condition=condition, slow=shape.width > 200)


CASES = (
    *(_case(size) for size in ("nano", "tiny", "small", "base")),
    _case("tiny", "attribute"),
    _case("tiny", "token"),
)


def measure(pairs: int, cases: Iterable[Case] = CASES, batches: tuple[int, ...] = (8, 32)) -> list[BenchmarkRow]:
    """Peak memory with all activations kept and with each layer computed again, and the time of one over the other."""
    rows: list[BenchmarkRow] = []
    quick = pairs <= QUICK_PAIRS
    for case in cases:
        if case.slow and quick:
            continue
        largest = 0
        for batch in batches[:1] if quick and case.condition != "shared" else batches:
            if largest * batch / batches[0] > _room():
                break
            measured = _rows(case, batch, min(pairs, FEW) if case.slow or quick else pairs)
            largest = largest or round(measured[0].value * MB)
            rows += measured
    return rows


def _rows(case: Case, batch: int, pairs: int) -> list[BenchmarkRow]:
    tokens = case.shape.tokens(batch, rows=1)
    what = f"{case.name}/batch{batch}/threads{torch.get_num_threads()}/{case.condition}"
    training = Training(case.shape.encoder(condition=case.condition), tokens)
    kept, again = (peak(training, recompute=recompute) / MB for recompute in (False, True))
    return [
        figure(f"memory/all kept/{what}", [kept], "MB"),
        figure(f"memory/recomputed/{what}", [again], "MB"),
        ratio(
            f"memory/time, recomputed over all kept/{what}",
            partial(step, training, recompute=True),
            partial(step, training, recompute=False),
            pairs=pairs,
        ),
    ]


def step(training: Training, *, recompute: bool) -> None:
    """Forward, backward, AdamW."""
    training.encoder.recompute = recompute
    training.step()


def peak(training: Training, *, recompute: bool) -> int:
    """Bytes at the worst moment of a step."""
    step(training, recompute=recompute)  # the first one makes the moments
    return peak_bytes(training, partial(step, training, recompute=recompute))


def _room() -> float:
    """Bytes of memory that may be asked for."""
    return 0.8 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    main(measure)
