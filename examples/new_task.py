"""A new task over two modalities, in one line: a picture and a question in, the most likely answer out.

No new parameter and no branch: the answer is read at {answer}, an <SPE> inside the text, and compared with the labels.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from uniperceiver import Task, load
from uniperceiver.commands.recipe import TaskData
from uniperceiver.commands.run import prepare_run
from uniperceiver.config import EvaluationConfig, LogConfig, ModelConfig, OptimiserConfig, Recipe, TaskConfig
from uniperceiver.data.scenes import COLOURS
from uniperceiver.data.sources.scenes import ScenesSource
from uniperceiver.data.view import View
from uniperceiver.records import Sample

ANSWERS = ("no", "yes", *COLOURS)
TASK = Task(name="questions", inputs=("image", "text"), candidates="labels", read_at="masked", temperature="downstream", template="{text} {answer}", labels=tuple((word,) for word in ANSWERS))  # noqa: E501  # fmt: skip


@dataclass(frozen=True)
class Questions:
    """Two questions about each generated scene; a data set is whatever has classes, a length, `read` and `texts`."""

    scenes: ScenesSource
    classes = TASK.labels

    def __len__(self) -> int:
        return 2 * len(self.scenes)

    def read(self, index: int) -> Sample:
        sample, thing = self.scenes.read(index // 2), self.scenes.scene(index // 2).things[0]
        if index % 2:
            return replace(sample, text="what colour is it ?", label=ANSWERS.index(thing.colour))
        return replace(sample, text="is it large ?", label=ANSWERS.index("yes" if thing.size == "large" else "no"))

    def texts(self) -> Iterator[str]:
        yield from ("what colour is it ?", "is it large ?", *ANSWERS)


def main(folder: Path, steps: int = 180) -> None:
    config, model = TaskConfig(kind=TASK.name, batch=32), ModelConfig(width=64, layers=2, heads=4, vocabulary=300)
    recipe = Recipe(steps=steps, tasks={TASK.name: config}, model=model, optimiser=OptimiserConfig(lr=0.003, warmup=20),
                    evaluation=EvaluationConfig(every=60), log=LogConfig(tensorboard=False))  # fmt: skip
    scenes = {split: ScenesSource(items=5000, pixels=32, objects=1, split=split) for split in ("train", "val")}
    sources = {split: Questions(each) for split, each in scenes.items()}
    data = TaskData(task=TASK, index=0, config=config, sources=sources, view=View(size=32, length=16))
    prepare_run(recipe, Path(), folder, tasks=[data]).train()
    trained = load(folder)
    for sample in map(sources["val"].read, range(4)):
        row = trained.classify(sample.image, task=TASK.name, texts=sample.text)[0]
        print(f"{sample.captions[0]}: {sample.text} {ANSWERS[int(row.argmax())]} ({float(row.max()):.2f})")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/questions"))
