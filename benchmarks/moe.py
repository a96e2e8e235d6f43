"""Conditional experts against our dense layers: what routing, merging and dispatching cost."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch

from benchmarks.harness import BenchmarkRow, main, ratio
from benchmarks.moe_memory import peak_memory
from benchmarks.moe_parts import HalfBlock, Shape, Training, encode

Runs = tuple[Callable[[], object], Callable[[], object]]  # ours and the baseline
Settings = dict[str, str]  # of a recipe's `moe` section
Case = tuple[str, Callable[[], Runs], float | None]  # what is measured, what makes its runs, the goal

ROWS = {1: "one row", 2: "two rows"}


@dataclass(frozen=True, kw_only=True)
class Scale:
    """What is measured: a whole encoder, and FFNs of several widths."""

    stack: Shape
    batches: tuple[int, ...]
    widths: tuple[int, int]
    threads: tuple[int, ...]


TI = Scale(stack=Shape(width=192, layers=12, heads=3), batches=(8, 32), widths=(768, 192), threads=(1, 2))


def measure(pairs: int, scale: Scale = TI) -> list[BenchmarkRow]:
    """Time with experts over that of the dense model, and the peak memory of training."""
    before, measured = torch.get_num_threads(), list[BenchmarkRow]()
    for threads in scale.threads:
        torch.set_num_threads(threads)
        for name, prepare, goal in (*_attribute(scale), *_token(scale), *_context(scale)):
            name = f"moe/{name}".replace("/threads/", f"/threads{threads}/")
            measured.append(ratio(name, *prepare(), goal=goal, pairs=pairs))
    torch.set_num_threads(before)
    return measured + [peak_memory(scale.stack, scale.batches[0], rows=rows) for rows in ROWS]


def _attribute(scale: Scale) -> Iterator[Case]:
    """A whole encoder, all layers: trained, and merged."""
    goals = {(8, 1): 1.08, (8, 2): 1.15, (32, 1): 1.04, (32, 2): 1.08}
    for batch in scale.batches:
        for rows, what in ROWS.items():
            size = f"Ti/batch{batch}/threads/{what}"
            goal = goals.get((batch, rows))
            yield f"attribute train/{size}", partial(_trained, scale.stack, batch, rows), goal
            yield f"attribute infer/{size}", partial(_inferred, scale.stack, batch, rows, merged=False), None
            yield f"attribute merged infer/{size}", partial(_inferred, scale.stack, batch, rows, merged=True), 1.01


def _trained(shape: Shape, batch: int, rows: int) -> Runs:
    tokens = shape.tokens(batch, rows=rows)
    experts, dense = (Training(shape.encoder(condition=condition), tokens) for condition in ("attribute", "shared"))
    return experts.step, dense.step


def _inferred(shape: Shape, batch: int, rows: int, *, merged: bool) -> Runs:
    tokens = shape.tokens(batch, rows=rows)
    encoder = shape.encoder(condition="attribute", merged_for=tokens.segments if merged else ())
    return partial(encode, encoder, tokens), partial(encode, shape.encoder(condition="shared"), tokens)


def _token(scale: Scale) -> Iterator[Case]:
    """An FFN alone, each token with 2 of 8 experts; twice the operations of a dense FFN."""
    wide, narrow = scale.widths
    experts = {"linear": "expert linears", "ffn": "expert FFNs"}
    for width, level, train, infer in (
        (wide, "linear", 2.3, 2.2),
        (narrow, "linear", 3.0, 3.0),
        (wide, "ffn", 2.15, 2.05),
    ):
        for what, goal in (("train", train), ("infer", infer)):
            token, dense = {"condition": "token", "level": level}, {"condition": "shared"}
            prepare = partial(_half_blocks, scale.stack, width, what, token, dense)
            yield f"token {what}/FFN {width}/batch8/threads/{experts[level]}", prepare, goal


def _context(scale: Scale) -> Iterator[Case]:
    """An FFN alone: what pooling the context adds."""
    for width in scale.widths:
        for what in ("train", "infer"):
            context, token = {"condition": "context"}, {"condition": "token"}
            prepare = partial(_half_blocks, scale.stack, width, what, context, token)
            yield f"context over token {what}/FFN {width}/batch8/threads/expert linears", prepare, 1.05


def _half_blocks(stack: Shape, width: int, what: str, settings: Settings, baseline: Settings) -> Runs:
    shape = replace(stack, width=width, heads=max(1, width // 64))
    measured, reference = (getattr(HalfBlock(shape, **chosen), what) for chosen in (settings, baseline))
    return measured, reference


if __name__ == "__main__":
    main(measure)
