"""Experts that choose their tokens: among those of a sequence or a batch, with answers served or read as a mean.

    python -m benchmarks.expert_choice --seeds 3 --steps 120

Small models learn the shape and colour of pictures; all arms of a seed take the same batches in turns, step by step.
For each arm: the loss of fresh pictures, assignments of a token (a dense FFN has one), the share of `<SPE>` that no
expert computed, both for pictures and for texts of classes, and the processor time of a step over that of the first.
"""

import argparse
import time
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from uniperceiver.config import AugmentConfig
from uniperceiver.data.batch import collate, prepare
from uniperceiver.data.media.preprocess import Preprocess
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.model.architecture import Architecture
from uniperceiver.model.build import build
from uniperceiver.model.model import Generalist
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Batch, Decision
from uniperceiver.streams import numpy_stream, torch_stream
from uniperceiver.tasks.ask import answer, loss_terms
from uniperceiver.tasks.candidates import Candidates, TextCodec, label_candidates
from uniperceiver.tasks.catalogue import CATALOGUE
from uniperceiver.tasks.task import TEMPERATURES, Task
from uniperceiver.tokenizers import bpe

EXPERTS = MoE(
    condition="expert_choice", experts=16, k=1, ffn_layers=(1, 2), level="ffn", renormalise=False, noise=1.0
)  # fmt: skip
ARMS: dict[str, tuple[MoE | None, str]] = {
    "sequence": (EXPERTS, "answer"),
    "sequence, served": (replace(EXPERTS, serve_answer=True), "answer"),
    "sequence, mean": (EXPERTS, "mean"),
    "batch": (replace(EXPERTS, group="batch"), "answer"),
    "batch, served": (replace(EXPERTS, group="batch", serve_answer=True), "answer"),
    "batch, mean": (replace(EXPERTS, group="batch"), "mean"),
    "dense": (None, "answer"),
}
_SIZE, _PATCH, _WIDTH = 48, 8, 64


@dataclass(kw_only=True)
class Arm:
    """A model that learns, and what it took."""

    model: Generalist
    optimiser: torch.optim.Optimizer
    seconds: list[float] = field(default_factory=list)

    def step(self, task: Task, batch: Batch, candidates: Candidates, stream: torch.Generator) -> None:
        """One update; the processor's time is kept."""
        begin = time.process_time()
        self.optimiser.zero_grad()
        found = answer(self.model, task, batch, candidates, stream)
        loss = sum(loss_terms(task, found.logits_RK, batch.readout, candidates).values(), start=torch.zeros(()))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self.seconds.append(time.process_time() - begin)


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Figures of inputs and of candidates: assignments of a token, and the share of `<SPE>` without an expert."""

    assignments: tuple[float, float]
    unserved: tuple[float, float]


def sides(decisions: tuple[Decision, ...], sizes: tuple[int, int]) -> Sides:
    """What was decided for sequences of inputs, then of candidates, of which there are so many."""
    by_side: dict[str, list[tuple[float, float]]] = {"input": [], "candidate": []}
    for decision in decisions:
        assert decision.segment_T is not None
        side = decision.segments[0].facts.side
        valid_T, size = decision.segment_T >= 0, sizes[side == "candidate"]
        first_B = decision.chosen_TE.unflatten(0, (size, -1))[:, 0].any(dim=1)
        each = float(decision.chosen_TE.sum() / valid_T.sum()), float(1 - first_B.float().mean())
        by_side[side].append(each)
    means = [torch.tensor(figures).mean(dim=0).tolist() for figures in by_side.values()]
    return Sides(assignments=(means[0][0], means[1][0]), unserved=(means[0][1], means[1][1]))


def run(seed: int, steps: int, batch_size: int) -> dict[str, dict[str, float]]:
    """The figures of every arm with that seed."""
    source = ScenesSource(items=steps * batch_size, seed=seed, label="shape_colour", pixels=_SIZE, objects=1)
    fresh = ScenesSource(items=256, seed=seed, label="shape_colour", pixels=_SIZE, objects=1, split="val")
    task = replace(CATALOGUE["image_classification"], labels=source.classes or ())
    codec = bpe.train([text for texts in source.classes or () for text in texts], size=320, lowercase=True)
    arms = {name: _arm(codec, moe, readout, seed) for name, (moe, readout) in ARMS.items()}
    for step in range(steps):
        batch = _batch(task, source, range(step * batch_size, (step + 1) * batch_size), codec)
        candidates = label_candidates(task, codec, numpy_stream(seed, step))
        for arm in arms.values():
            arm.step(task, batch, candidates, torch_stream(seed, step))
    batch, candidates = _batch(task, fresh, range(len(fresh)), codec), label_candidates(task, codec, None)
    return {name: _figures(arm, arms["sequence"], task, batch, candidates) for name, arm in arms.items()}


def _arm(codec: bpe.TextEncoder, moe: MoE | None, readout: str, seed: int) -> Arm:
    arch = Architecture(
        width=_WIDTH, layers=3, heads=4, ffn=4 * _WIDTH, patch=_PATCH, stem="conv", max_text=32, layer_scale=0.1,
        vocabulary=codec.size, end=codec.end, answer=codec.answer, moe=moe, readout=readout,  # type: ignore[arg-type]
    )  # fmt: skip
    model = build(arch, TEMPERATURES, torch_stream(seed, "weights")).train()
    return Arm(model=model, optimiser=torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05))


def _batch(task: Task, source: ScenesSource, places: range, codec: TextCodec) -> Batch:
    view = Preprocess(size=_SIZE, frames=1, length=16)
    samples = (source.read(index) for index in places)
    items = [prepare(task, sample, view, codec, AugmentConfig(), numpy_stream(0, sample.id)) for sample in samples]
    return collate(task, items, codec)


@torch.no_grad()
def _figures(arm: Arm, first: Arm, task: Task, batch: Batch, candidates: Candidates) -> dict[str, float]:
    found = answer(arm.model.eval(), task, batch, candidates)
    loss = sum(loss_terms(task, found.logits_RK, batch.readout, candidates).values(), start=torch.zeros(()))
    accuracy = (found.logits_RK.argmax(dim=1) == batch.readout.target_R).float().mean()
    ratio = Tensor.median(torch.tensor(arm.seconds)) / Tensor.median(torch.tensor(first.seconds))
    figures = {"loss": float(loss), "accuracy": float(accuracy), "time": float(ratio)}
    if found.decisions:
        of_sides = sides(found.decisions, (len(batch.ids), candidates.sequences.size))
        for name, values in vars(of_sides).items():
            figures |= {f"{name} {side}": value for side, value in zip(("inputs", "texts"), values, strict=True)}
    return figures


def main() -> None:
    """Print a table: means over the seeds, and the standard error of the loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch", type=int, default=16)
    asked = parser.parse_args()
    runs = [run(seed, asked.steps, asked.batch) for seed in range(asked.seeds)]
    for arm in ARMS:
        rows = [figures[arm] for figures in runs]
        means = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
        deviation = torch.tensor(
            [row["loss"] - figures["sequence"]["loss"] for row, figures in zip(rows, runs, strict=True)]
        )
        error = float(deviation.std() / len(rows) ** 0.5) if len(rows) > 1 else float("nan")
        shown = ", ".join(f"{key} {value:.3f}" for key, value in means.items())
        print(f"{arm}: {shown}; loss - sequence {float(deviation.mean()):+.3f} (se {error:.3f})", flush=True)


if __name__ == "__main__":
    main()
