"""Conditional experts against our dense layers: what routing, merging and dispatching cost."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from benchmarks.harness import Row, main, ratio
from benchmarks.moe_parts import (
    Sizes,
    Training,
    captions,
    dense_stack,
    feed_forward,
    images,
    infer,
    learn,
    stack,
)

TI = Sizes(width=192, layers=12, heads=3)
FFN_TOKENS = 8 * 197


def measure(pairs: int) -> list[Row]:
    """Time against the dense model, for 1 and 2 threads."""
    return measured(pairs, threads=(1, 2))


def measured(pairs: int, *, threads: Sequence[int], only: str = "") -> list[Row]:
    """The rows whose name contains `only`."""
    found = []
    before = torch.get_num_threads()
    for each in threads:
        torch.set_num_threads(each)
        for name, prepare, goal in (*_attribute(each), *_token(each)):
            if only in name:
                ours, baseline = prepare()
                found.append(ratio(name, ours, baseline, goal=goal, pairs=pairs))
                print(
                    found[-1].name,
                    "%.3f" % found[-1].value,
                    "%.3f %.3f" % (found[-1].low, found[-1].high),
                    goal,
                    flush=True,
                )
    torch.set_num_threads(before)
    return found


Runs = tuple[Callable[[], object], Callable[[], object]]  # ours and the baseline
Variant = tuple[str, Callable[[], Runs], float]  # name, what makes the runs, goal


def _attribute(threads: int) -> Iterator[Variant]:
    for batch, goals in ((8, (1.08, 1.15)), (32, (1.04, 1.08))):
        for (what, tokens), goal in zip((("one row", images), ("two rows", captions)), goals, strict=True):
            name = f"Ti/batch{batch}/threads{threads}/{what}"
            yield f"moe/attribute train/{name}", partial(_attribute_runs, tokens(TI, batch)), goal


def _attribute_runs(tokens: object) -> Runs:
    ours, baseline = Training(stack(TI, condition="attribute")), Training(dense_stack(TI))
    return partial(ours.step, tokens), partial(baseline.step, tokens)


def _token(threads: int) -> Iterator[Variant]:
    for width, level, goals in ((768, "linear", (2.3, 2.2)), (192, "linear", (3.0, 3.0)), (768, "ffn", (2.15, 2.05))):
        for what, run, goal in zip(("train", "infer"), (learn, infer), goals, strict=True):
            name = f"moe/token {what}/FFN {width}/tokens{FFN_TOKENS}/threads{threads}/{level}"
            yield name, partial(_ffn_runs, width, "token", level, run), goal
    for width in (768, 192):
        for what, run in (("train", learn), ("infer", infer)):
            name = f"moe/context over token {what}/FFN {width}/tokens{FFN_TOKENS}/threads{threads}/linear"
            yield name, partial(_context_runs, width, run), 1.05


def _ffn_runs(width: int, condition: str, level: str, run: Callable[..., object]) -> Runs:
    ours = feed_forward(width, condition=condition, level=level)
    baseline = feed_forward(width, condition="shared")
    return partial(run, *ours), partial(run, *baseline)


def _context_runs(width: int, run: Callable[..., object]) -> Runs:
    return partial(run, *feed_forward(width, condition="context")), partial(
        run, *feed_forward(width, condition="token")
    )


if __name__ == "__main__":
    main(measure)
