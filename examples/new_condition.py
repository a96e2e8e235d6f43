"""A routing condition of one's own: experts for what is asked and experts for what may be answered.

One function and one line of the table. A model that was trained with it is loaded where this file is imported."""

import sys
from pathlib import Path

import uniperceiver as up
from uniperceiver.data.scenes.source import ScenesSource
from uniperceiver.moe.conditions import CONDITIONS, Code, OfSegment
from uniperceiver.moe.settings import MoE
from uniperceiver.records import Segment


def side(segment: Segment, settings: MoE) -> Code:
    """A segment's code, of which R(x) is a learned embedding: inputs have one, candidates the other."""
    return (float(segment.facts.side == "input"), float(segment.facts.side == "candidate"))


CONDITIONS["side"] = OfSegment(code=side)  # OfValues(represent=...) for one that looks at the tokens themselves


def task(kind: str, label: str = "none") -> up.TaskConfig:
    source = {"format": "scenes", "items": 2000, "pixels": 32, "objects": 1, "label": label}
    return up.TaskConfig(kind=kind, train=source, val={**source, "items": 100, "split": "val"}, size=32, length=16)


def main(folder: Path, steps: int = 200) -> None:
    tasks = {"colours": task("image_classification", "colour"), "captions": task("image_captioning")}
    recipe = up.Recipe(tasks=tasks, steps=steps, moe=up.MoEConfig(condition="side", experts=4, k=2),
                       evaluation=up.EvaluationConfig(every=100, limit=50, train_limit=50),
                       log=up.LogConfig(tensorboard=False), optimiser=up.OptimiserConfig(lr=0.002, warmup=20),
                       model=up.ModelConfig(width=64, layers=2, heads=4, vocabulary=300, layer_scale=0.3))  # fmt: skip
    model = up.train(recipe, folder).load()
    merged = model.merge()  # a code reads no values, so the experts become plain weights: here one set for each side
    names = [texts[0] for texts in model.saved.tasks["colours"].task.labels]
    for sample in map(ScenesSource(items=4, pixels=32, objects=1, split="test").read, range(4)):
        likeliest, again = (int(each.classify(sample.image, task="colours").argmax()) for each in (model, merged))
        print(f"{sample.captions[0]}: {names[likeliest]}, merged {names[again]}: {merged.caption(sample.image)[0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/sides"))
